"""Running one program to its end over a session: input in, output out, everything bounded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sandlot.errors import ConfigError, ProcessError
from sandlot.guest.process import GuestProcess, OutputStream
from sandlot.guest.session import Command, GuestSession
from sandlot.sandbox.arguments import mapping, text_or_none
from sandlot.sandbox.options import check_env
from sandlot.sandbox.result import ExecResult, finished
from sandlot.sandbox.sizes import parse_size
from sandlot.state.records import SandboxRecord

SHELL = "/bin/sh"
_COMMAND = 'use a list of words such as ["ls", "-l"], or a line for the shell such as "ls | wc"'
SIZES = ("as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack")
LIMITS = (*SIZES, "cpu", "locks", "nice", "nofile", "nproc", "rtprio", "rttime", "sigpending")


def arguments(command: str | Sequence[str | bytes]) -> list[bytes]:
    """A list is argv, a string is a line for the sandbox's shell.

    Raises:
        ConfigError: nothing to run, or not text.
    """
    if not command or (isinstance(command, str) and not command.strip()):
        raise ConfigError("no command was given", hint=_COMMAND)
    if isinstance(command, bytes | Mapping) or not isinstance(command, Iterable):
        raise ConfigError(f"the command is {type(command).__name__}", hint=_COMMAND)
    parts: Sequence[str | bytes] = [SHELL, "-c", command] if isinstance(command, str) else command
    encoded = []
    for part in parts:
        if not isinstance(part, str | bytes):
            raise ConfigError(
                f"the argument {part!r} is {type(part).__name__}, not text",
                hint=f'write it as "{part}"' if isinstance(part, int | float) else "",
            )
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        if b"\0" in data:
            raise ConfigError("an argument contains a NUL character")
        encoded.append(data)
    return encoded


def input_bytes(stdin: object) -> bytes | None:
    """What a program is to read, as bytes; None is no input.

    Raises:
        ConfigError: neither bytes nor text.
    """
    if stdin is None:
        return None
    if isinstance(stdin, str):
        return stdin.encode()
    if isinstance(stdin, bytes | bytearray | memoryview):
        return bytes(stdin)
    raise ConfigError(
        f"stdin is {type(stdin).__name__}, not bytes or text",
        hint="read a file first, or write to the input of spawn(..., stdin=True)",
    )


def terminal_size(tty: object) -> tuple[int, int] | None:
    """What `tty=` stands for: rows and columns, or no terminal.

    Raises:
        ConfigError: neither True, False nor a size.
    """
    if isinstance(tty, bool) or tty is None:
        return (24, 80) if tty else None
    if (
        isinstance(tty, tuple) and len(tty) == 2
        and all(isinstance(each, int) and 0 < each < 1 << 16 for each in tty)
    ):  # fmt: skip
        return tty
    raise ConfigError(f"tty {tty!r} is not a terminal", hint="use True, or (rows, columns)")


def check_limits(limits: Mapping[str, int | str] | None) -> list[str]:
    """Limits of setrlimit(2) in the agent's words; sizes may have a unit.

    Raises:
        ConfigError: an unknown name or a wrong value.
    """
    words = []
    for name, value in mapping(limits, "limits", 'limits={"nofile": 256}').items():
        if name not in LIMITS:
            raise ConfigError(f"{name!r} is not a limit", hint=f"use one of {', '.join(LIMITS)}")
        parts = str(value).split(":")
        numbers = [p if p == "unlimited" or p.isdecimal() else _limit(name, p) for p in parts]
        if not 1 <= len(parts) <= 2:
            raise ConfigError(f"the limit {name}={value} is not SOFT or SOFT:HARD")
        words.append(f"{name}={':'.join(numbers)}")
    return words


def _limit(name: str, text: str) -> str:
    if name not in SIZES:
        raise ConfigError(f"the limit {name}={text} is not a number or `unlimited`")
    return str(parse_size(text, f"the limit {name}"))


def describe(command: str | Sequence[str | bytes]) -> str:
    """The command's name for messages."""
    first = command if isinstance(command, str) else command[0] if command else ""
    text = first.decode(errors="replace") if isinstance(first, bytes) else first
    return text if len(text) <= 60 else f"{text[:57]}..."


def make_command(
    record: SandboxRecord, command: str | Sequence[str | bytes], *,
    env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
    tty: tuple[int, int] | None = None, stdin: bool = False, detached: bool = False,
    limits: Mapping[str, int | str] | None = None, timeout: float | None = None,
) -> Command:  # fmt: skip
    """The agent's command, with what the sandbox was made with underneath."""
    merged = {**record.env, **check_env(env)}
    workdir = text_or_none(workdir, "workdir", 'workdir="/tmp"')
    user = text_or_none(user, "user", 'user="nobody" or user="1000:1000"')
    return Command(
        argv=arguments(command),
        env={
            k.encode(errors="surrogateescape"): v.encode(errors="surrogateescape")
            for k, v in merged.items()
        },
        cwd=(workdir if workdir is not None else record.workdir).encode(),
        user=user if user is not None else record.user,
        tty=tty, stdin=stdin, detached=detached,
        limits=check_limits(limits),
        timeout=timeout,
    )  # fmt: skip


async def run_to_end(
    session: GuestSession, command: Command, *, stdin: bytes | None, name: str, max_output: int,
    start: Callable[[GuestSession, Command], Awaitable[GuestProcess]] = GuestSession.start,
) -> ExecResult:  # fmt: skip
    """Start, feed, collect, wait. A cancelled call kills what it started.

    Raises:
        ExecTimeout: it ran longer than the command's timeout.
        ProcessError: it wrote more than `max_output` bytes to one stream; it is killed.
    """
    began = time.perf_counter()
    process = await start(session, command)
    feeding: asyncio.Task[None] | None = None
    try:
        if stdin:
            feeding = asyncio.get_running_loop().create_task(_feed(process, stdin))
        elif command.stdin:
            process.stdin.close()
        # One after the other would block a process that fills the second pipe first.
        outputs = asyncio.get_running_loop().create_task(_collect(process.stderr, max_output, name))
        try:
            stdout = await _collect(process.stdout, max_output, name)
            stderr = await outputs
        finally:
            if not outputs.done():
                outputs.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await outputs
        status = await process.wait()
    except BaseException:
        process.abandon()
        raise
    finally:
        if feeding is not None:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await feeding
    took = time.perf_counter() - began
    return finished(status, stdout, stderr, took, name, command.timeout)


async def _feed(process: GuestProcess, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it need not read all of its input
        await process.stdin.write(data)
    process.stdin.close()


async def _collect(stream: OutputStream, limit: int, name: str) -> bytes:
    parts, size = [], 0
    while data := await stream.read(1 << 30):
        parts.append(data)
        size += len(data)
        if size > limit:
            raise ProcessError(
                f"{name} wrote more than {limit} bytes and was killed; raise max_output= or read "
                "its output as a stream with spawn()",
                exit_code=125, signal=None, stdout=b"".join(parts)[:limit], stderr=b"",
            )  # fmt: skip
    return b"".join(parts)
