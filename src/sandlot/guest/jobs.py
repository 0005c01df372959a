"""Jobs of a guest, as the channel sees them: listings, and watching one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from sandlot.errors import GuestProtocolError, SandboxError, WrongState
from sandlot.guest.channel import ChannelStream
from sandlot.guest.process import ExitStatus, exec_error, exit_status, guest_text
from sandlot.wire.messages import Exited, Failed, Job, Message, Output, Resize, Signal, encode

MOST_JOBS = 20_000
MAX_OFFSET = 1 << 62
STREAMS = {1: "stdout", 2: "stderr"}


@dataclass(frozen=True)
class JobOutput:
    """A piece of a job's output.

    `offset` counts the bytes of both streams since the job's start; `stream` is `stdout` or
    `stderr`; `dropped` bytes came before this piece and are not kept any more.
    """

    offset: int
    stream: str
    data: bytes
    dropped: int = 0

    @property
    def next_offset(self) -> int:
        """Where to attach again to go on after this piece."""
        return self.offset + len(self.data)


def check_job(message: Message) -> Job:
    """A description that makes sense.

    Raises:
        GuestProtocolError: it does not.
    """
    if not isinstance(message, Job):
        raise GuestProtocolError(f"the guest described a job with {type(message).__name__}")
    if not 0 <= message.oldest <= message.newest < MAX_OFFSET:
        raise GuestProtocolError("the guest described a job's output with impossible offsets")
    return message


def ended_status(job: Job) -> ExitStatus | None:
    """How a described job ended; None while it runs."""
    if job.flags & Job.RUNNING:
        return None
    return exit_status(
        Exited(
            code=job.code, signal=job.signal, user_us=job.user_us, system_us=job.system_us,
            peak_bytes=job.peak_bytes, flags=job.ended, wall_us=job.wall_us,
        )
    )  # fmt: skip


def job_error(failed: Failed, name: str) -> SandboxError:
    """The agent's refusal about a job, for people."""
    if failed.code == "no-job":
        return WrongState(
            f"there is no job {name} in this run of the sandbox",
            hint="`sandlot jobs` lists them; an old one may have been forgotten",
        )
    if failed.code == "state":  # not from a guest: its owner says so
        return exec_error(failed, name)
    if failed.code == "busy":
        return WrongState(
            f"the input of job {name} is held by another",
            hint="attach without an input, or take it over",
        )
    if failed.code in ("no-input", "closed"):
        return WrongState(f"job {name} takes no input: {guest_text(failed.text)}")
    return SandboxError(f"job {name}: {guest_text(failed.text or failed.code)}")


class JobWatch:
    """One WATCH stream, after its description came."""

    def __init__(self, stream: ChannelStream, job: Job, offset: int) -> None:
        self._stream = stream
        self.job = job
        self._next = offset
        self.status: ExitStatus | None = None
        self._over = False

    @classmethod
    async def opened(cls, stream: ChannelStream, name: str, offset: int | None) -> JobWatch:
        """Take the description; `offset` None means from now on.

        Raises:
            WrongState: there is no such job.
        """
        answer = await stream.read_message()
        if isinstance(answer, Failed):
            stream.finish()
            raise job_error(answer, name)
        if answer is None:
            raise GuestProtocolError("the guest described no job")
        job = check_job(answer)
        return cls(stream, job, job.newest if offset is None else min(offset, job.newest))

    async def next(self) -> JobOutput | None:
        """The next piece, or None at the end; then `status` tells how the job ended.

        Raises:
            SandboxDied: the machine ended.
            GuestProtocolError: the guest contradicts itself.
        """
        if self._over:
            return None
        message = await self._stream.read_message()
        if isinstance(message, Output):
            if (
                message.descriptor not in STREAMS
                or not message.data
                or not self._next <= message.offset < MAX_OFFSET
            ):
                raise GuestProtocolError("the guest sent impossible output of a job")
            dropped = message.offset - self._next
            self._next = message.offset + len(message.data)
            stream = STREAMS[message.descriptor]
            return JobOutput(message.offset, stream, message.data, dropped)
        self._over = True
        if isinstance(message, Exited):
            self.status = exit_status(message)
            self._stream.finish()
        elif message is not None:
            raise GuestProtocolError(f"the guest sent {type(message).__name__} about a job")
        return None

    @property
    def next_offset(self) -> int:
        """Where to go on when the stream is lost."""
        return self._next

    @property
    def was_cut(self) -> bool:
        """Whether the stream was ended from the other side, without a job's end."""
        return self._stream.was_reset

    def _say(self, message: Message) -> None:
        if not self._over and not self._stream.ended:
            with contextlib.suppress(BrokenPipeError):
                self._stream.put(encode(message))

    def signal(self, number: int, scope: int) -> None:
        """Send a signal to the job."""
        self._say(Signal(number=number, scope=scope))

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal."""
        self._say(Resize(rows=rows, columns=columns))

    def close(self) -> None:
        """Watch no more. The job goes on."""
        self._over = True
        if not self._stream.ended:
            self._stream.reset()
