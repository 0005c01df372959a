"""`Process`: a program that is running in a sandbox."""

from __future__ import annotations

import signal as signals
from types import TracebackType

from sandlot.errors import ConfigError
from sandlot.guest.process import ExitStatus, GuestProcess, InputStream, OutputStream
from sandlot.wire.messages import Signal

_SCOPES = {"process": Signal.PROCESS, "group": Signal.GROUP, "all": Signal.ALL}
_SIGNALS = "use a name such as TERM or SIGTERM, or a number from 1 to 64"


def signal_number(value: int | str) -> int:
    """`15`, `"TERM"`, `"SIGTERM"` or `signal.SIGTERM` as a number.

    Raises:
        ConfigError: no such signal.
    """
    if isinstance(value, str) and not value.isdecimal():
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        if name not in signals.Signals.__members__:
            raise ConfigError(f"{value!r} is not a signal", hint=_SIGNALS)
        return signals.Signals[name].value
    number = int(value) if isinstance(value, str | int) else 0
    if not 0 < number <= 64:
        raise ConfigError(f"{value} is not a signal", hint=_SIGNALS)
    return number


def check_scope(to: str) -> int:
    """Whom a signal is for, in the agent's words.

    Raises:
        ConfigError: no such scope.
    """
    if to not in _SCOPES:
        raise ConfigError(f"to={to!r} is not one of process, group, all")
    return _SCOPES[to]


class Process:
    """A running program, as `Sandbox.spawn` returns it.

        async with await sb.spawn(["cat"], stdin=True) as p:
            await p.stdin.write(b"hello")
            p.stdin.close()
            print(await p.stdout.read())

    Leaving the block kills it if it still runs.
    """

    def __init__(self, guest: GuestProcess) -> None:
        self._guest = guest

    def __repr__(self) -> str:
        """Short, without its arguments and its environment."""
        return f"<Process {self.pid} {'exited' if self._guest.ended else 'running'}>"

    @property
    def pid(self) -> int:
        """Its process id in the sandbox."""
        return self._guest.pid

    @property
    def stdin(self) -> InputStream:
        """What it reads; needs `stdin=True` or a terminal."""
        return self._guest.stdin

    @property
    def stdout(self) -> OutputStream:
        """What it writes. With a terminal, everything comes here."""
        return self._guest.stdout

    @property
    def stderr(self) -> OutputStream:
        """What it writes to standard error."""
        return self._guest.stderr

    async def wait(self) -> ExitStatus:
        """Wait for its end. Full buffers of output that nobody reads keep a program from ending.

        Raises:
            SandboxDied: the sandbox ended first.
        """
        return await self._guest.wait()

    async def signal(self, signal: int | str = signals.SIGTERM, *, to: str = "group") -> None:
        """Send a signal to the `"process"`, its process `"group"`, or `"all"` that it started."""
        self._guest.signal(signal_number(signal), scope=check_scope(to))

    async def kill(self) -> None:
        """SIGKILL to everything that it started."""
        self._guest.signal(signals.SIGKILL, scope=Signal.ALL)

    async def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, in characters."""
        self._guest.resize(rows, columns)

    async def __aenter__(self) -> Process:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if not self._guest.ended:
            self._guest.abandon()
