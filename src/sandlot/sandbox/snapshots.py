"""`Snapshot`: a saved sandbox, as users hold it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from sandlot.errors import SnapshotError, SnapshotNotFound, WrongState
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import list_sandboxes
from sandlot.sandbox.restoring import Changes, origin_of
from sandlot.sandbox.saving import checked_tags
from sandlot.sandbox.secrecy import Grants
from sandlot.sandbox.sizes import check_name, iso_time
from sandlot.snapshot.record import SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder
from sandlot.snapshot.usage import SnapshotUsage, usage_of

if TYPE_CHECKING:
    from sandlot.network.hooks import Hooks
    from sandlot.network.policy import Network
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed
    from sandlot.sandbox.difference import FileChange
    from sandlot.sandbox.sandbox import Sandbox, SandboxCreation


class Snapshot:
    """The saved state of a sandbox: memory, devices and disk, or its disk alone. It never changes.

        snap = await sb.snapshot("ml-ready")
        workers = [await snap.restore(env={"WORKER_ID": str(i)}) for i in range(3)]

    Made by `Sandbox.snapshot`, found by `get`.
    """

    def __init__(self, host: Host, folder: SnapshotFolder) -> None:
        self._host = host
        self._folder = folder
        self._record = folder.record()

    def __repr__(self) -> str:
        return f"<Snapshot {self.name!r} {self.id} of={self._record.sandbox!r} {self.kind}>"

    @classmethod
    async def get(cls, name: str) -> Snapshot:
        """A snapshot by name, by id, by tag, or by the unique beginning of an id; the first of
        these that there is. Of several with a tag it is the newest.

        Raises:
            SnapshotNotFound: there is none.
            SnapshotDamaged: its record cannot be read.
        """
        host = Host.current()
        return cls(host, host.snapshots.find(name))

    @classmethod
    async def list(
        cls, *, unreadable: Callable[[SnapshotError], None] | None = None
    ) -> list[Snapshot]:
        """Every snapshot of this user, by name.

        Args:
            unreadable: is told of each whose record cannot be read, which is left out.
        """
        host = Host.current()
        found = []
        for folder in host.snapshots.all():
            try:
                found.append(cls(host, folder))
            except SnapshotNotFound:
                continue  # removed at this moment
            except SnapshotError as error:
                if unreadable is not None:
                    unreadable(error)
        return found

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that no other snapshot has."""
        return self._record.id

    @property
    def kind(self) -> str:
        """`machine`, or `disk` when only the disk was saved."""
        return "machine" if self._record.machine is not None else "disk"

    @property
    def parent(self) -> str:
        """The id of the snapshot that its sandbox was restored from, or empty."""
        return self._record.parent

    @property
    def tags(self) -> Sequence[str]:
        """Its tags."""
        return tuple(self._record.tags)

    @property
    def record(self) -> SnapshotRecord:
        """All that is known of it."""
        return self._record

    @property
    def folder(self) -> SnapshotFolder:
        """Where it lies on disk."""
        return self._folder

    def usage(self) -> SnapshotUsage:
        """The space that it takes on the host's disk."""
        return usage_of(self._folder)

    def inspect(self) -> dict[str, Any]:
        """All that is known of it, ready for JSON, without the environment's values."""
        children = [child.name for child in self._host.snapshots.children(self.id)]
        return self._described(children, self.sandboxes())

    def _described(self, children: Sequence[str], sandboxes: Sequence[str]) -> dict[str, Any]:
        record, usage = self._record, self.usage()
        source = record.sandbox_record
        machine = record.machine_record
        return {
            "name": record.name, "id": record.id, "kind": self.kind,
            "created": iso_time(record.created), "sandbox": record.sandbox,
            "image": source.image, "memory": source.memory, "cpus": source.cpus,
            "disk": source.disk, "parent": record.parent or None, "tags": list(record.tags),
            "children": list(children), "sandboxes": list(sandboxes), "secrets": sorted(source.secrets),
            "env": sorted(source.env), "own": usage.own, "shared": usage.shared,
            "cached": usage.cached, "own_memory": record.own_memory, "own_disk": record.own_disk,
            "pause_seconds": round(record.pause, 4),
            "engine": machine.facts if machine is not None else None,
            "folder": str(self._folder.path),
        }  # fmt: skip

    def sandboxes(self) -> Sequence[str]:
        """The names of the sandboxes that were restored from it and are still there."""
        return [info.record.name for info in list_sandboxes() if info.record.snapshot == self.id]

    def restore(
        self, name: str | None = None, *, env: Mapping[str, str] | None = None,
        hostname: str | None = None, network: Network | None = None, ports: object = None,
        secrets: object = None, labels: Mapping[str, str] | None = None,
        disk: int | str | None = None, detached: bool = False, disk_only: bool = False,
        idle_timeout: float | str | None = None, max_duration: float | str | None = None,
        hooks: Hooks | None = None, volumes: Mapping[str, object] | None = None,
        plugins: Sequence[object] | None = None, plugin_processes: Sequence[object] | None = None,
    ) -> SandboxCreation:  # fmt: skip
        """A running sandbox that goes on exactly where it was saved.

        Await the result, or use it in `async with`, as with `Sandbox.create`. It is a machine of
        its own: name, host name, machine id, boot id, randomness and clock are set before a program
        of it runs. Memory and processors are as they were.

        Args:
            name: unique on this machine; a readable one is chosen when it is None.
            env: more variables for the commands that are started in it. Programs that run already
                find them in `/run/sandlot/restored`.
            hostname: its name when None.
            network: what it may reach; as it was when None.
            ports: published ports; those that it had, at free ports of the host, when None.
            secrets: its secrets, by the names that it had; when None, those that this program
                gave, or that can be read again where they were said to be.
            labels: as they were when None.
            disk: the size of its disk, such as `"8G"`, at least that of the saved one; its file
                system grows with it.
            detached: let a process of its own keep it.
            disk_only: its disk in a new machine that begins, rather than the programs that ran.
            idle_timeout, max_duration: as they were when None.
            volumes: as in `create`, instead of those that it had when it was saved; what its
                programs had open of others is no more (EIO).
            hooks: asked before something is reached, instead of those that this program gave.
            plugins, plugin_processes: as in `Sandbox.create`, instead of those that it had.

        Raises:
            NameTaken, ConfigError, ResourceError, SecretUnavailable, BootError
            SnapshotNotFound: it was removed.
            SnapshotDamaged: a file of it was changed or cut off; nothing was run from it.
            SnapshotMismatch: the saved machine does not fit this host, with what differs.
        """
        from sandlot.sandbox.branching import prepare_child, started
        from sandlot.sandbox.sandbox import SandboxCreation

        changes = Changes(
            env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
            labels=labels, disk=disk, detached=detached, idle_timeout=idle_timeout,
            max_duration=max_duration, volumes=volumes, plugins=plugins,
            plugin_processes=plugin_processes,
        )  # fmt: skip

        async def make() -> Sandbox:
            origin = origin_of(self._folder, disk_only=disk_only)
            grants = self._host.grants.get(self.id) or Grants()
            made = await prepare_child(self._host, origin, name, changes, grants, hooks)
            return await started(made)

        return SandboxCreation(make)

    async def diff(self, other: Snapshot) -> Sequence[FileChange]:
        """The files that differ between this snapshot and another one, by path.

            for change in await before.diff(after):
                print(change.change, change.path)

        Both are brought up for it, without a network and with their programs stopped. Times and
        extended attributes are not compared, nor what a sandbox itself writes (`/etc/hostname` and
        the like).

        Raises:
            SnapshotError: they have different images.
            SnapshotNotFound: one was removed.
            SnapshotDamaged: a file of one is not what it was.
        """
        from sandlot.sandbox.difference import difference

        return await difference(self._host, self._folder, other._folder)

    async def export(
        self, target: str | os.PathLike[str] | BinaryIO, *, level: int = 3, force: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> None:  # fmt: skip
        """Write it into one file, which `import_` reads here and on other machines.

            await snap.export("ml-ready.snapshot")

        It is an OCI image layout in a tar archive, compressed. No value of a secret is in it, and
        nothing of this host: where secrets come from, name servers, files of certificates.

        Args:
            target: a path, where the file is there whole or not at all; or a stream of bytes.
            level: of the compression, from 1 to 19.
            force: replace a file that is there already.
            progress: called with `export` and the fraction that is done.

        Raises:
            SnapshotNotFound: it was removed.
            SnapshotDamaged: a file of it is not what it was.
            ConfigError: the target is there already, and `force` is not asked.
            StateError, ResourceError: the target cannot be written.
        """
        from sandlot.sandbox.exchange import export_snapshot

        await export_snapshot(
            self._host, self._folder, target, level=level, force=force, progress=progress
        )

    @classmethod
    async def import_(
        cls, source: str | os.PathLike[str] | BinaryIO, name: str | None = None, *,
        disk_only: bool = False, progress: Callable[[str, float | None], object] | None = None,
    ) -> Snapshot:  # fmt: skip
        """Take a snapshot out of a file that `export` wrote.

            snap = await Snapshot.import_("ml-ready.snapshot", "theirs")

        Everything is checked by its digest. What is here already, such as the image, is shared. Of
        its policy, what opens private networks or this host is left out. Take files only from those
        whose programs you would run: the machine's state is read by the engine (confined).

        Args:
            source: a path, or a stream of bytes.
            name: the one that it had when None.
            disk_only: its disk alone, also where the saved machine cannot go on.
            progress: called with `import` and the fraction that is done.

        Raises:
            NameTaken, ConfigError: the name.
            SnapshotError: it is no file of a snapshot.
            SnapshotDamaged: it is cut off, was changed, or says what cannot be; nothing is kept.
            SnapshotMismatch: the saved machine does not fit this host, with what differs; found
                before anything was copied.
            StateError, ResourceError: it cannot be read, or there is no room.
        """
        from sandlot.sandbox.exchange import import_snapshot

        host = Host.current()
        made = await import_snapshot(host, source, name, disk_only=disk_only, progress=progress)
        return cls(host, made)

    async def push(
        self, to: str | Remote | None = None, name: str | None = None, *, keep: int = 10,
        force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """Send it to a remote, as `Sandbox.push` does.

            await snap.push("s3://bucket/work")

        Args:
            to: an address, ADDRESS#NAME, the name of a remote, or a `Remote`; the default remote
                when None.
            name: what it is called there; as here when None.
            keep: how many versions of the name to keep.
            force: push over what this did not come from.
            level: of the compression, from 1 to 19.
            progress: called with `push` and the fraction that is done.

        Raises:
            as `Sandbox.push`
            SnapshotNotFound, SnapshotDamaged
        """
        from sandlot.remote.remote import target
        from sandlot.sandbox.pushing import push_snapshot

        remote, chosen = target(to, name)
        options: dict[str, Any] = {"keep": keep, "force": force, "level": level}
        if progress is not None:
            options["tell"] = progress
        async with remote.open(create=True) as repository:
            return await push_snapshot(repository, self._folder, chosen, options)

    @classmethod
    async def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        disk_only: bool = False, fallback: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Snapshot:  # fmt: skip
        """Fetch one that was pushed, as `Sandbox.pull` does.

            snap = await Snapshot.pull("ml-ready@2")

        Args:
            source: NAME or NAME@VERSION; ADDRESS#NAME; or an address where one snapshot is.
            name: what it is called here; as it was when None.
            remote: a `Remote`, its name or its address; the default one when None.
            disk_only: its disk alone.
            fallback: do that where the saved machine cannot go on, and tell it.
            progress: called with `pull` and the fraction that is done.

        Raises:
            NameTaken, ConfigError
            RemoteNotFound, RemoteDamaged, SnapshotMismatch, ResourceError: as `Sandbox.pull`
        """
        from sandlot.remote.remote import origin
        from sandlot.sandbox.pushing import SNAPSHOT, fits, look, pull_snapshot

        host = Host.current()
        opened, place = origin(source, remote)
        async with opened.open() as repository:
            found = await look(repository, SNAPSHOT, place.name, place.version)
            only = await fits(host, found, disk_only=disk_only, fallback=fallback)
            made = await pull_snapshot(
                host, found, name, disk_only=only,
                tell=progress or (lambda stage, fraction: None),
            )  # fmt: skip
        return cls(host, made)

    async def remove(self, *, cascade: bool = False) -> None:
        """Remove it.

        Args:
            cascade: also the sandboxes that were restored from it, and the snapshots of those.

        Raises:
            WrongState: sandboxes or snapshots came from it, and `cascade` is not asked.
            SnapshotNotFound: it is gone already.
        """
        from sandlot.sandbox.sandbox import Sandbox

        children = self._host.snapshots.children(self.id)
        sandboxes = self.sandboxes()
        if (children or sandboxes) and not cascade:
            names = [*(f"sandbox {each}" for each in sandboxes),
                     *(f"snapshot {each.name}" for each in children)]  # fmt: skip
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise WrongState(
                f"snapshot {self.name!r} has children: {', '.join(names[:3])}{more}",
                hint="remove those first, or all of them with --cascade (cascade=True)",
            )
        for each in sandboxes:
            await (await Sandbox.get(each)).remove()
        for child in children:
            await (await Snapshot.get(child.id)).remove(cascade=True)
        self._host.snapshots.remove(self._folder)
        self._host.grants.pop(self.id, None)

    async def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            NameTaken: another snapshot has it.
        """
        self._folder = self._host.snapshots.rename(self._folder, check_name(name, "snapshot"))
        self._record = self._folder.record()

    async def set_tags(self, tags: Sequence[str]) -> None:
        """Give it these tags instead of those that it has.

        Raises:
            ConfigError: one cannot be a tag.
        """
        self._record = self._host.snapshots.change(self._folder, tags=checked_tags(tags))
