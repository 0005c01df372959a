"""The agent's calls, over a channel. Knows no engine: the carrier may be a machine or a keeper."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandlot.errors import GuestProtocolError, SandboxDied, SandboxError
from sandlot.guest.channel import BULK_CREDIT, Channel
from sandlot.guest.process import GuestProcess, guest_text
from sandlot.wire.messages import (
    Clock,
    Configure,
    Exec,
    Failed,
    Message,
    MountRoot,
    Ok,
    Shutdown,
    Stdio,
)

ANSWER_PATIENCE = 120.0  # seconds; an agent under a fork bomb is slow, a dead one is dead
CLOCK_TOLERANCE = 0.020  # seconds


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
            raise SandboxError(
                f"{type(request).__name__} failed in the guest: {guest_text(answer.text)}"
            )
        if answer is None:
            raise self.channel.error or SandboxDied("the sandbox has ended")
        if not isinstance(answer, Ok):
            error = GuestProtocolError(f"the guest answered {type(answer).__name__}")
            self.channel.fail(error)
            raise error

    async def configure(self, *, hostname: str, machine_id: str) -> None:
        """Make a restored guest a machine of its own: entropy, clock, names."""
        self._clock_offset = _host_clock_offset()
        await self.call(
            Configure(
                time_ns=time.time_ns(), entropy=os.urandom(64), hostname=hostname,
                machine_id=machine_id,
            )
        )  # fmt: skip

    async def mount_root(self, *, image: str, disk: str) -> None:
        """Mount the disks with these device names as the root."""
        await self.call(
            MountRoot(image_device=image, image_type="erofs", disk_device=disk, disk_type="ext4")
        )

    async def shutdown(self, grace: float) -> None:
        """End all processes (SIGTERM, after `grace` seconds SIGKILL) and write the disk out."""
        await self.call(Shutdown(grace_ms=int(grace * 1000)), patience=grace + ANSWER_PATIENCE)

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

    async def start(self, command: Command) -> GuestProcess:
        """Start a program. Everything that is needed goes out in one write.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError, ExecError: it cannot be started.
            SandboxDied, GuestProtocolError: the session is over.
        """
        self.set_clock_if_needed()
        number = secrets.randbits(63) + 1
        rows, columns = command.tty or (0, 0)
        flags = Exec.TTY if command.tty else 0
        flags |= Exec.DETACHED if command.detached else 0
        flags |= Exec.STDIN if command.stdin else 0
        control = self.channel.open(
            Exec(
                process=number, argv=tuple(command.argv),
                env=tuple(k + b"=" + v for k, v in command.env.items()), cwd=command.cwd,
                user=command.user, flags=flags, rows=rows, columns=columns,
                limits=tuple(command.limits), timeout_ms=int((command.timeout or 0) * 1000),
            )
        )  # fmt: skip
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


def _host_clock_offset() -> float:
    """Changes when the real-time clock is set, and when the host sleeps: the monotonic one stands."""
    return time.time() - time.monotonic()
