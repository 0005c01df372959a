"""The messages about files (protocol/README.md, section 8)."""

from __future__ import annotations

from typing import ClassVar

from sandlot.wire.message import Message, tag


class FileRequest(Message):
    """Base of the requests: a path, the folder that it is relative to, and the user who asks."""

    path: bytes = tag(1, default=b"")
    cwd: bytes = tag(2, default=b"")
    user: str = tag(3, default="")


class FileStat(FileRequest):
    """Describe a file."""

    kind: ClassVar[int] = 0x10
    NO_FOLLOW: ClassVar[int] = 1
    flags: int = tag(4, default=0)


class FileList(FileRequest):
    """Describe what is in a folder."""

    kind: ClassVar[int] = 0x11
    RECURSIVE: ClassVar[int] = 1
    flags: int = tag(4, default=0)


class FileRead(FileRequest):
    """Send a file's bytes; a length of 0 is all of them."""

    kind: ClassVar[int] = 0x12
    offset: int = tag(4, default=0)
    length: int = tag(5, default=0)


class FileWrite(FileRequest):
    """Write the bytes that follow to a file. `size` is how many there will be, if that is known."""

    kind: ClassVar[int] = 0x13
    APPEND: ClassVar[int] = 1
    IN_PLACE: ClassVar[int] = 2
    NEW: ClassVar[int] = 4
    PARENTS: ClassVar[int] = 8
    MODE: ClassVar[int] = 16
    TIME: ClassVar[int] = 32
    flags: int = tag(4, default=0)
    mode: int = tag(5, default=0)
    mtime_ns: int = tag(6, default=0)
    size: int = tag(7, default=0)


class FileMkdir(FileRequest):
    """Make a folder."""

    kind: ClassVar[int] = 0x14
    PARENTS: ClassVar[int] = 1
    EXISTS: ClassVar[int] = 2
    MODE: ClassVar[int] = 16
    flags: int = tag(4, default=0)
    mode: int = tag(5, default=0)


class FileRemove(FileRequest):
    """Remove a file, or a folder."""

    kind: ClassVar[int] = 0x15
    RECURSIVE: ClassVar[int] = 1
    MISSING: ClassVar[int] = 2
    flags: int = tag(4, default=0)


class FileRename(FileRequest):
    """Give a file another path."""

    kind: ClassVar[int] = 0x16
    NO_REPLACE: ClassVar[int] = 1
    target: bytes = tag(4, default=b"")
    flags: int = tag(5, default=0)


class FileChange(FileRequest):
    """Change mode, owner or time."""

    kind: ClassVar[int] = 0x17
    RECURSIVE: ClassVar[int] = 1
    MODE: ClassVar[int] = 2
    OWNER: ClassVar[int] = 4
    TIME: ClassVar[int] = 8
    NO_FOLLOW: ClassVar[int] = 16
    flags: int = tag(4, default=0)
    mode: int = tag(5, default=0)
    owner: str = tag(6, default="")
    mtime_ns: int = tag(7, default=0)


class FileLink(FileRequest):
    """Make a link at the path."""

    kind: ClassVar[int] = 0x18
    HARD: ClassVar[int] = 1
    target: bytes = tag(4, default=b"")
    flags: int = tag(5, default=0)


class FileWatch(FileRequest):
    """Tell what changes."""

    kind: ClassVar[int] = 0x19
    RECURSIVE: ClassVar[int] = 1
    flags: int = tag(4, default=0)


class TreeGet(FileRequest):
    """Send a file or a folder as an archive, under the name that is given."""

    kind: ClassVar[int] = 0x1A
    FOLLOW: ClassVar[int] = 1
    PLAIN: ClassVar[int] = 2
    name: bytes = tag(4, default=b"")
    flags: int = tag(5, default=0)


class TreePut(FileRequest):
    """Unpack the archive that follows into a folder."""

    kind: ClassVar[int] = 0x1B
    OWNERS: ClassVar[int] = 1
    MAKE: ClassVar[int] = 2
    flags: int = tag(4, default=0)


class UpperLayer(Message):
    """Send what was written over the image, as a layer of an image."""

    kind: ClassVar[int] = 0x1C


class FileInfo(Message):
    """One file, as stat(2) describes it; `target` is a link's."""

    kind: ClassVar[int] = 0x90
    path: bytes = tag(1, default=b"")
    mode: int = tag(2, default=0)
    size: int = tag(3, default=0)
    uid: int = tag(4, default=0)
    gid: int = tag(5, default=0)
    mtime_ns: int = tag(6, default=0)
    target: bytes = tag(7, default=b"")
    links: int = tag(8, default=0)


class FileEvent(Message):
    """Something changed. Paths are relative to what is watched."""

    kind: ClassVar[int] = 0x91
    CREATE: ClassVar[int] = 1
    MODIFY: ClassVar[int] = 2
    DELETE: ClassVar[int] = 3
    MOVE: ClassVar[int] = 4
    LOST: ClassVar[int] = 5
    FOLDER: ClassVar[int] = 1
    type: int = tag(1, default=0)
    path: bytes = tag(2, default=b"")
    target: bytes = tag(3, default=b"")
    flags: int = tag(4, default=0)


FILE_MESSAGES: tuple[type[Message], ...] = (
    FileStat, FileList, FileRead, FileWrite, FileMkdir, FileRemove, FileRename, FileChange,
    FileLink, FileWatch, TreeGet, TreePut, UpperLayer, FileInfo, FileEvent,
)  # fmt: skip
