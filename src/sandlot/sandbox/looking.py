"""What a sandbox is and how it fares: the part of `Sandbox` that only looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from sandlot.engine.base import MachineStats
from sandlot.errors import SandboxError, SandboxNotFound, StateError, WrongState
from sandlot.guest.session import GuestSession
from sandlot.sandbox.door import connect, door_path
from sandlot.sandbox.ending import not_running
from sandlot.sandbox.host import Host
from sandlot.sandbox.job import Job
from sandlot.sandbox.lazy import LAZY
from sandlot.sandbox.listing import SandboxInfo
from sandlot.sandbox.log import LIMIT as OUTPUT_LIMIT
from sandlot.sandbox.log import LogEntry, Tail, follow_log, read_log
from sandlot.sandbox.metrics import Metrics, combine
from sandlot.state.events import Event
from sandlot.state.lock import FileLock
from sandlot.state.records import SandboxFolder, SandboxRecord

if TYPE_CHECKING:
    from sandlot.files.files import Files
    from sandlot.filesystem.base import FileSystem
    from sandlot.network.hooks import Hooks
    from sandlot.network.tls.authority import Authority
    from sandlot.sandbox.mounting import SandboxVolumes
    from sandlot.sandbox.network import SandboxNetwork
    from sandlot.sandbox.owner import Owner
    from sandlot.secrets import Secret


async def _let_others(number: int) -> None:
    """A log may be long, and be read by who wants to keep this program busy."""
    if not number % 64:
        await asyncio.sleep(0)


class Looking:
    """Base of `Sandbox`: its record, and the way to its machine, wherever that runs."""

    def __init__(self, host: Host, folder: SandboxFolder, record: SandboxRecord) -> None:
        self._host = host
        self._folder = folder
        self._record = record
        self._owner: Owner | None = None
        self._lock: FileLock | None = None  # of a new sandbox that is about to be started
        self._remote: GuestSession | None = None
        self._hooks: Hooks | None = None
        self._plugins: tuple[object, ...] = ()
        self._secrets: dict[str, Secret] = {}
        self._objects: dict[str, FileSystem] = {}
        self._lineage: Authority | None = None
        self._known: tuple[int, ...] | None = None  # its record's file, when it was last looked at

    def __repr__(self) -> str:
        """Short, without its environment."""
        try:
            status = self.status if self._folder.path.exists() else "removed"
        except (SandboxError, OSError):
            status = "unreadable"
        return f"<Sandbox {self.name!r} {self.id} image={self.image!r} {status}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that no other sandbox has."""
        return self._record.id

    @property
    def image(self) -> str:
        """The image it was made from."""
        return self._record.image

    @property
    def folder(self) -> SandboxFolder:
        """Where it lies on disk."""
        return self._folder

    @property
    def record(self) -> SandboxRecord:
        """All that it was made with."""
        return self._record

    @property
    def files(self) -> Files:
        """Its files: read, write, list, watch, upload, download."""
        from sandlot.files.files import Files

        return Files(self._session, workdir=self._record.workdir, user=self._record.user)

    @property
    def network(self) -> SandboxNetwork:
        """What it reached and may reach: `flows()`, `update(...)`."""
        from sandlot.sandbox.network import SandboxNetwork

        return SandboxNetwork(self._folder, self._owner, self._session)

    @property
    def volumes(self) -> SandboxVolumes:
        """What is mounted in it: `list()`, `mount(...)`, `unmount(...)`."""
        from sandlot.sandbox.mounting import SandboxVolumes

        return SandboxVolumes(self._folder, self._owner, self._session, self._objects)

    @property
    def ports(self) -> dict[int, int]:
        """The published ports while it runs: the host's to the sandbox's."""
        return {each["host_port"]: each["port"] for each in self.published}

    @property
    def published(self) -> list[dict[str, Any]]:
        """The published ports while it runs, with `address`, `host_port`, `port`, `protocol`."""
        return list(self._folder.run_state().ports)

    def _is_there(self) -> bool:
        """Whether it exists, under its name; that may have become another one's."""
        try:
            return self._folder.record().id == self.id
        except SandboxNotFound:
            return False
        except StateError:
            return True

    def info(self) -> SandboxInfo:
        """What it was made with, and whether it runs."""
        return SandboxInfo(self._record, self._folder.run_state())

    @property
    def status(self) -> str:
        """`created`, `starting`, `running`, `paused`, `hibernated`, `restarting` or `stopped`."""
        if self._owner is not None:
            if not self._owner.alive:
                return "stopped"
            if self._owner.asleep:
                return "hibernated"
            return "paused" if self._owner.paused else "running"
        return self.info().status

    def inspect(self) -> dict[str, Any]:
        """All that is known of it, ready for JSON: record, state, every limit, files.

        Times are ISO 8601 in UTC, None for what has not been; durations are in seconds.
        """
        info = self.info()
        record, state = info.to_json()
        limits = {
            name: record.pop(name)
            for name in ("memory", "cpus", "disk", "pids", "idle_timeout", "idle_action",
                         "max_duration", "stop_signal", "stop_grace", "restart")
        }  # fmt: skip
        limits["output_kept"] = 2 * OUTPUT_LIMIT
        return {
            **record, "status": info.status, "limits": limits,
            "state": state, "whole": not (self._folder.path / LAZY).exists(),
            "files": {
                "folder": str(self._folder.path), "disk": str(self._folder.disk),
                "output": str(self._folder.log), "console": str(self._folder.console),
            },
        }  # fmt: skip

    async def metrics(self) -> Metrics:
        """What it uses, as its guest sees it and as the host does; from any program.

        Raises:
            WrongState: it does not run.
        """
        measured = await (await self._session()).metrics()
        return combine(measured, self._record, self._folder.run_state(), self._folder)

    async def logs(
        self, *, follow: bool = False, since: float = 0.0, tail: int | None = None,
        console: bool = False,
    ) -> AsyncGenerator[LogEntry, None]:  # fmt: skip
        """What its main command said, as far as it is kept (the newest 16 to 32 MiB).

        Args:
            follow: go on until it stops.
            since: seconds since 1970 from which on.
            tail: only the last lines of what is there.
            console: what the kernel's console said instead.
        """
        path = self._folder.console if console else self._folder.log
        seen = count()
        there = self._is_there
        if tail is not None:
            last = Tail(tail)
            for entry in read_log(path, since=since, still=there):
                await _let_others(next(seen))
                last.count(entry)
            now = time.time()
            for entry in islice(read_log(path, since=since, still=there), last.entries):
                await _let_others(next(seen))
                if (cut := last.cut(entry)) is not None:
                    yield cut
            since = max(since, now)
        if not follow:
            for entry in () if tail is not None else read_log(path, since=since, still=there):
                await _let_others(next(seen))
                yield entry
            return
        running = True
        for piece in follow_log(path, since=since, still=there):
            await _let_others(next(seen))
            if piece is not None:
                yield piece
            elif not running:
                return
            else:
                await asyncio.sleep(0.1)
                running = there() and self._folder.run_state().running

    @classmethod
    async def events(
        cls, *, since: float = 0.0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """What happened to all sandboxes of this user, and with `follow` what happens.

        Args:
            since: seconds since 1970 from which on.
        """
        log = Host.current().sandboxes.events
        for event in log.follow(since=since) if follow else log.read(since=since):
            if event is None:
                await asyncio.sleep(0.1)
            else:
                yield event

    def note_exit(self, code: int, signal: int | None = None, *, oom: bool = False) -> None:
        """Write down how the main command that this program ran in it has ended."""
        if self._owner is not None:
            self._owner.note_exit(code, signal, oom=oom)
        else:
            self._folder.update_run_state(exit_code=code, oom=oom)

    def stats(self) -> MachineStats:
        """What the machine uses on the host; only where this program runs it.

        Raises:
            WrongState: it does not run here.
        """
        owned = self._owner.owned if self._owner is not None and self._owner.alive else None
        if owned is None:
            raise WrongState(f"sandbox {self.name!r} does not run in this program")
        return owned.machine.stats()

    async def _session(self) -> GuestSession:
        session = await self._find_session()
        if session is None:
            raise self._not_running()
        return session

    def _not_running(self, hint: str = "") -> WrongState:
        record = self._folder.record()  # says so when it is gone altogether
        return not_running(record, self._folder.run_state(), hint)

    async def _find_session(self) -> GuestSession | None:
        if self._owner is not None:
            return await self._owner.session()
        if self._remote is not None and self._remote.channel.error is None:
            return self._remote
        path = door_path(self._host.paths.sockets, self.id)
        self._remote = await connect(path, self.name)
        return self._remote

    def _let_go(self) -> None:
        """Close the connection to the program that runs it; it is made again when it is needed."""
        if self._remote is not None:
            self._remote.channel.close()
            self._remote = None

    async def main_job(self) -> Job:
        """The command that a detached sandbox was made with, as a job.

        Raises:
            WrongState: it has none, or the sandbox does not run.
        """
        session = await self._session()
        main = self._folder.run_state().main
        found = [job for job in await session.jobs() if job.process == main]
        if not found:
            raise WrongState(
                f"sandbox {self.name!r} has no main command that is known",
                hint=f"`sandlot jobs {self.name}` lists its jobs, and `sandlot exec -d` starts one",
            )
        return Job(self._session, found[0])
