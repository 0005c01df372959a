"""`Sandbox`: one microVM, as users hold it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from sandlot.engine.base import MachineStats
from sandlot.errors import SandboxError, WrongState
from sandlot.guest.session import GuestSession
from sandlot.sandbox.door import ask_to_stop, connect, door_path, sweep_doors
from sandlot.sandbox.execution import describe, input_bytes, make_command, run_to_end
from sandlot.sandbox.host import Host
from sandlot.sandbox.keeper import start_keeper
from sandlot.sandbox.lifecycle import create_folder, start_owned
from sandlot.sandbox.options import make_record
from sandlot.sandbox.owned import OwnedMachine
from sandlot.sandbox.process import Process
from sandlot.sandbox.result import ExecResult
from sandlot.sandbox.sizes import parse_duration, parse_size
from sandlot.state.lock import FileLock
from sandlot.state.records import RunState, SandboxFolder, SandboxRecord

DEFAULT_MEMORY = "1G"
DEFAULT_DISK = "4G"
STOP_GRACE = 10.0
MAX_OUTPUT = 256 * 1024 * 1024


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as `Sandbox.list` shows it."""

    record: SandboxRecord
    state: RunState

    @property
    def status(self) -> str:
        """`created`, `starting`, `running` or `stopped`."""
        if self.state.running:
            return "running" if self.state.owner else "starting"
        return "stopped" if self.state.started else "created"


class Sandbox:
    """One microVM with its own kernel, files and processes.

        async with Sandbox.create(image="demo") as sb:
            result = await sb.exec(["python3", "-c", "print(6 * 7)"])
            print(result.text)

    Made by `create`, found by `get`. The sandbox lives in this program unless it is detached: when
    the program ends, however it ends, so does the machine; its disk stays until `remove`.
    """

    def __init__(self, host: Host, folder: SandboxFolder, record: SandboxRecord) -> None:
        self._host = host
        self._folder = folder
        self._record = record
        self._owned: OwnedMachine | None = None
        self._remote: GuestSession | None = None

    # -- making and finding ----------------------------------------------------------------

    @classmethod
    def create(
        cls, name: str | None = None, *, image: str, memory: int | str = DEFAULT_MEMORY,
        cpus: int = 1, disk: int | str = DEFAULT_DISK, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, hostname: str | None = None,
        detached: bool = False,
    ) -> SandboxCreation:  # fmt: skip
        """Make a sandbox and start it.

        Await the result for a sandbox that stays until it is removed, or use it in `async with`,
        which stops and removes it at the end.

        Args:
            name: unique on this machine; a readable one is chosen when it is None.
            image: the name of an image in the store.
            memory: bytes or text such as `"512M"`; pages cost the host only when touched.
            cpus: virtual processors.
            disk: the size of the writable disk, which is sparse on the host.
            env: added to the image's environment.
            workdir: where commands start; the image's, or `/`.
            user: `name|uid[:group|gid]`; the image's, or root.
            hostname: the name when None.
            detached: let a process of its own keep it, so that it outlives this program.

        Raises:
            ImageNotFound, NameTaken, ConfigError, ResourceError, StateError, EngineUnavailable,
            KernelUnavailable, BootError
        """

        async def make() -> Sandbox:
            made = await cls._make(
                name=name, image=image, memory=memory, cpus=cpus, disk=disk, env=env,
                workdir=workdir, user=user, hostname=hostname, detached=detached,
            )  # fmt: skip
            try:
                await made.start()
            except BaseException:
                with contextlib.suppress(SandboxError):
                    await made.remove()
                raise
            return made

        return SandboxCreation(make)

    @classmethod
    async def _make(
        cls, *, name: str | None, image: str, memory: int | str = DEFAULT_MEMORY, cpus: int = 1,
        disk: int | str = DEFAULT_DISK, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, hostname: str | None = None,
        detached: bool = False, command: Sequence[str] = (), tty: bool = False,
        auto_remove: bool = False,
    ) -> Sandbox:  # fmt: skip
        """A new sandbox that is not started yet; what the command line's `create` makes."""
        host = Host.current()
        found = host.images.get(image)
        config = found.config
        record = make_record(
            name=name, image=image, image_digest=found.digest, memory=memory, cpus=cpus, disk=disk,
            env={**config.env, **(env or {})},
            workdir=workdir if workdir is not None else config.working_dir,
            user=user if user is not None else config.user,
            hostname=hostname, command=command, tty=tty, auto_remove=auto_remove,
            detached=detached, data=host.paths.sandboxes,
        )  # fmt: skip
        folder, lock = await create_folder(host, record)
        lock.release()
        return cls(host, folder, record)

    @classmethod
    async def get(cls, name: str) -> Sandbox:
        """A sandbox that exists, by name or id, running or not.

        Raises:
            SandboxNotFound: there is none.
        """
        host = Host.current()
        folder = host.sandboxes.find(name)
        return cls(host, folder, folder.record())

    @classmethod
    async def list(cls) -> list[SandboxInfo]:
        """Every sandbox of this user, by name."""
        infos = []
        host = Host.current()
        for folder in host.sandboxes.all():
            with contextlib.suppress(SandboxError):
                infos.append(SandboxInfo(folder.record(), folder.run_state()))
        sweep_doors(host.paths.sockets, {info.record.id for info in infos})
        return infos

    # -- what it is ------------------------------------------------------------------------

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

    def info(self) -> SandboxInfo:
        """What it was made with, and whether it runs."""
        return SandboxInfo(self._record, self._folder.run_state())

    @property
    def status(self) -> str:
        """`created`, `running` or `stopped`."""
        if self._owned is not None:
            return "running" if self._owned.alive else "stopped"
        return self.info().status

    def stats(self) -> MachineStats:
        """What the machine uses on the host; only where this program runs it.

        Raises:
            WrongState: it does not run here.
        """
        if self._owned is None or not self._owned.alive:
            raise WrongState(f"sandbox {self.name!r} does not run in this program")
        return self._owned.machine.stats()

    # -- life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start a stopped sandbox: the same disk, a new machine.

        Raises:
            WrongState: it runs already.
            BootError, ImageError, EngineUnavailable: it cannot run.
        """
        if self._record.detached:
            await start_keeper(self.name)
            return
        self._owned = await start_owned(self._host, self._folder)

    async def stop(self, *, grace: float | str = STOP_GRACE, kill: bool = False) -> None:
        """End its processes (SIGTERM, after `grace` seconds SIGKILL), write its disk, end it.

        With `kill` the machine is ended at once. Stopping a stopped sandbox is allowed.
        """
        seconds = 0.0 if grace == 0 else parse_duration(grace, "grace") or 0.0
        if self._owned is not None:
            if self._owned.alive:
                await (self._owned.kill() if kill else self._owned.shutdown(seconds))
            await self._owned.ended()
            self._owned = None
            return
        session = await self._find_session()
        if session is None:
            return
        await ask_to_stop(session, grace=seconds, kill=kill)
        self._remote = None
        await self._released()

    async def _released(self) -> None:
        """Wait until the program that ran it has let go of it."""
        while (lock := FileLock.take(self._folder.lock_path)) is None:
            if not self._folder.path.exists():
                return
            await asyncio.sleep(0.005)
        lock.release()

    async def remove(self) -> None:
        """Stop it at once and remove all of it. Removing it twice is allowed."""
        await self.stop(kill=True)
        with contextlib.suppress(SandboxError):
            self._host.sandboxes.remove(self._folder)
        if self._folder.path.exists() and self._folder.run_state().running:
            raise WrongState(f"sandbox {self.name!r} is running and does not let itself be stopped")
        if self._folder.path.exists():
            shutil.rmtree(self._folder.path, ignore_errors=True)

    async def wait(self) -> None:
        """Wait until it has ended, by itself or by others."""
        if self._owned is not None:
            over = asyncio.Event()
            self._owned.on_end.append(over.set)
            if self._owned.alive:
                await over.wait()
            return
        await self._released()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.remove()

    # -- running programs ------------------------------------------------------------------

    async def exec(
        self, command: str | Sequence[str | bytes], *, stdin: bytes | str | None = None,
        timeout: float | str | None = None, check: bool = False,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, max_output: int | str = MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """Run a program to its end and return what it said.

        Cancelling the call kills everything that it started.

        Args:
            command: a list is argv; a string is a line for `/bin/sh`.
            stdin: what it reads; nothing (`/dev/null`) when None.
            timeout: seconds, or text such as `"10m"`, after which all that it started is killed.
            check: raise `ProcessError` when it fails.
            env, workdir, user: for this program only.
            limits: of setrlimit(2), such as `{"nofile": 256, "as": "1073741824:unlimited"}`.
            max_output: bytes of stdout or stderr that are kept; more is an error.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError: it cannot be started.
            ExecTimeout: it ran too long.
            ProcessError: it failed and `check` was asked, or wrote too much.
            SandboxDied, GuestProtocolError: the sandbox ended.
            WrongState: the sandbox does not run.
        """
        data = input_bytes(stdin)
        session = await self._session()
        made = make_command(
            self._record, command, env=env, workdir=workdir, user=user, limits=limits,
            stdin=data is not None, timeout=parse_duration(timeout),
        )  # fmt: skip
        name = describe(command)
        result = await run_to_end(
            session, made, stdin=data, name=name, max_output=parse_size(max_output, "max_output")
        )
        return result.check(name) if check else result

    async def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: bool = False,
    ) -> Process:  # fmt: skip
        """Start a program and return at once; its streams have back-pressure.

        Args:
            stdin: whether it gets an input; a terminal always has one.
            detached: it goes on when this program ends, as long as the sandbox runs.
            tty: give it a terminal, of (rows, columns) or 24 x 80.
            Others as in `exec`.
        """
        size = (24, 80) if tty is True else tty or None
        made = make_command(
            self._record, command, env=env, workdir=workdir, user=user, limits=limits, tty=size,
            stdin=stdin or size is not None, timeout=parse_duration(timeout), detached=detached,
        )  # fmt: skip
        return Process(await (await self._session()).start(made))

    async def _session(self) -> GuestSession:
        session = await self._find_session()
        if session is None:
            self._folder.record()  # says so when it is gone altogether
            raise WrongState(
                f"sandbox {self.name!r} is not running",
                hint=f"start it with `sandlot start {self.name}`",
            )
        return session

    async def _find_session(self) -> GuestSession | None:
        if self._owned is not None:
            error = self._owned.session.channel.error
            if error is not None and self._owned.alive:
                raise error
            if error is not None:
                await self._owned.ended()
                raise error
            return self._owned.session
        if self._remote is not None and self._remote.channel.error is None:
            return self._remote
        path = door_path(self._host.paths.sockets, self.id)
        self._remote = await connect(path, self.name)
        return self._remote


class SandboxCreation:
    """What `Sandbox.create` returns: await it, or use it in `async with`."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._sandbox: Sandbox | None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a sandbox has {name!r} only after `await` or in `async with`")

    def __await__(self) -> Generator[Any, None, Sandbox]:
        made: Generator[Any, None, Sandbox] = self._make().__await__()
        return made

    async def __aenter__(self) -> Sandbox:
        self._sandbox = await self._make()
        return self._sandbox

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._sandbox is not None:
            await self._sandbox.remove()


__all__ = ["DEFAULT_DISK", "DEFAULT_MEMORY", "Sandbox", "SandboxCreation", "SandboxInfo"]
