"""The part of `Sandbox` that saves its machine and makes others from it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError
from sandlot.sandbox.arguments import flag
from sandlot.sandbox.door import ask_to_save
from sandlot.sandbox.lazy import Fetching
from sandlot.sandbox.life import Life

if TYPE_CHECKING:
    from sandlot.network.hooks import Hooks
    from sandlot.network.policy import Network
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed
    from sandlot.sandbox.capture import Captured
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.restoring import Changes, Origin
    from sandlot.sandbox.sandbox import Sandbox, SandboxCreation
    from sandlot.sandbox.secrecy import Grants
    from sandlot.sandbox.snapshots import Snapshot
    from sandlot.snapshot.store import SnapshotFolder

MOST_FORKS = 1000


class Branching(Life):
    """Base of `Sandbox`: snapshots and forks."""

    async def snapshot(
        self, name: str | None = None, *, disk_only: bool = False, tags: Sequence[str] = ()
    ) -> Snapshot:
        """Save memory, devices and disk as they are at one moment; the sandbox runs on.

            snap = await sb.snapshot("ml-ready")
            worker = await snap.restore("w-1", env={"WORKER_ID": "1"})

        Its programs stand still for some tens of milliseconds. Works from any program.

        Args:
            name: unique among snapshots; a readable one is chosen when it is None.
            disk_only: only its disk, which is also possible when it is stopped.
            tags: other names, by which the newest that has one is found.

        Raises:
            NameTaken: another snapshot has the name.
            WrongState: it does not run, or is paused.
            ResourceError: the host's disk is full; nothing is kept then.
        """
        from sandlot.sandbox.saving import save_running, save_stopped
        from sandlot.sandbox.snapshots import Snapshot

        flag(disk_only, "disk_only")
        if self._owner is not None and self._owner.alive:
            found = await save_running(self._owner, name, memory=not disk_only, tags=tags)
            self._host.grants[found.id] = self._owner.grants()
            return Snapshot(self._host, self._host.snapshots.find(found.id))
        session = await self._find_session()
        if session is not None:
            options = {"name": name, "memory": not disk_only, "tags": list(tags)}
            async with ask_to_save(session, options) as answer:
                return Snapshot(self._host, self._host.snapshots.find(answer["id"]))
        if not disk_only:
            raise self._not_running(
                "a stopped one has no memory: save its disk with disk_only=True (--disk-only)"
            )
        if self._record.plugins:
            from sandlot.sandbox.plugged import ask_about_stopped

            await ask_about_stopped(self._folder.record(), self._plugins, name or "", tags)
        found = await save_stopped(self._host, self._folder, name, tags)
        return Snapshot(self._host, self._host.snapshots.find(found.id))

    def fork(
        self, name: str | None = None, *, env: Mapping[str, str] | None = None,
        hostname: str | None = None, network: Network | None = None, ports: object = None,
        secrets: object = None, labels: Mapping[str, str] | None = None,
        disk: int | str | None = None, detached: bool = False, hooks: Hooks | None = None,
        volumes: Mapping[str, object] | None = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
    ) -> SandboxCreation:  # fmt: skip
        """A twin: a running sandbox that goes on where this one is now. This one runs on.

        Await the result, or use it in `async with`, as with `create`. It has the same programs,
        files, network policy and secrets, its own name, host name, machine id and randomness, and
        its published ports at free ports of the host.

        Args:
            name: unique on this machine; a readable one is chosen when it is None.
            env: more variables for the commands that are started in it.
            hostname: its name when None.
            network, ports, secrets, labels: instead of this one's.
            disk: the size of its disk, which may be larger than this one's.
            volumes: instead of this one's, as in `create`; what its programs have open of others
                is no more (EIO).
            detached: let a process of its own keep it.
            hooks: asked before something is reached, instead of this one's; not for a detached one.
            plugins, plugin_processes: as in `create`, instead of this one's.

        Raises:
            Refuse: a plugin does not let it be forked, or the twin start.
            NameTaken, ConfigError, ResourceError
            WrongState: it does not run, or is paused.
        """
        from sandlot.sandbox.restoring import Changes
        from sandlot.sandbox.sandbox import SandboxCreation

        changes = Changes(
            env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
            labels=labels, disk=disk, detached=detached, volumes=volumes, plugins=plugins,
            plugin_processes=plugin_processes,
        )  # fmt: skip

        async def make() -> Sandbox:
            async with self._fork_point() as (origin, grants):
                made = await prepare_child(self._host, origin, name, changes, grants, hooks)
            return await started(made)

        return SandboxCreation(make)

    async def fork_many(
        self, count: int, *, names: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None, detached: bool = False,
    ) -> list[Sandbox]:  # fmt: skip
        """Several twins of one moment; all are there, or none.

        Args:
            count: how many, at most 1000.
            names: a name for each; readable ones are chosen when it is None.
            env: more variables for the commands that are started in them.
            detached: let processes of their own keep them.

        Raises:
            as `fork`
        """
        from sandlot.sandbox.restoring import Changes

        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_FORKS:
            raise ConfigError(
                f"count {count!r} is not a number from 1 to {MOST_FORKS}", hint="use for example 4"
            )
        if names is not None and len(set(names)) != count:
            raise ConfigError(f"{len(set(names))} different names for {count} forks")
        wanted = list(names) if names is not None else [None] * count
        return await self._twins(wanted, Changes(env=env, detached=detached))

    async def _twins(self, names: Sequence[str | None], changes: Changes) -> list[Sandbox]:
        """Twins of one moment; all are there, or none."""
        made: list[Sandbox] = []
        try:
            async with self._fork_point() as (origin, grants):
                for name in names:
                    # One after the other: at a failure those that are there are removed.
                    made += [await prepare_child(self._host, origin, name, changes, grants, None)]
            starts = [asyncio.ensure_future(each.start()) for each in made]
            try:
                await asyncio.gather(*starts)
            except BaseException:
                await asyncio.gather(*starts, return_exceptions=True)
                raise
        except BaseException:
            await asyncio.gather(*(each.remove() for each in made), return_exceptions=True)
            raise
        return made

    async def _given(self, env: Mapping[str, str]) -> None:
        """Have more variables from now on, as one that stood ready and is handed out."""
        self._record = dataclasses.replace(self._record, env={**self._record.env, **env})
        self._folder.write_record(self._record)
        if not self._record.snapshot:
            return
        from sandlot.sandbox.restoring import described

        told = json.dumps(described(self._record, env), indent=1).encode() + b"\n"
        if self._owner is not None:
            self._owner.record = self._record
            session = await self._owner.session()
            await session.thaw(
                restored=told, env={**env, "SANDLOT_RESTORED": "/run/sandlot/restored"}
            )
        else:
            await self.files.write("/run/sandlot/restored", told, mode=0o644, user="0")

    async def push(
        self, to: str | Remote | None = None, name: str | None = None, *, memory: bool = False,
        keep: int = 10, force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """Send it, as it is at this moment, to a remote, sealed for the holders of your key.

            await sb.push("s3://bucket/work")      # and elsewhere:
            there = await Sandbox.pull("s3://bucket/work#" + sb.name)

        Only what the remote has not yet is sent. A push that was cut off goes on where it was when
        it is asked for again. No value of a secret is sent.

        Args:
            to: an address, ADDRESS#NAME, the name of a remote, or a `Remote`; the default remote
                when None.
            name: what it is called there; as here when None.
            memory: its programs as they run too, for machines like this one; only its disk
                otherwise, which is also possible when it is stopped.
            keep: how many versions of the name to keep.
            force: push over what this did not come from.
            level: of the compression, from 1 to 19.
            progress: called with `push` and the fraction that is done.

        Raises:
            RemoteConflict: somebody else pushed under this name; nothing was changed.
            KeyMissing: there is no key, or it does not open the remote.
            RemoteError: the remote cannot be reached, or is full; the version before stands.
            WrongState: it has no memory because it does not run, or is paused.
        """
        from sandlot.remote.remote import target
        from sandlot.sandbox.pushing import push_sandbox

        flag(memory, "memory")
        remote, chosen = target(to, name)
        options: dict[str, Any] = {"keep": keep, "force": force, "level": level}
        if progress is not None:
            options["tell"] = progress
        async with remote.open(create=True) as repository:
            return await push_sandbox(repository, self, chosen, memory=memory, options=options)

    @classmethod
    def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        disk_only: bool = False, fallback: bool = False, lazy: bool = False, start: bool = True,
        env: Mapping[str, str] | None = None, hostname: str | None = None,
        network: Network | None = None, ports: object = None, secrets: object = None,
        labels: Mapping[str, str] | None = None, disk: int | str | None = None,
        detached: bool = False, volumes: Mapping[str, object] | None = None,
        hooks: Hooks | None = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> SandboxCreation:  # fmt: skip
        """A sandbox that goes on from what was pushed.

            async with Sandbox.pull("web@3", secrets={"KEY": (key, "api.example.com")}) as sb:
                ...

        Await the result, or use it in `async with`, as with `create`. Everything is checked. What
        this machine has already, such as the image, is not fetched. Of its policy, what opens
        private networks or this host is left out. Pull only from those whose programs you would
        run.

        Args:
            source: NAME or NAME@VERSION; ADDRESS#NAME; or an address where one sandbox is.
            name: what it is called here; as it was when None.
            remote: a `Remote`, its name or its address; the default one when None.
            disk_only: its disk alone; its programs begin anew.
            fallback: do that where the saved machine cannot go on, and tell it.
            lazy: have it running before all of its disk is here: what is read comes first, the rest
                behind it, from the remote, which is needed until then. Saving it waits for that.
            start: have it running. Otherwise it is there, stopped, and goes on when it is started.
            env, hostname, network, ports, labels, disk, detached, hooks, plugins,
            plugin_processes: as in `Snapshot.restore`.
            secrets: their values, which were not pushed, by the names that it had.
            volumes: as in `create`; those of the machine that it comes from are not here.
            progress: called with `pull` and the fraction that is done.

        Raises:
            NameTaken, ConfigError, SecretUnavailable
            RemoteNotFound: nothing was pushed under the name, or no such version.
            RemoteDamaged: what the remote gives is not what was pushed; nothing is kept.
            SnapshotMismatch: its programs cannot go on here, told before anything is fetched.
            ResourceError: there is no room.
        """
        from sandlot.sandbox.pushing import pull_sandbox
        from sandlot.sandbox.restoring import Changes
        from sandlot.sandbox.sandbox import SandboxCreation

        changes = Changes(
            env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
            labels=labels, disk=disk, detached=detached, volumes=volumes, plugins=plugins,
            plugin_processes=plugin_processes,
        )  # fmt: skip

        flag(lazy, "lazy")

        async def make() -> Sandbox:
            made = await pull_sandbox(
                source, name, remote, changes, hooks, disk_only=disk_only, fallback=fallback,
                lazy=lazy, tell=progress or (lambda stage, fraction: None),
            )  # fmt: skip
            return await started(made) if start else made

        return SandboxCreation(make)

    async def pulled(self) -> None:
        """Wait until all of it is here, if it was pulled with `lazy`. The remote is not needed any
        more then.

        Raises:
            RemoteError: it cannot be had; what is here stays, and starting it again tries again.
            WrongState: it does not run, so that nobody fetches the rest.
        """
        fetching, pause = Fetching(self._host, self._folder), 0.005
        while self._owner is None and not fetching.whole:
            fetching.refuse_failed()
            if self._lock is not None or not self._runs():
                raise self._not_running("the rest is fetched while it runs: start it")
            await asyncio.sleep(pause)  # its owner tells by removing the folder
            pause = min(pause * 1.5, 0.2)
        if self._owner is not None:
            await self._owner.fetching.completed()

    @contextlib.asynccontextmanager
    async def _fork_point(self) -> AsyncIterator[tuple[Origin, Grants]]:
        """Where twins go on, and the secrets that they are given."""
        from sandlot.sandbox.restoring import Origin
        from sandlot.sandbox.saving import fork_point
        from sandlot.sandbox.secrecy import Grants
        from sandlot.snapshot.record import MachineRecord
        from sandlot.snapshot.store import SnapshotFolder

        if self._owner is not None and self._owner.alive:
            async with fork_point(self._owner) as (folder, captured):
                record = self._owner.record
                yield (
                    Origin(folder, record, captured.layers, captured.machine, created=time.time()),
                    self._owner.grants(),
                )
            return
        session = await self._find_session()
        if session is None:
            raise self._not_running("only a running sandbox can be forked")
        async with ask_to_save(session, {"fork": True}) as answer:
            folder = SnapshotFolder(self._host.paths.snapshots / str(answer["folder"]))
            machine = MachineRecord(**answer["machine"])
            record = self._folder.record()
            yield (
                Origin(folder, record, list(answer["layers"]), machine, created=time.time()),
                Grants(),
            )

    @contextlib.asynccontextmanager
    async def _save_point(
        self, *, memory: bool, quiet: bool = False
    ) -> AsyncIterator[tuple[SnapshotFolder, Captured]]:
        """What is to be pushed: the sandbox at this moment, saved until the end of the block."""
        from sandlot.sandbox.capture import Captured
        from sandlot.sandbox.saving import fork_point, stopped_point
        from sandlot.snapshot.record import MachineRecord
        from sandlot.snapshot.store import SnapshotFolder

        if self._owner is not None and self._owner.alive:
            async with fork_point(self._owner, memory=memory, root=False, quiet=quiet) as saved:
                yield saved
            return
        session = await self._find_session()
        if session is not None:
            options = {"fork": True, "memory": memory, "root": False, "quiet": quiet}
            async with ask_to_save(session, options) as answer:
                machine = answer["machine"]
                yield (
                    SnapshotFolder(self._host.paths.snapshots / str(answer["folder"])),
                    Captured(
                        MachineRecord(**machine) if machine is not None else None,
                        list(answer["layers"]), float(answer["pause"]), int(answer["own_memory"]),
                    ),
                )  # fmt: skip
            return
        if memory:
            raise self._not_running("a stopped one has no memory: push its disk, without --memory")
        if self._record.plugins:
            from sandlot.sandbox.plugged import ask_about_stopped

            await ask_about_stopped(self._folder.record(), self._plugins, "", ())
        async with stopped_point(self._host, self._folder) as (folder, captured, _):
            yield folder, captured


async def prepare_child(
    host: Host, origin: Origin, name: str | None, changes: Changes, grants: Grants,
    hooks: Hooks | None,
) -> Sandbox:  # fmt: skip
    """A sandbox that goes on from `origin` when it is started.

    Raises:
        as `restoring.make_child`
    """
    from sandlot.sandbox.restoring import child_record, make_child
    from sandlot.sandbox.sandbox import Sandbox

    asked = hooks if hooks is not None else grants.hooks
    if asked is not None and changes.detached:
        raise ConfigError(
            "hooks cannot be called for a detached sandbox: it outlives this program",
            hint="leave detached=True out, or go without them by hooks=Hooks()",
        )
    record, given = await child_record(origin, name, changes, grants)
    folder, lock = await make_child(host, origin, record, changes.env or {})
    made = Sandbox._from_folder(host, folder, record, lock, asked, dict(given.secrets))
    made._lineage, made._objects = given.authority, dict(given.volumes)
    made._plugins = given.plugins
    return made


async def started(made: Sandbox) -> Sandbox:
    """Start a sandbox that was just made; one that does not start is removed."""
    try:
        await made.start()
    except BaseException:
        with contextlib.suppress(Exception):
            await made.remove()
        raise
    return made
