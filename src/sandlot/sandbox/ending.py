"""How a sandbox came to an end, in words: for listings, and for who wants it to run. Pure."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from sandlot.errors import WrongState
from sandlot.state.records import RunState, SandboxRecord

STOPPED, KILLED, DIED = "stopped", "killed", "its machine died"
# As who comes after an owner that could not writes it down (state/records.py).
_LEFT = ("its keeper was killed", "its program ended")
_SHOWN = 60  # characters of a command


def failed(state: RunState) -> bool:
    """Whether it did not end in order: its disk is as after a power cut."""
    return not state.running and (bool(state.owner) or state.reason in (DIED, *_LEFT))


def why_it_ended(state: RunState) -> str:
    """`stopped (0)`, or with what ended it: `stopped (137), killed`, `stopped, idle for 60 s`."""
    text = STOPPED if state.exit_code is None else f"{STOPPED} ({state.exit_code})"
    if state.oom:
        text += ", out of memory"
    return text if state.reason in ("", STOPPED) else f"{text}, {state.reason}"


def not_running(record: SandboxRecord, state: RunState, hint: str = "") -> WrongState:
    """The error for who wants something of a sandbox that has stopped.

    `hint` is the remedy, where starting it is none.
    """
    name = record.name
    text, remedy = f"sandbox {name!r} is not running", f"start it with `sandlot start {name}`"
    if record.command and state.exit_code is not None and not state.reason:
        text += f": {_end(record, state)}"
        remedy = _remedy(record, state)
    elif state.reason not in ("", STOPPED):
        text += f" ({state.reason})"
    return WrongState(text, hint=hint or remedy)


def _end(record: SandboxRecord, state: RunState) -> str:
    command = shlex.join(record.command)
    command = command if len(command) <= _SHOWN else f"{command[: _SHOWN - 3]}..."
    when = datetime.fromtimestamp(state.finished, UTC).isoformat(sep=" ", timespec="seconds")
    why = ", out of memory," if state.oom else ""
    end = f"its main command `{command}` ended with status {state.exit_code}{why}"
    return f"{end} at {when.removesuffix('+00:00')} UTC"


def _remedy(record: SandboxRecord, state: RunState) -> str:
    """Starting it again would only end it again, unless something else is done."""
    if state.exit_code:
        return f"`sandlot logs {record.name}` shows what it said; `sandlot start` runs it again"
    if record.stdin or record.tty:
        return f"`sandlot start {record.name}` runs it again"
    return (
        "for one that stays, keep the input open with `sandlot run -d -i` or `-d -it`, or name a "
        "command that stays, such as `sleep infinity`"
    )
