"""The messages about volumes (protocol/README.md, section 12)."""

from __future__ import annotations

from typing import ClassVar

from sandlot.wire.message import Message
from sandlot.wire.message import tag as _tag


class Mount(Message):
    """Mount a file system that the host serves: after OK come FUSE messages, both ways."""

    kind: ClassVar[int] = 0x0F
    READ_ONLY: ClassVar[int] = 1
    AGAIN: ClassVar[int] = 2
    WRITEBACK: ClassVar[int] = 4
    NO_FLUSH: ClassVar[int] = 8
    volume: str = _tag(1, default="")
    path: bytes = _tag(2, default=b"")
    flags: int = _tag(3, default=0)
    mode: int = _tag(4, default=0)


class Unmount(Message):
    """Take a volume away."""

    kind: ClassVar[int] = 0x50
    DETACH: ClassVar[int] = 1
    volume: str = _tag(1, default="")
    flags: int = _tag(2, default=0)


class Nudge(Message):
    """Have the guest's watchers hear of changes that were made on the host."""

    kind: ClassVar[int] = 0x51
    volume: str = _tag(1, default="")
    changes: tuple[bytes, ...] = _tag(2, default=())


class ChangeVolumes(Message):
    """Between programs of the host: mount or unmount in the sandbox that you run (JSON)."""

    kind: ClassVar[int] = 0x52
    change: str = _tag(1, default="")


class MountDisk(Message):
    """Mount the ext4 file system of a disk that the machine was given, known by its serial number."""

    kind: ClassVar[int] = 0x53
    READ_ONLY: ClassVar[int] = 1
    path: bytes = _tag(1, default=b"")
    serial: str = _tag(2, default="")
    flags: int = _tag(3, default=0)


VOLUME_MESSAGES: tuple[type[Message], ...] = (Mount, Unmount, Nudge, ChangeVolumes, MountDisk)
