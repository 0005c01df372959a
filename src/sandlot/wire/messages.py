"""The messages of the channel: what a stream may begin with, and what is said on it.

Each is a frozen dataclass whose fields carry their tag. The specification and the numbers are in
`protocol/README.md`, section 6; `protocol/vectors.json` holds the examples that both sides test.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

from sandlot.errors import GuestProtocolError
from sandlot.wire.files import FILE_MESSAGES
from sandlot.wire.message import Message as Message
from sandlot.wire.message import tag as _tag
from sandlot.wire.records import field, fields

HEADER = struct.Struct("!BI")
MAX_MESSAGE_FROM_GUEST = 64 * 1024
MAX_MESSAGE_TO_GUEST = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Configure(Message):
    """Give a restored guest its identity. Sent once, before anything else."""

    kind: ClassVar[int] = 0x01
    time_ns: int = _tag(1, 0)
    entropy: bytes = _tag(2, b"")
    hostname: str = _tag(3, "")
    machine_id: str = _tag(4, "")
    pids: int = _tag(5, 0)


@dataclass(frozen=True, kw_only=True)
class MountRoot(Message):
    """Make the image and a writable disk the root; without a device, the disk that was staged."""

    kind: ClassVar[int] = 0x02
    image_device: str = _tag(1, "")
    disk_device: str = _tag(2, "")
    disk_type: str = _tag(3, "")


@dataclass(frozen=True, kw_only=True)
class Exec(Message):
    """Start a process. The stream stays open for its life."""

    kind: ClassVar[int] = 0x03
    TTY: ClassVar[int] = 1
    DETACHED: ClassVar[int] = 2
    STDIN: ClassVar[int] = 4
    process: int = _tag(1, 0)
    argv: tuple[bytes, ...] = _tag(2, ())
    env: tuple[bytes, ...] = _tag(3, ())
    cwd: bytes = _tag(4, b"")
    user: str = _tag(5, "")
    flags: int = _tag(6, 0)
    rows: int = _tag(7, 0)
    columns: int = _tag(8, 0)
    limits: tuple[str, ...] = _tag(9, ())
    timeout_ms: int = _tag(10, 0)


@dataclass(frozen=True, kw_only=True)
class Stdio(Message):
    """Attach this stream to descriptor 0, 1 or 2 of a process."""

    kind: ClassVar[int] = 0x04
    ASK: ClassVar[int] = 1
    TAKE: ClassVar[int] = 2
    process: int = _tag(1, 0)
    descriptor: int = _tag(2, 0)
    flags: int = _tag(3, 0)


@dataclass(frozen=True, kw_only=True)
class Clock(Message):
    """Set the guest's real-time clock."""

    kind: ClassVar[int] = 0x05
    time_ns: int = _tag(1, 0)


@dataclass(frozen=True, kw_only=True)
class Shutdown(Message):
    """End every process, write everything to the disk, detach it."""

    kind: ClassVar[int] = 0x06
    grace_ms: int = _tag(1, 0)
    signal: int = _tag(2, 0)
    process: int = _tag(3, 0)


@dataclass(frozen=True, kw_only=True)
class Watch(Message):
    """Watch a job: its description, its output from an offset on, its end."""

    kind: ClassVar[int] = 0x08
    KEPT: ClassVar[int] = 1
    STATUS: ClassVar[int] = 2
    NOW: ClassVar[int] = 4
    process: int = _tag(1, 0)
    offset: int = _tag(2, 0)
    flags: int = _tag(3, 0)


@dataclass(frozen=True, kw_only=True)
class Jobs(Message):
    """List the jobs."""

    kind: ClassVar[int] = 0x09


@dataclass(frozen=True, kw_only=True)
class Metrics(Message):
    """Measure what the guest uses."""

    kind: ClassVar[int] = 0x0A


@dataclass(frozen=True, kw_only=True)
class Stage(Message):
    """Before a machine is saved: mount what does not depend on the image."""

    kind: ClassVar[int] = 0x07
    image_device: str = _tag(1, "")
    image_type: str = _tag(2, "")
    disk_device: str = _tag(3, "")
    disk_type: str = _tag(4, "")
    other_device: str = _tag(5, "")


@dataclass(frozen=True, kw_only=True)
class Signal(Message):
    """On an exec stream: send a signal."""

    kind: ClassVar[int] = 0x21
    PROCESS: ClassVar[int] = 0
    GROUP: ClassVar[int] = 1
    ALL: ClassVar[int] = 2
    number: int = _tag(1, 0)
    scope: int = _tag(2, 0)


@dataclass(frozen=True, kw_only=True)
class Resize(Message):
    """On an exec stream: the terminal has a new size, in characters."""

    kind: ClassVar[int] = 0x22
    rows: int = _tag(1, 0)
    columns: int = _tag(2, 0)


@dataclass(frozen=True, kw_only=True)
class Stop(Message):
    """Between programs of the host: end the sandbox that you run. Never goes to a guest."""

    kind: ClassVar[int] = 0x41
    KILL: ClassVar[int] = 1
    grace_ms: int = _tag(1, 0)
    flags: int = _tag(2, 0)


@dataclass(frozen=True, kw_only=True)
class Pause(Message):
    """Between programs of the host: stop the processors of the sandbox that you run."""

    kind: ClassVar[int] = 0x42


@dataclass(frozen=True, kw_only=True)
class Resume(Message):
    """Between programs of the host: let the processors run again."""

    kind: ClassVar[int] = 0x43


@dataclass(frozen=True, kw_only=True)
class Ok(Message):
    """The answer to a request that worked."""

    kind: ClassVar[int] = 0x80


@dataclass(frozen=True, kw_only=True)
class Failed(Message):
    """The answer to a request that did not work."""

    kind: ClassVar[int] = 0x81
    code: str = _tag(1, "")
    text: str = _tag(2, "")
    errno: int = _tag(3, 0)
    path: bytes = _tag(4, b"")


@dataclass(frozen=True, kw_only=True)
class Started(Message):
    """On an exec stream: the process runs, with this process id in the guest."""

    kind: ClassVar[int] = 0x82
    pid: int = _tag(1, 0)


@dataclass(frozen=True, kw_only=True)
class Exited(Message):
    """On an exec stream: the process has ended. The last message of the stream."""

    kind: ClassVar[int] = 0x83
    TIMED_OUT: ClassVar[int] = 1
    OOM: ClassVar[int] = 2
    code: int = _tag(1, 0)
    signal: int = _tag(2, 0)
    user_us: int = _tag(3, 0)
    system_us: int = _tag(4, 0)
    peak_bytes: int = _tag(5, 0)
    flags: int = _tag(6, 0)
    wall_us: int = _tag(7, 0)


@dataclass(frozen=True, kw_only=True)
class Job(Message):
    """What a job is and how it fares. `ended` has the flags of `Exited`."""

    kind: ClassVar[int] = 0x84
    RUNNING: ClassVar[int] = 1
    TTY: ClassVar[int] = 2
    STDIN: ClassVar[int] = 4
    process: int = _tag(1, 0)
    argv: tuple[bytes, ...] = _tag(2, ())
    pid: int = _tag(3, 0)
    started_ns: int = _tag(4, 0)
    flags: int = _tag(5, 0)
    code: int = _tag(6, 0)
    signal: int = _tag(7, 0)
    ended: int = _tag(8, 0)
    user_us: int = _tag(9, 0)
    system_us: int = _tag(10, 0)
    peak_bytes: int = _tag(11, 0)
    wall_us: int = _tag(12, 0)
    oldest: int = _tag(13, 0)
    newest: int = _tag(14, 0)
    user: str = _tag(15, "")
    cwd: bytes = _tag(16, b"")


@dataclass(frozen=True, kw_only=True)
class Output(Message):
    """On a watch stream: output of a job. A jump of `offset` is output that was dropped."""

    kind: ClassVar[int] = 0x85
    offset: int = _tag(1, 0)
    descriptor: int = _tag(2, 0)
    data: bytes = _tag(3, b"")


@dataclass(frozen=True, kw_only=True)
class Measured(Message):
    """What the guest uses: bytes, microseconds, numbers."""

    kind: ClassVar[int] = 0x86
    memory_total: int = _tag(1, 0)
    memory_available: int = _tag(2, 0)
    memory_used: int = _tag(3, 0)
    cached: int = _tag(4, 0)
    cpu_us: int = _tag(5, 0)
    uptime_us: int = _tag(6, 0)
    processors: int = _tag(7, 0)
    processes: int = _tag(8, 0)
    process_limit: int = _tag(9, 0)
    disk_total: int = _tag(10, 0)
    disk_free: int = _tag(11, 0)
    oom_kills: int = _tag(12, 0)


_MESSAGES: tuple[type[Message], ...] = (
    Configure, MountRoot, Exec, Stdio, Clock, Shutdown, Stage, Signal, Resize, Stop,
    Ok, Failed, Started, Exited,
    Watch, Jobs, Metrics, Pause, Resume, Job, Output, Measured, *FILE_MESSAGES,
)  # fmt: skip
KINDS = {message.kind: message for message in _MESSAGES}


_SCHEMAS: dict[int, dict[int, tuple[str, Any]]] = {}


def _schema(message: type[Message]) -> dict[int, tuple[str, Any]]:
    known = _SCHEMAS.get(message.kind)
    if known is None:
        hints = get_type_hints(message)
        known = {f.metadata["tag"]: (f.name, hints[f.name]) for f in dataclasses.fields(message)}
        _SCHEMAS[message.kind] = known
    return known


def _value(item: Any) -> bytes:
    if isinstance(item, int):
        return item.to_bytes(8, "big")
    return item.encode() if isinstance(item, str) else bytes(item)


def encode(message: Message) -> bytes:
    """A message with its header, ready to be put on a stream. Fields at their default are left out."""
    parts: list[bytes] = []
    for f in dataclasses.fields(message):
        item = getattr(message, f.name)
        if item == f.default:
            continue
        items = item if isinstance(item, tuple) else (item,)
        parts.extend(field(f.metadata["tag"], _value(each)) for each in items)
    body = b"".join(parts)
    return HEADER.pack(message.kind, len(body)) + body


def _parse(hint: Any, raw: bytes) -> Any:
    if hint is int:
        if len(raw) != 8:
            raise GuestProtocolError(f"a number has {len(raw)} bytes instead of 8")
        return int.from_bytes(raw, "big")
    if hint is str or hint == tuple[str, ...]:
        return raw.decode(errors="replace")
    return raw


def decode(kind: int, body: bytes) -> Message:
    """Parse a message's body.

    Raises:
        GuestProtocolError: an unknown kind, a malformed record, a field given twice.
    """
    message = KINDS.get(kind)
    if message is None:
        raise GuestProtocolError(f"unknown message kind 0x{kind:02x}")
    schema = _schema(message)
    values: dict[str, Any] = {}
    for tag, raw in fields(body):
        if tag not in schema:
            continue
        name, hint = schema[tag]
        if hint in (int, str, bytes):
            if name in values:
                raise GuestProtocolError(f"field {name} of {message.__name__} is given twice")
            values[name] = _parse(hint, raw)
        else:
            values[name] = (*values.get(name, ()), _parse(hint, raw))
    return message(**values)


class MessageReader:
    """Cuts a stream's bytes into messages; `limit` bounds one message's body, in bytes."""

    def __init__(self, limit: int = MAX_MESSAGE_FROM_GUEST) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def receive(self, data: bytes) -> list[Message]:
        """Add bytes and return the messages that are complete."""
        self._buffer += data
        messages = []
        while (one := self.next()) is not None:
            messages.append(one)
        return messages

    def feed(self, data: bytes) -> None:
        """Add bytes without taking messages out."""
        self._buffer += data

    def next(self) -> Message | None:
        """Take out one message, or None when none is complete."""
        if len(self._buffer) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._buffer)
        if length > self._limit:
            raise GuestProtocolError(
                f"a message of {length} bytes; at most {self._limit} are allowed"
            )
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return decode(kind, body)

    def rest(self) -> bytes:
        """The bytes that were read but belong to no message: what follows a stream's header."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data
