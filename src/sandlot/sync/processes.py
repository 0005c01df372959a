"""Processes, their streams and jobs without `await`: one-line delegations, as in facade.py."""

from __future__ import annotations

import signal as signals
from collections.abc import Iterator
from types import TracebackType

from sandlot.guest import process as guest
from sandlot.guest.jobs import JobOutput
from sandlot.sandbox import job as jobs
from sandlot.sandbox import process as asynchronous
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

    def write(self, data: bytes | memoryview | str) -> None:
        """See `sandlot.InputStream.write`."""
        run(self._stream.write(data))

    def close(self) -> None:
        """See `sandlot.InputStream.close`."""

        async def close() -> None:
            self._stream.close()

        run(close())

    def let_go(self) -> None:
        """See `sandlot.InputStream.let_go`."""

        async def let_go() -> None:
            self._stream.let_go()

        run(let_go())

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

    def __repr__(self) -> str:
        return repr(self._process)

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


class Job:
    """See `sandlot.Job`."""

    def __init__(self, job: jobs.Job) -> None:
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        """See `sandlot.Job.id`."""
        return self._job.id

    @property
    def command(self) -> list[str]:
        """See `sandlot.Job.command`."""
        return self._job.command

    @property
    def pid(self) -> int:
        """See `sandlot.Job.pid`."""
        return self._job.pid

    @property
    def started(self) -> float:
        """See `sandlot.Job.started`."""
        return self._job.started

    @property
    def status(self) -> str:
        """See `sandlot.Job.status`."""
        return self._job.status

    @property
    def exit_status(self) -> guest.ExitStatus | None:
        """See `sandlot.Job.exit_status`."""
        return self._job.exit_status

    @property
    def tty(self) -> bool:
        """See `sandlot.Job.tty`."""
        return self._job.tty

    @property
    def takes_input(self) -> bool:
        """See `sandlot.Job.takes_input`."""
        return self._job.takes_input

    @property
    def kept(self) -> range:
        """See `sandlot.Job.kept`."""
        return self._job.kept

    def attach(
        self, *, from_offset: int | None = 0, input: bool = False, take_input: bool = False
    ) -> Attachment:
        """See `sandlot.Job.attach`."""
        made = self._job.attach(from_offset=from_offset, input=input, take_input=take_input)
        return Attachment(run(made))

    def logs(self, *, from_offset: int = 0) -> list[JobOutput]:
        """See `sandlot.Job.logs`."""
        return run(self._job.logs(from_offset=from_offset))

    def wait(self) -> guest.ExitStatus:
        """See `sandlot.Job.wait`."""
        return run(self._job.wait())

    def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """See `sandlot.Job.signal`."""
        run(self._job.signal(signal, to=to))

    def kill(self) -> None:
        """See `sandlot.Job.kill`."""
        run(self._job.kill())


class Attachment:
    """See `sandlot.Attachment`."""

    def __init__(self, attachment: jobs.Attachment) -> None:
        self._attachment = attachment
        self.stdin = InputStream(attachment.stdin)

    def read(self) -> JobOutput | None:
        """See `sandlot.Attachment.read`."""
        return run(self._attachment.read())

    def __iter__(self) -> Iterator[JobOutput]:
        """The output, until the job has ended."""
        while (piece := self.read()) is not None:
            yield piece

    def wait(self) -> guest.ExitStatus:
        """See `sandlot.Attachment.wait`."""
        return run(self._attachment.wait())

    def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """See `sandlot.Attachment.signal`."""
        run(self._attachment.signal(signal, to=to))

    def kill(self) -> None:
        """See `sandlot.Attachment.kill`."""
        run(self._attachment.kill())

    def resize(self, rows: int, columns: int) -> None:
        """See `sandlot.Attachment.resize`."""
        run(self._attachment.resize(rows, columns))

    def close(self) -> None:
        """See `sandlot.Attachment.close`."""
        run(self._attachment.close())

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
