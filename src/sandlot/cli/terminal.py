"""Joins a process in a sandbox to this terminal, or to this program's pipes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

from sandlot.errors import ConfigError, SandboxError
from sandlot.guest.process import ExitStatus, OutputStream
from sandlot.sandbox.process import Process

FORCED = 3  # so many Ctrl-C end a command that does not listen

Tee = Callable[[str, bytes], None]


def check_terminal(want_tty: bool, interactive: bool) -> None:
    """Refuse `-it` without a terminal, as Docker does.

    Raises:
        ConfigError: standard input is no terminal.
    """
    if want_tty and interactive and not os.isatty(0):
        raise ConfigError("the input is not a terminal", hint="use -i without -t for a pipe")


def terminal_size() -> tuple[int, int]:
    """Rows and columns of this terminal; the usual ones when it does not know."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            if size.lines and size.columns:  # a pseudo terminal begins with neither
                return size.lines, size.columns
    return 24, 80


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the sandbox until the block ends."""
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


async def attach(
    process: Process, *, interactive: bool, tty: bool, tee: Tee | None = None
) -> ExitStatus:
    """Carry input, output, signals and the window's size until the process ends.

    When our own output is closed the process is killed, and the status is that of SIGPIPE.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        if tty:
            stack.enter_context(raw_terminal())
            loop.add_signal_handler(
                signal.SIGWINCH, lambda: loop.create_task(process.resize(*terminal_size()))
            )
            stack.callback(loop.remove_signal_handler, signal.SIGWINCH)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            loop.add_signal_handler(number, _forward(process, number, loop))
            stack.callback(loop.remove_signal_handler, number)
        if interactive:
            _forward_input(process, loop)
        elif tty:
            pass  # a terminal without input: the process waits for keys that never come
        outputs = [
            loop.create_task(_copy(process.stdout, 1, "stdout", tee)),
            loop.create_task(_copy(process.stderr, 2, "stderr", tee)),
        ]
        try:
            await asyncio.gather(*outputs)
        except BrokenPipeError:
            await process.kill()
            status = await process.wait()
            return dataclasses.replace(status, exit_code=128 + signal.SIGPIPE)
        except OSError:  # a full disk: nobody would ever see what else it says
            await process.kill()
            raise
        finally:
            for task in outputs:
                task.cancel()
        return await process.wait()


def _forward(process: Process, number: int, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    times = 0

    def handler() -> None:
        nonlocal times
        times += 1
        if number == signal.SIGINT and times >= FORCED:
            loop.create_task(process.kill())
            return
        with contextlib.suppress(SandboxError):
            loop.create_task(process.signal(number))

    return handler


async def _copy(stream: OutputStream, descriptor: int, name: str, tee: Tee | None) -> None:
    while data := await stream.read(1 << 20):
        if tee is not None:
            tee(name, data)
        await asyncio.to_thread(_write_all, descriptor, data)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def _forward_input(process: Process, loop: asyncio.AbstractEventLoop) -> None:
    """A thread reads, because a terminal, a pipe and a file can only be read alike that way."""

    def read() -> None:
        with contextlib.suppress(OSError, SandboxError, RuntimeError):
            while data := os.read(0, 1 << 16):
                asyncio.run_coroutine_threadsafe(process.stdin.write(data), loop).result()
        with contextlib.suppress(RuntimeError, OSError, SandboxError):
            loop.call_soon_threadsafe(process.stdin.close)

    threading.Thread(target=read, daemon=True, name="sandlot-stdin").start()


def leave_at_once(status: int) -> None:
    """End this program now: the thread that reads the terminal cannot be stopped otherwise."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
