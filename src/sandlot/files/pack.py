"""Makes an archive of the host's files, piece by piece. Blocking: made for a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sandlot.files import archive
from sandlot.files.archive import RECORD, Member
from sandlot.files.extract import Transfer

PIECE = 1 << 20
MAX_LINKS = 1 << 18  # files with several names that are remembered; more are sent as copies
_KINDS = {
    stat.S_IFREG: archive.FILE, stat.S_IFDIR: archive.FOLDER, stat.S_IFLNK: archive.SYMLINK,
}  # fmt: skip
_ODD = {
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


class Packer:
    """Reads a file or a folder and yields an archive of it.

    The root is named `name`, or is the archive's own root when that is empty. Sockets, pipes and
    devices are left out, and noted in `done.skipped`.
    """

    def __init__(self, source: str, *, name: bytes = b"", owners: bool = False) -> None:
        self.done = Transfer()
        self._source = os.fsencode(source)
        self._name = name
        self._owners = owners
        self._out = bytearray()
        self._seen: dict[tuple[int, int], bytes] = {}

    def pieces(self) -> Iterator[bytes]:
        """The archive.

        Raises:
            OSError: something of the host's cannot be read; its `filename` says what.
        """
        found = os.lstat(self._source)
        if stat.S_ISDIR(found.st_mode):
            yield from self._folder(self._source, self._name, found)
        else:
            yield from self._entry(self._source, self._name, found)
        yield bytes(self._out) + archive.END

    def _member(self, kind: bytes, found: os.stat_result, size: int, target: bytes) -> Member:
        uid, gid = (found.st_uid, found.st_gid) if self._owners else (0, 0)
        mode = found.st_mode & 0o7777
        return Member(kind, (), mode, uid, gid, size, found.st_mtime_ns, target)

    def _folder(self, path: bytes, name: bytes, found: os.stat_result) -> Iterator[bytes]:
        self.done.files += 1
        own = name + b"/" if name else b"./"
        self._out += archive.header(self._member(archive.FOLDER, found, 0, b""), own)
        folders: list[tuple[bytes, bytes]] = []
        with os.scandir(path) as entries:
            for entry in entries:
                inner = name + b"/" + entry.name if name else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, inner))
                else:
                    yield from self._entry(entry.path, inner, entry.stat(follow_symlinks=False))
        for inner_path, inner in folders:
            yield from self._folder(inner_path, inner, os.lstat(inner_path))

    def _entry(self, path: bytes, name: bytes, found: os.stat_result) -> Iterator[bytes]:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None or kind == archive.FOLDER:
            self.done.skip(path, _ODD.get(stat.S_IFMT(found.st_mode), "it changed meanwhile"))
            return
        self.done.files += 1
        if found.st_nlink > 1:
            identity = (found.st_dev, found.st_ino)
            first = self._seen.get(identity)
            if first is not None:
                member = self._member(archive.HARD_LINK, found, 0, first)
                self._out += archive.header(member, name)
                return
            if len(self._seen) < MAX_LINKS:
                self._seen[identity] = name
        if kind == archive.SYMLINK:
            member = self._member(kind, found, 0, os.readlink(path))
            self._out += archive.header(member, name)
        else:
            yield from self._file(path, name)
        if len(self._out) >= PIECE:
            yield self._take()

    def _file(self, path: bytes, name: bytes) -> Iterator[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                self.done.skip(path, "it changed meanwhile")
                return
            left = found.st_size
            self.done.size += left
            self._out += archive.header(self._member(archive.FILE, found, left, b""), name)
            while left:
                data = os.read(fd, min(left, PIECE))
                # A file that shrinks meanwhile is filled up: its size was promised.
                data = data or bytes(min(left, PIECE))
                left -= len(data)
                if len(data) == PIECE and not self._out:
                    yield data
                    continue
                self._out += data
                if len(self._out) >= PIECE:
                    yield self._take()
            self._out += bytes(-found.st_size % RECORD)
        finally:
            os.close(fd)

    def _take(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data
