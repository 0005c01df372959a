"""One running program in a guest, as the channel sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sandlot.errors import (
    CommandNotExecutable,
    CommandNotFound,
    ConfigError,
    ExecError,
    GuestProtocolError,
    PluginFailed,
    Refuse,
    SandboxDied,
    SandboxError,
    WrongState,
)
from sandlot.guest.channel import ChannelStream
from sandlot.wire.messages import Exited, Failed, Message, Resize, Signal, Started, encode


@dataclass(frozen=True, kw_only=True)
class ExitStatus:
    """How a process ended. Times in seconds, memory in bytes.

    `exit_code` is what a shell would say: 128 plus the signal for a killed one.
    """

    exit_code: int
    signal: int | None
    user_time: float
    system_time: float
    peak_memory: int
    timed_out: bool
    out_of_memory: bool


def exit_status(message: Exited) -> ExitStatus:
    """What the agent says of an end, for users."""
    return ExitStatus(
        exit_code=128 + message.signal if message.signal else message.code,
        signal=message.signal or None,
        user_time=message.user_us / 1e6,
        system_time=message.system_us / 1e6,
        peak_memory=message.peak_bytes,
        timed_out=bool(message.flags & Exited.TIMED_OUT),
        out_of_memory=bool(message.flags & Exited.OOM),
    )


class OutputStream:
    """What a process writes. Not read means: the process waits, when the buffers are full."""

    def __init__(self, stream: ChannelStream | None) -> None:
        self._stream = stream
        self._rest = b""
        self.tap: Callable[[bytes], object] | None = None
        """Is shown what is read, as it comes."""

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes as soon as there are any, everything until the end when negative.

        b"" means the end. Raises SandboxDied when the machine ended.
        """
        if size < 0:
            parts = [self._rest]
            self._rest = b""
            while data := await self._next():
                parts.append(data)
            return b"".join(parts)
        data = self._rest or await self._next()
        self._rest = data[size:]
        return data[:size]

    async def read_line(self) -> bytes:
        """One line with its end, or what is left at the end of the output."""
        parts = []
        while data := self._rest or await self._next():
            line, newline, self._rest = data.partition(b"\n")
            parts.append(line + newline)
            if newline:
                break
        return b"".join(parts)

    async def _next(self) -> bytes:
        data = await self._stream.read() if self._stream is not None else b""
        if self.tap is not None and data:
            self.tap(data)
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while data := await self.read(1 << 20):
            yield data


class InputStream:
    """What a process reads."""

    def __init__(self, stream: ChannelStream | None) -> None:
        self._stream = stream
        self.tap: Callable[[bytes], object] | None = None
        """Is shown what is written."""

    async def write(self, data: bytes | memoryview | str) -> None:
        """Send all of `data`, text as UTF-8; waits while the process does not read.

        Raises:
            ConfigError: it is neither bytes nor text.
            BrokenPipeError: the process has closed its input or ended.
            SandboxDied: the machine ended.
        """
        if self._stream is None:
            raise BrokenPipeError("the process was started without an input")
        if isinstance(data, str):
            data = data.encode()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ConfigError(
                f"data is {type(data).__name__}, not bytes or text",
                hint='use for example write(b"yes") or write("yes")',
            )
        if self.tap is not None:
            self.tap(bytes(data))
        await self._stream.write(data)

    def close(self) -> None:
        """End of file for the process. Closing twice is allowed."""
        if self._stream is not None:
            self._stream.finish()

    def let_go(self) -> None:
        """Write no more, without an end of file: the process of a job may get another writer."""
        if self._stream is not None and not self._stream.was_reset:
            self._stream.reset()

    async def __aenter__(self) -> InputStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class GuestProcess:
    """A process and its streams. Made by `GuestSession.start`."""

    def __init__(
        self,
        control: ChannelStream,
        stdin: ChannelStream | None,
        stdout: ChannelStream | None,
        stderr: ChannelStream | None,
        name: str,
    ) -> None:
        self._control = control
        self._name = name
        self.stdin = InputStream(stdin)
        self.stdout = OutputStream(stdout)
        self.stderr = OutputStream(stderr)
        self.pid = 0
        self._streams = [s for s in (stdin, stdout, stderr) if s is not None]
        self._status: asyncio.Task[ExitStatus] | None = None
        self._asked_to_end = False
        self.on_resize: Callable[[int, int], object] | None = None

    def on_exit(self, told: Callable[[asyncio.Task[ExitStatus]], object]) -> None:
        """Call `told` when its end is known, or that it will not be."""
        assert self._status is not None
        self._status.add_done_callback(told)

    async def started(self) -> None:
        """Wait until the program runs.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError, ExecError: it does not.
        """
        message = await self._control.read_message()
        if isinstance(message, Failed):
            for stream in self._streams:
                stream.reset()
            self._control.finish()
            raise exec_error(message, self._name)
        if not isinstance(message, Started):
            raise self._breach(message)
        self.pid = message.pid
        self._status = asyncio.get_running_loop().create_task(self._follow())
        self._status.add_done_callback(_retrieve)

    async def _follow(self) -> ExitStatus:
        message = await self._control.read_message()
        if not isinstance(message, Exited):
            raise self._breach(message)
        self._control.finish()
        return exit_status(message)

    def _breach(self, message: Message | None) -> SandboxError:
        if message is None:
            if self._asked_to_end:
                return SandboxDied(f"{self._name} was killed")
            return SandboxDied(f"the sandbox ended while {self._name} ran")
        return GuestProtocolError(f"the guest sent {type(message).__name__} about a process")

    async def wait(self) -> ExitStatus:
        """Wait for the end. Cancelling the wait leaves the process running."""
        assert self._status is not None
        return await asyncio.shield(self._status)

    @property
    def ended(self) -> bool:
        """Whether the end is known."""
        return self._status is not None and self._status.done()

    def signal(self, number: int, *, scope: int = Signal.GROUP) -> None:
        """Send a signal to the process (`Signal.PROCESS`), its group, or everything it started."""
        if not self.ended and not self._control.ended:
            self._control.put(encode(Signal(number=number, scope=scope)))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size, in characters."""
        if not self.ended and not self._control.ended:
            self._control.put(encode(Resize(rows=rows, columns=columns)))
            if self.on_resize is not None:
                self.on_resize(rows, columns)

    def abandon(self) -> None:
        """Kill all that it started, and forget it."""
        self._asked_to_end = True
        if not self.ended:
            self._control.reset()
        for stream in self._streams:
            stream.reset()


def _retrieve(task: asyncio.Task[ExitStatus]) -> None:
    """Nobody may be waiting for a process when its machine ends; that is no warning's worth."""
    if not task.cancelled():
        task.exception()


def guest_text(text: str) -> str:
    """What a guest says, fit for a terminal: one short line without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:300])


def no_user(failed: Failed) -> ConfigError:
    """The image does not have the user or group that was named."""
    return ConfigError(
        f"{guest_text(failed.text)} in the sandbox",
        hint="the image's /etc/passwd has its users; any number, such as 1000:1000, is possible",
    )


def refusal(failed: Failed) -> Refuse:
    """What a plugin of the program that runs the sandbox has refused."""
    try:
        told = {str(key): guest_text(str(value)) for key, value in json.loads(failed.text).items()}
    except (ValueError, AttributeError, RecursionError):
        told = {}
    kind = PluginFailed if told.get("failed") == "True" else Refuse
    return kind(
        told.get("message", "it was refused"), plugin=told.get("plugin", ""),
        reason=told.get("reason", ""),
    )  # fmt: skip


def exec_error(failed: Failed, name: str) -> SandboxError:
    """The agent's refusal to start a program, as an error for people."""
    text = guest_text(failed.text or failed.code)
    if failed.code == "state":  # not from a guest: its owner says so
        message, _, hint = failed.text.partition("\n")
        return WrongState(guest_text(message), hint=guest_text(hint))
    if failed.code == "refused":  # nor is this
        return refusal(failed)
    if failed.code == "not-found":
        hint = "use an image that has it, or name it by its whole path"
        if " " in name:
            hint = "for a line of a shell use `sh -c LINE`"
        return CommandNotFound(f"{name}: command not found in the sandbox", hint=hint)
    if failed.code == "not-executable":
        return CommandNotExecutable(
            f"{name}: cannot be executed ({text})",
            hint="make it executable with `chmod +x`, or name what runs it, such as `sh FILE`",
        )
    if failed.code == "no-user":
        return no_user(failed)
    if failed.code == "no-cwd":
        return ConfigError(
            f"it cannot start in {text}",
            hint="name a folder that is there, or make it first with `mkdir -p`",
        )
    if failed.code == "bad-limit":
        return ConfigError(text)
    if failed.code == "resources":
        return ExecError(
            f"{name}: the sandbox has no room for another process ({text})",
            hint="end some, or make it with more: pids= or --pids-limit, memory= or --memory",
        )
    return ExecError(f"{name}: {text}")
