"""`Fleet`: the sandboxes that one file declares, as users hold them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, SandboxNotFound, VolumeNotFound, WrongState
from sandlot.fleet.executing import Execution, Tell
from sandlot.fleet.members import FleetMember, health_of, ports_of
from sandlot.fleet.output import output
from sandlot.fleet.planning import Step, plan, plan_end
from sandlot.fleet.preparing import prepare
from sandlot.fleet.problems import nearest
from sandlot.fleet.reading import default_file, read_fleet
from sandlot.fleet.spec import FleetSpec
from sandlot.fleet.state import belonging, existing, reached, wanted
from sandlot.sandbox.host import Host
from sandlot.sandbox.sandbox import Sandbox
from sandlot.state.lock import FileLock, locked

if TYPE_CHECKING:
    from sandlot.sandbox.log import LogEntry
    from sandlot.sandbox.result import ExecResult


def _silent(sandbox: str, text: str) -> None:
    pass


class Fleet:
    """The sandboxes of one Sandboxfile or compose file.

        fleet = await Fleet.from_file("Sandboxfile.yaml")
        await fleet.up()
        print(await fleet.exec("api", "cat /etc/hostname"))
        await fleet.down()

    Members are detached sandboxes named FLEET-MEMBER, replicas FLEET-MEMBER-1 and so on. What is
    known of them is in them: any program with the same file can go on.
    """

    def __init__(self, spec: FleetSpec) -> None:
        self._spec = spec

    def __repr__(self) -> str:
        return f"<Fleet {self.name!r} {', '.join(self.members)}>"

    @classmethod
    async def from_file(
        cls, path: str | os.PathLike[str] | None = None, *, name: str | None = None,
        profiles: Sequence[str] = (), variables: Mapping[str, str] | None = None,
    ) -> Fleet:  # fmt: skip
        """The fleet that a file declares; nothing is started.

        Args:
            path: of a Sandboxfile or a compose file; `Sandboxfile.yaml` or `Sandboxfile` here when
                None.
            name: of the fleet, instead of the file's `name`, or of its folder's.
            profiles: members of these are there too; `"*"` is all.
            variables: what `${NAME}` stands for; the environment, and `.env` beside the file, when
                None.

        Raises:
            SandboxfileError: the file is wrong; everything that is, with lines and columns.
            ConfigError: it cannot be read.
        """
        file = Path(path) if path is not None else default_file()
        spec = await asyncio.to_thread(
            read_fleet, file, name=name, profiles=profiles, variables=variables
        )
        return cls(spec)

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    @property
    def members(self) -> list[str]:
        """The names of its members, as the file has them."""
        return list(self._spec.members)

    @property
    def warnings(self) -> list[str]:
        """What of the file is left out, and variables that are not set; with lines and columns."""
        return [str(each) for each in self._spec.warnings]

    def config(self) -> dict[str, Any]:
        """The file with everything put in, ready for JSON; no value of a secret is in it."""
        return self._spec.config()

    def scripts(self) -> dict[str, list[str]]:
        """The names of its scripts, each with the members that have it."""
        found: dict[str, list[str]] = {}
        for name, member in self._spec.members.items():
            for script in member.model.scripts:
                found.setdefault(script, []).append(name)
        return found

    async def plan(
        self, members: Sequence[str] = (), *, recreate: bool = False, down: bool = False
    ) -> list[Step]:
        """What `up` would do now, in its order; or what `down` would.

        Each step has `action` (`create`, `start`, `recreate`, `leave`, `stop` or `remove`),
        `sandbox`, `member` and `reason`. Images are not built for it.

        Args:
            members: only these, and what they need.
            recreate: as of `up`.
            down: what `down` would do instead.

        Raises:
            NameTaken: a sandbox that is not the fleet's has the name of one of its.
        """
        if down:
            return list(await asyncio.to_thread(self._end, "remove", members))
        spec = self._only(members)
        return list(await asyncio.to_thread(self._steps, spec, recreate))

    async def up(
        self, members: Sequence[str] = (), *, build: bool = True, recreate: bool = False,
        tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """Bring it to what the file says: make what is missing, make anew what changed, remove
        what is not in the file, leave alone the rest, and wait until all is healthy.

        It may be interrupted at any moment, and run twice at once.

        Args:
            members: only these, and what they need; nothing is removed then.
            build: build images with `build:` again; steps that are as before cost nothing.
            recreate: make all of them anew.
            tell: called with the name of a sandbox and what happens to it.

        Returns:
            What was done.

        Raises:
            FleetError: a member did not come up or is unhealthy, with the reason; those that need
                it are not started, or stopped.
            SandboxError: an image cannot be built.
        """
        spec = self._only(members)
        say = tell or _silent
        async with self._alone(say):
            for member in spec.members.values():
                await prepare(member, build, say)
            steps = await asyncio.to_thread(self._steps, spec, recreate)
            await Execution(spec, say).bring_up(steps)
        return list(steps)

    async def down(
        self, members: Sequence[str] = (), *, volumes: bool = False,
        grace: float | str | None = None, tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """Stop and remove its sandboxes, dependents first.

        Args:
            members: only these.
            volumes: also its named volumes, with what is in them.
            grace: seconds, or text such as `"1m"`, until SIGKILL; each one's own when None.
            tell: as of `up`.

        Raises:
            FleetError: a sandbox could not be ended.
        """
        say = tell or _silent
        async with self._alone(say):
            steps = await asyncio.to_thread(self._end, "remove", members)
            await Execution(self._spec, say).end(steps, grace)
            if volumes and not members:
                await self._remove_volumes(say)
            if not members:
                # Whoever waits for it sees that it is another file by then.
                self._lock_path.unlink(missing_ok=True)
        return list(steps)

    async def stop(
        self, members: Sequence[str] = (), *, grace: float | str | None = None,
        tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """Stop its sandboxes, dependents first; their disks stay, and `up` starts them again.

        Args:
            members: only these.
            grace, tell: as of `down`.

        Raises:
            FleetError: a sandbox could not be stopped.
        """
        say = tell or _silent
        async with self._alone(say):
            steps = await asyncio.to_thread(self._end, "stop", members)
            await Execution(self._spec, say).end(steps, grace)
        return list(steps)

    async def restart(
        self, members: Sequence[str] = (), *, grace: float | str | None = None,
        tell: Tell | None = None,
    ) -> None:  # fmt: skip
        """Stop its sandboxes and start them again, on the same disks, in the order of their needs.

        Args:
            members: only these.
            grace, tell: as of `down`.

        Raises:
            FleetError: a member did not come up again.
        """
        await self.stop(members, grace=grace, tell=tell)
        spec = self._only(members)
        say = tell or _silent
        async with self._alone(say):
            steps = await asyncio.to_thread(self._steps, spec, False)
            # What has to be made anew or is not there is for `up`.
            there = {
                step.sandbox: step for step in steps if step.action not in ("create", "remove")
            }
            again = [
                Step(
                    action="start" if not members or step.member in members else "leave",
                    sandbox=step.sandbox, member=step.member,
                    needs={name: how for name, how in step.needs.items() if name in there},
                )
                for step in there.values()
            ]  # fmt: skip
            await Execution(spec, say).bring_up(again)

    async def ps(self) -> list[FleetMember]:
        """Its sandboxes, those of the file that are missing too; health checks are run once."""
        infos = {each.record.name: each for each in await asyncio.to_thread(belonging, self.name)}
        found = []
        for member in self._spec.members.values():
            for sandbox in member.sandboxes:
                info = infos.pop(sandbox, None)
                if info is None:
                    found.append(FleetMember(member.name, sandbox, "missing", "", member.image))
                    continue
                found.append(
                    FleetMember(
                        member.name, sandbox, info.status,
                        await health_of(member, sandbox, info.status), info.record.image,
                        ports_of(info.state.ports if info.state.running else ()),
                    )
                )  # fmt: skip
        for name, info in infos.items():
            found.append(FleetMember("", name, info.status, "", info.record.image))
        return found

    async def sandbox(self, member: str) -> Sandbox:
        """The sandbox of a member; of replicas the first. `api-2` is the second one.

        Raises:
            ConfigError: the fleet has no such member.
            WrongState: it is not there.
        """
        name = self._sandbox_name(member)
        try:
            return await Sandbox.get(name)
        except SandboxNotFound:
            raise WrongState(
                f"{member} of the fleet {self.name!r} is not there", hint="`sandlot up -d` makes it"
            ) from None

    async def exec(
        self, member: str, command: str | Sequence[str | bytes], *, timeout: float | str | None = None,
        check: bool = False,
    ) -> ExecResult:  # fmt: skip
        """Run a command in a member, as `Sandbox.exec` does.

        Args:
            command: a list is argv, a text a line for its shell.
            timeout: seconds, or text, after which it is killed.
            check: raise when it fails.

        Raises:
            ConfigError, WrongState: as of `sandbox`.
            ExecError, ProcessError: as of `Sandbox.exec`.
        """
        async with reached((await self.sandbox(member)).name) as sandbox:
            return await sandbox.exec(command, timeout=timeout, check=check)

    async def run(
        self, script: str, arguments: Sequence[str] = (), *, member: str | None = None,
        timeout: float | str | None = None, check: bool = False,
    ) -> ExecResult:  # fmt: skip
        """Run a script of the file in the member that has it.

        Args:
            script: its name under `scripts`.
            arguments: words that come after it, or where it says `"$@"`.
            member: which one, when several have the script.
            timeout, check: as of `exec`.

        Raises:
            ConfigError: no member has it, or several do.
        """
        name, words = self.script(script, arguments, member=member)
        return await self.exec(name, words, timeout=timeout, check=check)

    def script(
        self, script: str, arguments: Sequence[str] = (), *, member: str | None = None
    ) -> tuple[str, list[str]]:
        """The member that has a script, and the command to run in it.

        Raises:
            ConfigError: no member has it, or several do.
        """
        having = self.scripts().get(script, [])
        if member is not None:
            self._sandbox_name(member)
            base = member if member in self._spec.members else member.rpartition("-")[0]
            having = [base] if base in having else []
        if not having:
            of = f"{member} of the fleet" if member else "the fleet"
            raise ConfigError(
                f"{of} has no script {script!r}", hint=nearest(script, self.scripts())
            )
        if len(having) > 1:
            raise ConfigError(
                f"several have a script {script!r}: {', '.join(having)}",
                hint=f"name one: --in {having[0]}",
            )
        line = self._spec.members[having[0]].model.scripts[script]
        if arguments and not any(each in line for each in ("$@", "$*", "$1")):
            line += ' "$@"'
        words = (
            ["/bin/sh", "-c", line, script, *arguments] if arguments else ["/bin/sh", "-c", line]
        )
        return member or having[0], words

    async def logs(
        self, members: Sequence[str] = (), *, follow: bool = False, tail: int | None = None,
        since: float = 0.0,
    ) -> AsyncGenerator[tuple[str, LogEntry], None]:  # fmt: skip
        """What the commands of its members said: the sandbox's name, and a piece of output.

        What is there comes in the order of time.

        Args:
            members: only these.
            follow: go on until all have stopped.
            tail: only the last lines of each.
            since: seconds since 1970 from which on.
        """
        names = [
            each for name in self._named(members) for each in self._spec.members[name].sandboxes
        ]
        async for name, entry in output(names, follow=follow, tail=tail, since=since):
            yield name, entry

    async def _watch(self, members: Sequence[str], tell: Tell) -> None:
        """Check the health of members until this is cancelled; see watching.py."""
        from sandlot.fleet.watching import watch

        await watch(self._only(members), tell, lambda names: self.stop(names, tell=tell))

    def _named(self, members: Sequence[str]) -> list[str]:
        for name in members:
            if name not in self._spec.members:
                raise ConfigError(
                    f"the fleet {self.name!r} has no member {name!r}",
                    hint=nearest(name, {*self._spec.members, *self._spec.others}),
                )
        return [name for name in self._spec.members if not members or name in members]

    def _only(self, members: Sequence[str]) -> FleetSpec:
        self._named(members)
        return self._spec.only(tuple(members)) if members else self._spec

    def _sandbox_name(self, member: str) -> str:
        found = self._spec.members.get(member)
        if found is not None and found.sandboxes:
            return found.sandboxes[0]
        for each in self._spec.members.values():
            for name in each.sandboxes:
                if name in (member, f"{self.name}-{member}"):
                    return name
        self._named([member])
        raise ConfigError(f"{member} has no replicas")

    def _steps(self, spec: FleetSpec, recreate: bool) -> tuple[Step, ...]:
        there = existing(spec)
        if spec is not self._spec:  # only some were named: the rest is nobody's business
            there = [each for each in there if each.member in spec.members]
        return plan(wanted(spec), there, keep=spec.others, recreate=recreate)

    def _end(self, action: Any, members: Sequence[str]) -> tuple[Step, ...]:
        self._named(members)
        there = [
            each for each in existing(self._spec, refuse=False) if not members or each.member in members
        ]  # fmt: skip
        return plan_end(wanted(self._spec), there, action)

    @property
    def _lock_path(self) -> Path:
        return Host.current().paths.fleets / f"{self.name}.lock"

    @contextlib.asynccontextmanager
    async def _alone(self, say: Tell) -> AsyncIterator[None]:
        path = self._lock_path
        held = FileLock.take(path)
        if held is None:
            say(self.name, "another program changes this fleet; waiting for it")
            async with locked(path):
                yield
            return
        try:
            yield
        finally:
            held.release()

    async def _remove_volumes(self, say: Tell) -> None:
        from sandlot.volume.volume import Volume

        for each in self._spec.volumes.values():
            if each.model.external:
                continue
            with contextlib.suppress(VolumeNotFound):
                await (await Volume.get(each.name)).remove()
                say(each.name, "volume removed")
