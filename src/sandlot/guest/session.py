"""The agent's calls, over a channel. Knows no engine: the carrier may be a machine or a keeper."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandlot.errors import GuestProtocolError, SandboxDied, SandboxError
from sandlot.guest.channel import BULK_CREDIT, Channel
from sandlot.guest.jobs import MOST_JOBS, JobWatch, check_job, job_error
from sandlot.guest.process import GuestProcess, InputStream, exec_error, guest_text
from sandlot.wire.messages import (
    Clock,
    Configure,
    Exec,
    Failed,
    Job,
    Jobs,
    Measured,
    Message,
    Metrics,
    MountRoot,
    Ok,
    Shutdown,
    Stage,
    Started,
    Stdio,
    Watch,
)
from sandlot.wire.snapshot import Freeze, Grow, Thaw

ANSWER_PATIENCE = 120.0  # seconds; an agent under a fork bomb is slow, a dead one is dead
CLOCK_TOLERANCE = 0.020  # seconds
# The guest's names of a machine's disks, in their order.
IMAGE_DEVICE, STAGED_DISK, OTHER_DISK = "vda", "vdb", "vdc"


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run and how. `tty` is (rows, columns) or None; `timeout` is in seconds."""

    argv: Sequence[bytes]
    env: Mapping[bytes, bytes] = field(default_factory=dict)
    cwd: bytes = b""
    user: str = ""
    tty: tuple[int, int] | None = None
    stdin: bool = False
    detached: bool = False
    limits: Sequence[str] = ()
    timeout: float | None = None


class GuestSession:
    """The host's side of a session with an agent."""

    def __init__(self, channel: Channel, *, sets_clock: bool = True) -> None:
        self.channel = channel
        self._clock_offset = _host_clock_offset()
        self._sets_clock = sets_clock

    async def call(self, request: Message, *, patience: float = ANSWER_PATIENCE) -> None:
        """One request, answered by OK.

        Raises:
            SandboxError: the agent says that it failed, with its reason.
            GuestProtocolError: it answers something else, or nothing.
        """
        stream = self.channel.open(request)
        stream.finish()
        try:
            async with asyncio.timeout(patience):
                answer = await stream.read_message()
        except TimeoutError:
            error = GuestProtocolError(
                f"the guest is silent: no answer to {type(request).__name__}"
            )
            self.channel.fail(error)
            raise error from None
        if isinstance(answer, Failed):
            raise refused(request, answer)
        if answer is None:
            raise self.channel.error or SandboxDied("the sandbox has ended")
        if not isinstance(answer, Ok):
            error = GuestProtocolError(f"the guest answered {type(answer).__name__}")
            self.channel.fail(error)
            raise error

    async def ask(self, request: Message, *, most: int = 1) -> list[Message]:
        """One request, answered by up to `most` messages.

        Raises:
            SandboxError: the agent refuses, with its reason.
            GuestProtocolError: it answers too much, or nothing for too long.
        """
        stream = self.channel.open(request)
        stream.finish()
        answers: list[Message] = []
        try:
            async with asyncio.timeout(ANSWER_PATIENCE):
                while (message := await stream.read_message()) is not None:
                    if isinstance(message, Failed):
                        raise refused(request, message)
                    answers.append(message)
                    if len(answers) > most:
                        raise GuestProtocolError(
                            f"the guest answers too much to {type(request).__name__}"
                        )
        except TimeoutError:
            raise GuestProtocolError(
                f"the guest is silent: no answer to {type(request).__name__}"
            ) from None
        if stream.was_reset:
            raise self.channel.error or SandboxDied("the sandbox has ended")
        return answers

    async def configure(self, *, hostname: str, machine_id: str, pids: int = 0) -> None:
        """Make a restored guest a machine of its own: entropy, clock, names, its limit."""
        self._clock_offset = _host_clock_offset()
        await self.call(
            Configure(
                time_ns=time.time_ns(), entropy=os.urandom(64), hostname=hostname,
                machine_id=machine_id, pids=pids,
            )
        )  # fmt: skip

    async def stage(self) -> None:
        """Mount, in a machine that is about to be saved, what does not depend on the image."""
        await self.call(
            Stage(
                image_device=IMAGE_DEVICE, image_type="erofs", disk_device=STAGED_DISK,
                disk_type="ext4", other_device=OTHER_DISK,
            )
        )  # fmt: skip

    async def mount_root(self, *, fresh: bool, read_only: bool = False) -> None:
        """Make the image and a disk the root: the staged disk when it is `fresh`, or another."""
        disk = "" if fresh else OTHER_DISK
        await self.call(
            MountRoot(
                image_device=IMAGE_DEVICE, disk_device=disk, disk_type="ext4",
                flags=MountRoot.READ_ONLY if read_only else 0,
            )
        )  # fmt: skip

    async def freeze(self, *, sync: bool = False) -> None:
        """Stop all programs until `thaw`; with `sync` everything is on the disk then."""
        await self.call(Freeze(flags=Freeze.SYNC if sync else 0))

    async def thaw(
        self, *, restored: bytes = b"", env: Mapping[str, str] | None = None, boot_id: str = ""
    ) -> None:
        """Let the programs go on. A restored machine is told what it is first."""
        pairs = tuple(f"{name}={value}".encode() for name, value in (env or {}).items())
        await self.call(Thaw(restored=restored, env=pairs, boot_id=boot_id))

    async def grow_disk(self, size: int) -> None:
        """Let the file system of the disk have all of it; it has become `size` bytes."""
        await self.call(Grow(size=size))

    async def shutdown(self, grace: float, *, signal: int = 0, process: int = 0) -> None:
        """End all processes (SIGTERM, after `grace` seconds SIGKILL) and write the disk out.

        With `signal`, that is what the job `process` gets first.
        """
        request = Shutdown(grace_ms=int(grace * 1000), signal=signal, process=process)
        await self.call(request, patience=grace + ANSWER_PATIENCE)

    def set_clock_if_needed(self) -> None:
        """Correct the guest's clock when the host's was set, or stood still while the host slept.

        The order of frames puts it before whatever is asked next.
        """
        if not self._sets_clock:
            return
        offset = _host_clock_offset()
        if abs(offset - self._clock_offset) > CLOCK_TOLERANCE:
            self._clock_offset = offset
            self.channel.open(Clock(time_ns=time.time_ns())).finish()

    def set_clock(self) -> None:
        """Correct the guest's clock: it has stood still."""
        self._clock_offset = _host_clock_offset()
        self.channel.open(Clock(time_ns=time.time_ns())).finish()

    async def start(self, command: Command) -> GuestProcess:
        """Start a program. Everything that is needed goes out in one write.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError, ExecError: it cannot be started.
            SandboxDied, GuestProtocolError: the session is over.
        """
        self.set_clock_if_needed()
        number = _number(63)
        control = self.channel.open(_exec(command, number))
        wanted = [0] if command.stdin else []
        wanted += [1] if command.tty else [1, 2]
        streams = {
            n: self.channel.open(Stdio(process=number, descriptor=n), credit=BULK_CREDIT)
            for n in wanted
        }
        for n, stream in streams.items():
            if n:
                stream.finish()
        name = command.argv[0].decode(errors="replace") if command.argv else ""
        process = GuestProcess(control, streams.get(0), streams.get(1), streams.get(2), name)
        try:
            await process.started()
        except asyncio.CancelledError:
            process.abandon()
            raise
        return process

    # -- jobs ------------------------------------------------------------------------------

    async def start_job(self, command: Command) -> int:
        """Start a program that outlives every session; its number is returned.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError, ExecError: it cannot be started.
        """
        self.set_clock_if_needed()
        number = _number(48)
        control = self.channel.open(_exec(command, number))
        name = command.argv[0].decode(errors="replace") if command.argv else ""
        answer = await control.read_message()
        if isinstance(answer, Failed):
            control.finish()
            raise exec_error(answer, name)
        if not isinstance(answer, Started):
            raise self.channel.error or GuestProtocolError("the guest did not start a job")
        control.reset()  # its end is told to those who watch it
        return number

    async def jobs(self) -> list[Job]:
        """All jobs of this run, the oldest first."""
        return [check_job(message) for message in await self.ask(Jobs(), most=MOST_JOBS)]

    async def watch(
        self, number: int, *, offset: int | None = 0, flags: int = 0, name: str = ""
    ) -> JobWatch:
        """Watch a job from an offset of its output on; None means from now on.

        Raises:
            WrongState: there is no such job.
        """
        now = Watch.NOW if offset is None else 0
        stream = self.channel.open(
            Watch(process=number, offset=offset or 0, flags=flags | now), credit=BULK_CREDIT
        )
        try:
            return await JobWatch.opened(stream, name or f"{number:012x}", offset)
        except BaseException:
            stream.reset()
            raise

    async def own_input(self, number: int, *, take: bool = False, name: str = "") -> InputStream:
        """Become the one who writes to a job's input.

        Raises:
            WrongState: another does and `take` is False, or it has none.
        """
        flags = Stdio.ASK | (Stdio.TAKE if take else 0)
        stream = self.channel.open(Stdio(process=number, descriptor=0, flags=flags))
        answer = await stream.read_message()
        if isinstance(answer, Failed):
            stream.finish()
            raise job_error(answer, name or f"{number:012x}")
        if not isinstance(answer, Ok):
            raise self.channel.error or GuestProtocolError("the guest did not give an input")
        return InputStream(stream)

    async def metrics(self) -> Measured:
        """What the guest uses."""
        answers = await self.ask(Metrics())
        if not answers or not isinstance(answers[0], Measured):
            raise GuestProtocolError("the guest did not answer with measurements")
        return answers[0]


def refused(request: Message, failed: Failed) -> SandboxError:
    """The agent's refusal of a request, for people."""
    if failed.code == "state":
        return exec_error(failed, "")
    return SandboxError(f"{type(request).__name__} failed in the guest: {guest_text(failed.text)}")


def _number(bits: int) -> int:
    """A process number that nobody guesses and, surely enough, nobody else has."""
    return int.from_bytes(os.urandom(8)) >> (64 - bits) | 1


def _exec(command: Command, number: int) -> Exec:
    rows, columns = command.tty or (0, 0)
    flags = Exec.TTY if command.tty else 0
    flags |= Exec.DETACHED if command.detached else 0
    flags |= Exec.STDIN if command.stdin else 0
    return Exec(
        process=number, argv=tuple(command.argv),
        env=tuple(k + b"=" + v for k, v in command.env.items()), cwd=command.cwd,
        user=command.user, flags=flags, rows=rows, columns=columns,
        limits=tuple(command.limits), timeout_ms=int((command.timeout or 0) * 1000),
    )  # fmt: skip


def _host_clock_offset() -> float:
    """Changes when the real-time clock is set, and when the host sleeps: the monotonic one stands."""
    return time.time() - time.monotonic()
