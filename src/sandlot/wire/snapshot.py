"""The messages about saving a machine (protocol/README.md, section 11)."""

from __future__ import annotations

from typing import ClassVar

from sandlot.wire.message import Message
from sandlot.wire.message import tag as _tag


class Freeze(Message):
    """Stop all programs of the guest, and start none, until it is thawed."""

    kind: ClassVar[int] = 0x0D
    SYNC: ClassVar[int] = 1
    flags: int = _tag(1, default=0)


class Thaw(Message):
    """Let the programs go on; in a restored machine, after it was told what it is now."""

    kind: ClassVar[int] = 0x0E
    restored: bytes = _tag(1, default=b"")
    env: tuple[bytes, ...] = _tag(2, default=())
    boot_id: str = _tag(3, default="")


class Grow(Message):
    """Let the file system of the disk have all of the disk, which has become `size` bytes."""

    kind: ClassVar[int] = 0x20
    size: int = _tag(1, default=0)


class Save(Message):
    """Between programs of the host: save the sandbox that you run. `options` is JSON."""

    kind: ClassVar[int] = 0x46
    options: str = _tag(1, default="")


class Saved(Message):
    """Between programs of the host: it is saved. `result` is JSON."""

    kind: ClassVar[int] = 0x47
    result: str = _tag(1, default="")


class Listen(Message):
    """Between programs of the host: tell when programs in the sandbox have ended."""

    kind: ClassVar[int] = 0x48


class Heard(Message):
    """Between programs of the host: one has ended, or several."""

    kind: ClassVar[int] = 0x49


SNAPSHOT_MESSAGES: tuple[type[Message], ...] = (Freeze, Thaw, Grow, Save, Saved, Listen, Heard)
