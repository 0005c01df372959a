"""`Job`: a program that outlives who started it, and `Attachment`: watching one."""

from __future__ import annotations

import contextlib
import signal as signals
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

from sandlot.errors import SandboxDied, SandboxError, WrongState
from sandlot.guest.jobs import JobOutput, JobWatch, ended_status
from sandlot.guest.process import ExitStatus, InputStream, guest_text
from sandlot.guest.session import GuestSession
from sandlot.sandbox.process import check_scope, signal_number
from sandlot.wire import messages
from sandlot.wire.messages import Signal, Watch

Reach = Callable[[], Awaitable[GuestSession]]


class Job:
    """A program that outlives who started it, as `Sandbox.spawn(..., detached=True)` returns it.

        job = await sb.spawn("make -j", detached=True)
        ...                                           # another program, another day
        job = await sb.job(id)
        async with await job.attach(from_offset=0) as output:
            async for piece in output:
                print(piece.stream, piece.data)
        print((await job.wait()).exit_code)

    Any program of the same user finds it again by the sandbox and its id. The sandbox keeps the
    newest MiB of its output, and the ends of the last 256 jobs, until the sandbox stops. The
    properties are as they were when the job was found or last waited for.
    """

    def __init__(self, reach: Reach, job: messages.Job) -> None:
        self._reach = reach
        self._job = job
        self._status = ended_status(job)

    def __repr__(self) -> str:
        """Short, without its arguments."""
        program = self.command[0][:60] if self.command else ""
        how = "running" if self._status is None else f"exited {self._status.exit_code}"
        return f"<Job {self.id} {program!r} {how}>"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that no other job of the sandbox has."""
        return f"{self._job.process:012x}"

    @property
    def command(self) -> list[str]:
        """What runs; a long one is cut short."""
        return [guest_text(a.decode(errors="replace")) for a in self._job.argv]

    @property
    def pid(self) -> int:
        """Its process id in the sandbox."""
        return self._job.pid

    @property
    def started(self) -> float:
        """When it started, in seconds since 1970."""
        return self._job.started_ns / 1e9

    @property
    def status(self) -> str:
        """`running` or `exited`."""
        return "running" if self._status is None else "exited"

    @property
    def exit_status(self) -> ExitStatus | None:
        """How it ended; None while it runs."""
        return self._status

    @property
    def tty(self) -> bool:
        """Whether it has a terminal."""
        return bool(self._job.flags & messages.Job.TTY)

    @property
    def takes_input(self) -> bool:
        """Whether it was started with an input."""
        return bool(self._job.flags & messages.Job.STDIN)

    @property
    def kept(self) -> range:
        """The offsets of its output that are kept."""
        return range(self._job.oldest, self._job.newest)

    async def attach(
        self, *, from_offset: int | None = 0, input: bool = False, take_input: bool = False
    ) -> Attachment:
        """Watch it: first what is kept from `from_offset` on, then what comes.

        Any number of programs may watch. A watcher that reads slowly slows the job down; one that
        reads nothing for five seconds loses output and is told so by `JobOutput.dropped`.

        Args:
            from_offset: where in its output to begin; None for what comes from now on.
            input: own its input, which one program can at a time.
            take_input: own it even when another program does, which loses it.

        Raises:
            WrongState: it is not known any more, or its input is held by another.
        """
        session = await self._reach()
        watch = await session.watch(self._job.process, offset=from_offset, name=self.id)
        owned = None
        if input or take_input:
            try:
                owned = await session.own_input(self._job.process, take=take_input, name=self.id)
            except BaseException:
                watch.close()
                raise
        return Attachment(self.id, watch, owned, self._settle)

    async def _settle(self) -> None:
        """Return when the agent has seen what was said before."""
        with contextlib.suppress(SandboxError):
            session = await self._reach()
            (await session.watch(self._job.process, flags=Watch.STATUS)).close()

    async def logs(self, *, from_offset: int = 0) -> list[JobOutput]:
        """Its output as far as it is kept, without waiting for more."""
        session = await self._reach()
        watch = await session.watch(
            self._job.process, offset=from_offset, flags=Watch.KEPT, name=self.id
        )
        pieces = []
        while (piece := await watch.next()) is not None:
            pieces.append(piece)
        return pieces

    async def wait(self) -> ExitStatus:
        """Wait for its end. An end that is long past is known too.

        Raises:
            SandboxDied: the sandbox ended first.
            WrongState: it is not known any more.
        """
        if self._status is not None:
            return self._status
        session = await self._reach()
        watch = await session.watch(self._job.process, flags=Watch.STATUS, name=self.id)
        try:
            while await watch.next() is not None:
                pass
        finally:
            watch.close()
        if watch.status is None:
            raise SandboxDied(f"the sandbox ended while job {self.id} ran")
        self._status = watch.status
        return self._status

    async def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """Send a signal to the `"process"`, its process `"group"`, or `"all"` that it started."""
        number, scope = signal_number(signal), check_scope(to)
        session = await self._reach()
        watch = await session.watch(self._job.process, flags=Watch.STATUS, name=self.id)
        watch.signal(number, scope)
        await session.jobs()  # answered after the signal was sent
        watch.close()

    async def kill(self) -> None:
        """SIGKILL to everything that it started."""
        await self.signal(signals.SIGKILL, to="all")


class Attachment:
    """A job that is being watched. Leaving the block, or `close`, ends the watching, not the job."""

    def __init__(
        self, name: str, watch: JobWatch, stdin: InputStream | None,
        settle: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._name = name
        self._watch = watch
        self._stdin = stdin
        self._settle = settle

    async def read(self) -> JobOutput | None:
        """The next piece of output, or None when the job has ended.

        Raises:
            SandboxDied: the sandbox ended.
        """
        piece = await self._watch.next()
        if piece is None and self._watch.status is None and self._watch.was_cut:
            raise SandboxDied(f"the sandbox ended while job {self._name} ran")
        return piece

    async def __aiter__(self) -> AsyncIterator[JobOutput]:
        """The output, until the job has ended."""
        while (piece := await self.read()) is not None:
            yield piece

    async def wait(self) -> ExitStatus:
        """Read what is left of the output, and return how the job ended."""
        while await self.read() is not None:
            pass
        if self._watch.status is None:
            raise WrongState(f"job {self._name} is no longer watched")
        return self._watch.status

    @property
    def stdin(self) -> InputStream:
        """Its input, if this program owns it."""
        return self._stdin or InputStream(None)

    async def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """Send a signal to the `"process"`, its process `"group"`, or `"all"` that it started."""
        self._watch.signal(signal_number(signal), check_scope(to))

    async def kill(self) -> None:
        """SIGKILL to everything that it started."""
        self._watch.signal(signals.SIGKILL, Signal.ALL)

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, in characters."""
        self._watch.resize(rows, columns)

    async def close(self) -> None:
        """Watch no more, and let go of the input. The job goes on."""
        self._watch.close()
        if self._stdin is not None:
            self._stdin.let_go()
            await self._settle()  # so that whoever asks for the input next gets it

    async def __aenter__(self) -> Attachment:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        with contextlib.suppress(BrokenPipeError):
            await self.close()
