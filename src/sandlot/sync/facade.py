"""One-line delegations; tests/unit/sync/test_facade.py holds the signatures to the asynchronous ones."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType

from sandlot.engine.base import MachineStats
from sandlot.guest import process as guest
from sandlot.sandbox import process as asynchronous
from sandlot.sandbox import sandbox as origin
from sandlot.sandbox.result import ExecResult
from sandlot.state.records import SandboxFolder, SandboxRecord
from sandlot.sync.portal import run


class OutputStream:
    """See `sandlot.OutputStream`."""

    def __init__(self, stream: guest.OutputStream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """See `sandlot.OutputStream.read`."""
        return run(self._stream.read(size))

    def read_line(self) -> bytes:
        """See `sandlot.OutputStream.read_line`."""
        return run(self._stream.read_line())

    def __iter__(self) -> Iterator[bytes]:
        """Pieces as they come."""
        while data := self.read(1 << 20):
            yield data


class InputStream:
    """See `sandlot.InputStream`."""

    def __init__(self, stream: guest.InputStream) -> None:
        self._stream = stream

    def write(self, data: bytes | memoryview) -> None:
        """See `sandlot.InputStream.write`."""
        run(self._stream.write(data))

    def close(self) -> None:
        """See `sandlot.InputStream.close`."""

        async def close() -> None:
            self._stream.close()

        run(close())

    def __enter__(self) -> InputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Process:
    """See `sandlot.Process`."""

    def __init__(self, process: asynchronous.Process) -> None:
        self._process = process
        self.stdin = InputStream(process.stdin)
        self.stdout = OutputStream(process.stdout)
        self.stderr = OutputStream(process.stderr)

    @property
    def pid(self) -> int:
        """See `sandlot.Process.pid`."""
        return self._process.pid

    def wait(self) -> guest.ExitStatus:
        """See `sandlot.Process.wait`."""
        return run(self._process.wait())

    def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """See `sandlot.Process.signal`."""
        run(self._process.signal(signal, to=to))

    def kill(self) -> None:
        """See `sandlot.Process.kill`."""
        run(self._process.kill())

    def resize(self, rows: int, columns: int) -> None:
        """See `sandlot.Process.resize`."""
        run(self._process.resize(rows, columns))

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        run(self._process.__aexit__(kind, error, traceback))


class Sandbox:
    """See `sandlot.Sandbox`. `create` starts at once; `with` stops and removes at the end."""

    def __init__(self, sandbox: origin.Sandbox) -> None:
        self._sandbox = sandbox

    @classmethod
    def create(
        cls, name: str | None = None, *, image: str, memory: int | str = origin.DEFAULT_MEMORY,
        cpus: int = 1, disk: int | str = origin.DEFAULT_DISK, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, hostname: str | None = None,
        detached: bool = False,
    ) -> Sandbox:  # fmt: skip
        """See `sandlot.Sandbox.create`."""

        async def make() -> origin.Sandbox:
            return await origin.Sandbox.create(
                name, image=image, memory=memory, cpus=cpus, disk=disk, env=env, workdir=workdir,
                user=user, hostname=hostname, detached=detached,
            )  # fmt: skip

        return cls(run(make()))

    @classmethod
    def get(cls, name: str) -> Sandbox:
        """See `sandlot.Sandbox.get`."""
        return cls(run(origin.Sandbox.get(name)))

    @classmethod
    def list(cls) -> list[origin.SandboxInfo]:
        """See `sandlot.Sandbox.list`."""
        return run(origin.Sandbox.list())

    @property
    def name(self) -> str:
        """See `sandlot.Sandbox.name`."""
        return self._sandbox.name

    @property
    def id(self) -> str:
        """See `sandlot.Sandbox.id`."""
        return self._sandbox.id

    @property
    def image(self) -> str:
        """See `sandlot.Sandbox.image`."""
        return self._sandbox.image

    @property
    def folder(self) -> SandboxFolder:
        """See `sandlot.Sandbox.folder`."""
        return self._sandbox.folder

    @property
    def record(self) -> SandboxRecord:
        """See `sandlot.Sandbox.record`."""
        return self._sandbox.record

    @property
    def status(self) -> str:
        """See `sandlot.Sandbox.status`."""
        return self._sandbox.status

    def info(self) -> origin.SandboxInfo:
        """See `sandlot.Sandbox.info`."""
        return self._sandbox.info()

    def stats(self) -> MachineStats:
        """See `sandlot.Sandbox.stats`."""
        return self._sandbox.stats()

    def start(self) -> None:
        """See `sandlot.Sandbox.start`."""
        run(self._sandbox.start())

    def stop(self, *, grace: float | str = origin.STOP_GRACE, kill: bool = False) -> None:
        """See `sandlot.Sandbox.stop`."""
        run(self._sandbox.stop(grace=grace, kill=kill))

    def remove(self) -> None:
        """See `sandlot.Sandbox.remove`."""
        run(self._sandbox.remove())

    def wait(self) -> None:
        """See `sandlot.Sandbox.wait`."""
        run(self._sandbox.wait())

    def exec(
        self, command: str | Sequence[str | bytes], *, stdin: bytes | str | None = None,
        timeout: float | str | None = None, check: bool = False,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, max_output: int | str = origin.MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """See `sandlot.Sandbox.exec`."""
        return run(
            self._sandbox.exec(
                command, stdin=stdin, timeout=timeout, check=check, env=env, workdir=workdir,
                user=user, limits=limits, max_output=max_output,
            )
        )  # fmt: skip

    def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: bool = False,
    ) -> Process:  # fmt: skip
        """See `sandlot.Sandbox.spawn`."""
        return Process(
            run(
                self._sandbox.spawn(
                    command, stdin=stdin, tty=tty, timeout=timeout, env=env, workdir=workdir,
                    user=user, limits=limits, detached=detached,
                )
            )
        )  # fmt: skip

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self.remove()
