"""What a file system is asked with, and what it answers with."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Any, Protocol

Buffer = bytes | bytearray | memoryview


class MountPoint(Protocol):
    """Where a file system is mounted, and who is told there of changes that others made."""

    sandbox: str
    path: str

    def forget_data(self, node: Any, *, data: bool = True) -> None:
        """A node is to be looked at again, and what is in it when `data`."""

    def forget_name(self, parent: Any, name: str) -> None:
        """A name in a folder is to be looked up again."""


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks: a process of the guest, by the numbers that the guest gives it.

    `pid` is 0 where the guest's kernel asks for itself, as when it writes back what it cached.
    `volume` is the path where the file system is mounted. The guest is not trusted: the numbers
    are for logs and for ownership inside the volume, not for guarding anything of the host's.
    """

    pid: int
    uid: int
    gid: int
    sandbox: str = ""
    volume: str = ""


@dataclass(frozen=True, slots=True)
class FileAccess:
    """What a program of the guest wants to do to a file of a volume, as a hook is told.

    `operation` is `open`, `create`, `mkdir`, `unlink`, `rename` and so on; `path` is the path in the
    sandbox, as far as the file system knows it; `flags` are those of open(2); `target` is where a
    rename leads.
    """

    operation: str
    path: str
    context: Context
    flags: int = 0
    target: str = ""

    @property
    def writes(self) -> bool:
        """Whether it changes something, or opens for writing."""
        if self.operation in ("open", "opendir"):
            return bool(self.flags & 3)
        return True


@dataclass(slots=True)
class Attr:
    """What a node is: `mode` with its type bits, `size` in bytes, `blocks` of 512 bytes, times in
    nanoseconds since 1970."""

    mode: int
    ino: int = 0
    size: int = 0
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    blocks: int = 0
    blksize: int = 4096

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class Entry:
    """A node that has a name, and for how many seconds the guest may rely on that."""

    node: Any
    attr: Attr
    entry_timeout: float = 1.0
    attr_timeout: float = 1.0


@dataclass(slots=True)
class DirEntry:
    """A name in a folder. `entry` may be given where it costs nothing more to know."""

    name: str
    mode: int
    ino: int = 0
    entry: Entry | None = None


@dataclass(slots=True)
class Opened:
    """An open file: `handle` is whatever the file system wants to be given with it again.

    `keep_cache`: what the guest has cached of it is still right; of a folder the names in it, which
    it may keep then until it is told of a change (`changed` of the folder). `direct_io`: it must not
    cache.
    """

    handle: Any = None
    keep_cache: bool = False
    direct_io: bool = False


@dataclass(slots=True)
class SetAttr:
    """What is to change; None stays. Times in nanoseconds since 1970."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    now: bool = False
    """Whether both times are to be this moment, for who has a better clock than `atime_ns`."""


@dataclass(slots=True)
class Statistics:
    """How full a file system is, in blocks of `block_size` bytes."""

    blocks: int = 0
    free: int = 0
    available: int = 0
    files: int = 0
    files_free: int = 0
    block_size: int = 4096
    name_length: int = 255


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock on bytes `start` to `end`, both included. `kind` is F_RDLCK, F_WRLCK or F_UNLCK of the
    guest (0, 1, 2); `owner` tells holders in one sandbox apart; `whole` is flock(2)'s."""

    start: int
    end: int
    kind: int
    owner: int
    pid: int = 0
    whole: bool = False


READ_LOCK, WRITE_LOCK, NO_LOCK = 0, 1, 2
WHOLE_FILE = (1 << 63) - 1
