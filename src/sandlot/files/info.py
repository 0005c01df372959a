"""What a file is."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from sandlot.files.paths import to_text
from sandlot.wire import files as wire

_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


def signed(number: int) -> int:
    """A number of 64 bits on the wire as one with a sign: times before 1970 are negative."""
    return number - (1 << 64) if number >> 63 else number


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file in a sandbox, as stat(2) describes it.

    `type` is file, directory, symlink, fifo, socket, device or unknown; `mode` the twelve bits of
    permissions; `target` is where a symbolic link points, else "". `path` as text keeps bytes that
    are no UTF-8 as surrogates, which every call takes back.
    """

    path: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: str = ""
    links: int = 1

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2] or "/"

    @property
    def mtime(self) -> float:
        """When the contents last changed, in seconds since 1970."""
        return self.mtime_ns / 1e9

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.type == "directory"

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "file"

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.type == "symlink"


def from_wire(message: wire.FileInfo, path: str) -> FileInfo:
    """The agent's description, under the path that it has for the user."""
    return FileInfo(
        path=path, type=_TYPES.get(stat.S_IFMT(message.mode), "unknown"),
        size=message.size, mode=stat.S_IMODE(message.mode & 0xFFFF), uid=message.uid,
        gid=message.gid, mtime_ns=signed(message.mtime_ns), target=to_text(message.target),
        links=message.links,
    )  # fmt: skip
