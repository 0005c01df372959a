"""The messages of the channel: what a stream may begin with, and what is said on it.

Each is frozen data whose fields carry their tag. The specification and the numbers are in
`protocol/README.md`, section 6; `protocol/vectors.json` holds the examples that both sides test.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from sandlot.errors import GuestProtocolError
from sandlot.wire.files import FILE_MESSAGES
from sandlot.wire.message import Message as Message
from sandlot.wire.message import tag as _tag
from sandlot.wire.network import NETWORK_MESSAGES
from sandlot.wire.records import field, fields
from sandlot.wire.runtime import RUNTIME_MESSAGES
from sandlot.wire.snapshot import SNAPSHOT_MESSAGES
from sandlot.wire.volumes import VOLUME_MESSAGES

HEADER = struct.Struct("!BI")
MAX_MESSAGE_FROM_GUEST = 64 * 1024
MAX_MESSAGE_TO_GUEST = 4 * 1024 * 1024


class Configure(Message):
    """Give a restored guest its identity. Sent once, before anything else."""

    kind: ClassVar[int] = 0x01
    time_ns: int = _tag(1, default=0)
    entropy: bytes = _tag(2, default=b"")
    hostname: str = _tag(3, default="")
    machine_id: str = _tag(4, default="")
    pids: int = _tag(5, default=0)


class MountRoot(Message):
    """Make the image and a writable disk the root; without a device, the disk that was staged."""

    kind: ClassVar[int] = 0x02
    READ_ONLY: ClassVar[int] = 1
    image_device: str = _tag(1, default="")
    disk_device: str = _tag(2, default="")
    disk_type: str = _tag(3, default="")
    flags: int = _tag(4, default=0)


class Exec(Message):
    """Start a process. The stream stays open for its life."""

    kind: ClassVar[int] = 0x03
    TTY: ClassVar[int] = 1
    DETACHED: ClassVar[int] = 2
    STDIN: ClassVar[int] = 4
    process: int = _tag(1, default=0)
    argv: tuple[bytes, ...] = _tag(2, default=())
    env: tuple[bytes, ...] = _tag(3, default=())
    cwd: bytes = _tag(4, default=b"")
    user: str = _tag(5, default="")
    flags: int = _tag(6, default=0)
    rows: int = _tag(7, default=0)
    columns: int = _tag(8, default=0)
    limits: tuple[str, ...] = _tag(9, default=())
    timeout_ms: int = _tag(10, default=0)


class Stdio(Message):
    """Attach this stream to descriptor 0, 1 or 2 of a process."""

    kind: ClassVar[int] = 0x04
    ASK: ClassVar[int] = 1
    TAKE: ClassVar[int] = 2
    process: int = _tag(1, default=0)
    descriptor: int = _tag(2, default=0)
    flags: int = _tag(3, default=0)


class Clock(Message):
    """Set the guest's real-time clock."""

    kind: ClassVar[int] = 0x05
    time_ns: int = _tag(1, default=0)


class Shutdown(Message):
    """End every process, write everything to the disk, detach it."""

    kind: ClassVar[int] = 0x06
    grace_ms: int = _tag(1, default=0)
    signal: int = _tag(2, default=0)
    process: int = _tag(3, default=0)


class Watch(Message):
    """Watch a job: its description, its output from an offset on, its end."""

    kind: ClassVar[int] = 0x08
    KEPT: ClassVar[int] = 1
    STATUS: ClassVar[int] = 2
    NOW: ClassVar[int] = 4
    process: int = _tag(1, default=0)
    offset: int = _tag(2, default=0)
    flags: int = _tag(3, default=0)


class Jobs(Message):
    """List the jobs."""

    kind: ClassVar[int] = 0x09


class Metrics(Message):
    """Measure what the guest uses."""

    kind: ClassVar[int] = 0x0A


class Stage(Message):
    """Before a machine is saved: mount what does not depend on the image."""

    kind: ClassVar[int] = 0x07
    image_device: str = _tag(1, default="")
    image_type: str = _tag(2, default="")
    disk_device: str = _tag(3, default="")
    disk_type: str = _tag(4, default="")
    other_device: str = _tag(5, default="")


class Signal(Message):
    """On an exec stream: send a signal."""

    kind: ClassVar[int] = 0x21
    PROCESS: ClassVar[int] = 0
    GROUP: ClassVar[int] = 1
    ALL: ClassVar[int] = 2
    number: int = _tag(1, default=0)
    scope: int = _tag(2, default=0)


class Resize(Message):
    """On an exec stream: the terminal has a new size, in characters."""

    kind: ClassVar[int] = 0x22
    rows: int = _tag(1, default=0)
    columns: int = _tag(2, default=0)


class Stop(Message):
    """Between programs of the host: end the sandbox that you run. Never goes to a guest."""

    kind: ClassVar[int] = 0x41
    KILL: ClassVar[int] = 1
    KEEP: ClassVar[int] = 2
    grace_ms: int = _tag(1, default=0)
    flags: int = _tag(2, default=0)


class Pause(Message):
    """Between programs of the host: stop the processors of the sandbox that you run."""

    kind: ClassVar[int] = 0x42


class Resume(Message):
    """Between programs of the host: let the processors run again."""

    kind: ClassVar[int] = 0x43


class SetNetwork(Message):
    """Between programs of the host: hold the sandbox that you run to another policy (JSON)."""

    kind: ClassVar[int] = 0x44
    policy: str = _tag(1, default="")


class NetworkSet(Message):
    """Between programs of the host: the policy holds; so many flows were cut."""

    kind: ClassVar[int] = 0x45
    cut: int = _tag(1, default=0)


class Ok(Message):
    """The answer to a request that worked."""

    kind: ClassVar[int] = 0x80


class Failed(Message):
    """The answer to a request that did not work."""

    kind: ClassVar[int] = 0x81
    code: str = _tag(1, default="")
    text: str = _tag(2, default="")
    errno: int = _tag(3, default=0)
    path: bytes = _tag(4, default=b"")


class Started(Message):
    """On an exec stream: the process runs, with this process id in the guest."""

    kind: ClassVar[int] = 0x82
    pid: int = _tag(1, default=0)


class Exited(Message):
    """On an exec stream: the process has ended. The last message of the stream."""

    kind: ClassVar[int] = 0x83
    TIMED_OUT: ClassVar[int] = 1
    OOM: ClassVar[int] = 2
    code: int = _tag(1, default=0)
    signal: int = _tag(2, default=0)
    user_us: int = _tag(3, default=0)
    system_us: int = _tag(4, default=0)
    peak_bytes: int = _tag(5, default=0)
    flags: int = _tag(6, default=0)
    wall_us: int = _tag(7, default=0)


class Job(Message):
    """What a job is and how it fares. `ended` has the flags of `Exited`."""

    kind: ClassVar[int] = 0x84
    RUNNING: ClassVar[int] = 1
    TTY: ClassVar[int] = 2
    STDIN: ClassVar[int] = 4
    process: int = _tag(1, default=0)
    argv: tuple[bytes, ...] = _tag(2, default=())
    pid: int = _tag(3, default=0)
    started_ns: int = _tag(4, default=0)
    flags: int = _tag(5, default=0)
    code: int = _tag(6, default=0)
    signal: int = _tag(7, default=0)
    ended: int = _tag(8, default=0)
    user_us: int = _tag(9, default=0)
    system_us: int = _tag(10, default=0)
    peak_bytes: int = _tag(11, default=0)
    wall_us: int = _tag(12, default=0)
    oldest: int = _tag(13, default=0)
    newest: int = _tag(14, default=0)
    user: str = _tag(15, default="")
    cwd: bytes = _tag(16, default=b"")


class Output(Message):
    """On a watch stream: output of a job. A jump of `offset` is output that was dropped."""

    kind: ClassVar[int] = 0x85
    offset: int = _tag(1, default=0)
    descriptor: int = _tag(2, default=0)
    data: bytes = _tag(3, default=b"")


class Measured(Message):
    """What the guest uses: bytes, microseconds, numbers."""

    kind: ClassVar[int] = 0x86
    memory_total: int = _tag(1, default=0)
    memory_available: int = _tag(2, default=0)
    memory_used: int = _tag(3, default=0)
    cached: int = _tag(4, default=0)
    cpu_us: int = _tag(5, default=0)
    uptime_us: int = _tag(6, default=0)
    processors: int = _tag(7, default=0)
    processes: int = _tag(8, default=0)
    process_limit: int = _tag(9, default=0)
    disk_total: int = _tag(10, default=0)
    disk_free: int = _tag(11, default=0)
    oom_kills: int = _tag(12, default=0)


_MESSAGES: tuple[type[Message], ...] = (
    Configure, MountRoot, Exec, Stdio, Clock, Shutdown, Stage, Signal, Resize, Stop,
    Ok, Failed, Started, Exited,
    Watch, Jobs, Metrics, Pause, Resume, SetNetwork, NetworkSet, Job, Output, Measured, *FILE_MESSAGES,
    *NETWORK_MESSAGES,
    *SNAPSHOT_MESSAGES,
    *VOLUME_MESSAGES,
    *RUNTIME_MESSAGES,
)  # fmt: skip
KINDS = {message.kind: message for message in _MESSAGES}


def _value(item: Any) -> bytes:
    if isinstance(item, int):
        return item.to_bytes(8, "big")
    return item.encode() if isinstance(item, str) else bytes(item)


def encode(message: Message) -> bytes:
    """A message with its header, ready to be put on a stream. Fields at their default are left out."""
    parts: list[bytes] = []
    for name, f in message.fields.items():
        item = getattr(message, name)
        if item == f.default:
            continue
        items = item if f.many else (item,)
        parts.extend(field(f.tag, _value(each)) for each in items)
    body = b"".join(parts)
    return HEADER.pack(message.kind, len(body)) + body


def _parse(kind: type, raw: bytes) -> Any:
    if kind is int:
        if len(raw) != 8:
            raise GuestProtocolError(f"a number has {len(raw)} bytes instead of 8")
        return int.from_bytes(raw, "big")
    return raw.decode(errors="replace") if kind is str else raw


def decode(kind: int, body: bytes) -> Message:
    """Parse a message's body.

    Raises:
        GuestProtocolError: an unknown kind, a malformed record, a field given twice.
    """
    message = KINDS.get(kind)
    if message is None:
        raise GuestProtocolError(f"unknown message kind 0x{kind:02x}")
    names = {f.tag: name for name, f in message.fields.items()}
    values: dict[str, Any] = {}
    for tag, raw in fields(body):
        name = names.get(tag)
        if name is None:
            continue
        f = message.fields[name]
        if f.many:
            values[name] = (*values.get(name, ()), _parse(f.type, raw))
        elif name in values:
            raise GuestProtocolError(f"field {name} of {message.__name__} is given twice")
        else:
            values[name] = _parse(f.type, raw)
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
