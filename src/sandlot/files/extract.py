"""Writes a guest's archive to the host's disk. Nothing in it is believed: every name is opened
below the descriptor of its folder and never through a link, and the amount is bounded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from dataclasses import dataclass, field

from sandlot.errors import FileError, GuestProtocolError
from sandlot.files import archive
from sandlot.files.archive import Failure, Member, stays_inside
from sandlot.files.paths import shown
from sandlot.files.requests import file_error

KEPT_FOLDERS = 64  # descriptors that are held open at once
SPARSE_FROM = 64 * 1024
MAX_SKIPPED = 1000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(1 << 20)
_ODD = {archive.CHAR: "a device", archive.BLOCK: "a device", archive.FIFO: "a pipe"}


@dataclass(kw_only=True)
class Transfer:
    """What was copied. `skipped` has what was left out, at most the first thousand, and why each."""

    files: int = 0
    size: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, name: bytes | str, why: str) -> None:
        """Note something that was left out."""
        if len(self.skipped) < MAX_SKIPPED:
            text = name if isinstance(name, str) else name.decode(errors="surrogateescape")
            self.skipped[text] = why


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a guest may put on the host's disk, and which links: inside, all or none."""

    max_size: int
    max_files: int
    links: str = "inside"
    owners: bool = False


class Extractor:
    """Puts the members of one archive below `target`, or at it when it is a single file.

    Blocking: made for a thread. `close` lets go of everything and removes an unfinished file.
    """

    def __init__(self, target: str, source: str, limits: Limits) -> None:
        self.done = Transfer()
        self._target = os.fsencode(target)
        self._source = source
        self._limits = limits
        self._reader = archive.ArchiveReader()
        self._root = -1
        self._path: list[bytes] = []  # of the folders in `_open`
        self._open: list[int] = []
        self._deep: tuple[tuple[bytes, ...], int] | None = None  # one folder below those
        self._late: list[tuple[Member, int]] = []
        self._file = -1
        self._member: Member | None = None
        self._left = 0
        self._hole = False
        self._single: tuple[int, bytes, bytes] | None = None  # folder, temporary name, name

    # -- the archive -------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Go on with what came.

        Raises:
            GuestProtocolError: the guest sends no honest archive.
            FileError: the guest could not go on, or a limit was reached.
            OSError: the host's disk refuses something.
        """
        for event in self._reader.feed(data):
            if isinstance(event, memoryview):
                self._contents(event)
            elif isinstance(event, Failure):
                path = event.path.decode(errors="surrogateescape")
                raise file_error(event.errno, event.text, path or self._source)
            else:
                self._begin(event)

    def finish(self) -> None:
        """The archive's end: folders get their modes and times.

        Raises:
            GuestProtocolError: the end has not come.
        """
        if not self._reader.complete or self._left:
            raise GuestProtocolError("the guest's archive ends in the middle")
        for member, mode in reversed(self._late):
            fd = self._enter(member.parts)
            self._owner(fd, member)
            os.fchmod(fd, mode)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))

    def close(self) -> None:
        """Let go of every descriptor."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._single is not None:
            folder, temporary, _ = self._single
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            os.close(folder)
            self._single = None
        self._leave(0)
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _begin(self, member: Member) -> None:
        self.done.files += 1
        if self.done.files > self._limits.max_files:
            raise FileError(
                f"{shown(self._source)} holds more than max_files={self._limits.max_files} files",
                path=self._source, number=errno.EFBIG, hint="raise max_files=",
            )  # fmt: skip
        if self.done.size + member.size > self._limits.max_size:
            raise FileError(
                f"{shown(self._source)} is larger than max_size={self._limits.max_size} bytes",
                path=self._source, number=errno.EFBIG, hint="raise max_size=",
            )  # fmt: skip
        self.done.size += member.size
        if not member.parts:
            self._top(member)
            return
        if self._root < 0:
            raise GuestProtocolError("the guest's archive does not begin with its root")
        folder, name = self._enter(member.parts[:-1]), member.parts[-1]
        if member.kind == archive.FOLDER:
            self._folder(folder, name, member)
        elif member.kind == archive.FILE:
            self._start(self._fresh(folder, name), member)
        elif member.kind == archive.SYMLINK:
            self._symlink(folder, name, member)
        elif member.kind == archive.HARD_LINK:
            self._hard_link(folder, name, member)
        else:
            self._skip(member)

    def _skip(self, member: Member, why: str = "") -> None:
        self.done.files -= 1
        self.done.skip(b"/".join(member.parts), why or _ODD.get(member.kind, "a link"))

    # -- entries -----------------------------------------------------------------------------

    def _top(self, member: Member) -> None:
        """The root itself: a folder, or the only file."""
        if self._root >= 0 or self._single is not None:
            raise GuestProtocolError("the guest's archive has two roots")
        if member.kind == archive.FOLDER:
            os.makedirs(self._target, exist_ok=True)
            self._root = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _open_up(self._root)
            self._late.append((member, member.mode & 0o777))
            return
        above, name = os.path.split(self._target.rstrip(b"/"))
        os.makedirs(above or b".", exist_ok=True)
        folder = os.open(above or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        temporary = b".sandlot-" + secrets.token_hex(8).encode()
        self._single = (folder, temporary, name)
        if member.kind == archive.FILE:
            self._start(os.open(temporary, _NEW, 0o600, dir_fd=folder), member)
        elif member.kind == archive.SYMLINK and self._limits.links == "all":
            os.symlink(member.target, temporary, dir_fd=folder)
            self._stamp(folder, temporary, member)
            self._settle_single()
        else:
            self._skip(member)
            self._single = None
            os.close(folder)

    def _settle_single(self) -> None:
        assert self._single is not None
        folder, temporary, name = self._single
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        self._single = None
        os.close(folder)

    def _fresh(self, folder: int, name: bytes) -> int:
        """A new file, in place of one that is there already."""
        try:
            return os.open(name, _NEW, 0o600, dir_fd=folder)
        except FileExistsError:
            os.unlink(name, dir_fd=folder)
            return os.open(name, _NEW, 0o600, dir_fd=folder)

    def _start(self, fd: int, member: Member) -> None:
        self._file, self._member, self._left = fd, member, member.size
        self._hole = False
        if not member.size:
            self._end()

    def _contents(self, piece: memoryview) -> None:
        assert self._member is not None
        size = len(piece)
        self._left -= size
        for at in range(0, size, len(_ZEROS)):
            self._put(piece[at : at + len(_ZEROS)])
        if not self._left:
            self._end()

    def _put(self, piece: memoryview) -> None:
        size = len(piece)
        if size >= SPARSE_FROM and piece == _ZEROS[:size]:
            os.lseek(self._file, size, os.SEEK_CUR)
            self._hole = True
            return
        while piece:
            piece = piece[os.write(self._file, piece) :]

    def _end(self) -> None:
        fd, member = self._file, self._member
        assert member is not None
        if self._hole:
            os.ftruncate(fd, member.size)
        self._owner(fd, member)
        os.fchmod(fd, member.mode & 0o777)
        os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        self._file, self._member = -1, None
        os.close(fd)
        if self._single is not None:
            self._settle_single()

    def _owner(self, fd: int, member: Member) -> None:
        if self._limits.owners:
            os.fchown(fd, member.uid, member.gid)

    def _folder(self, folder: int, name: bytes, member: Member) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._place(member)
                ) from None
            if not found.st_mode & stat.S_IWUSR:
                fd = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    _open_up(fd)
                finally:
                    os.close(fd)
        self._late.append((member, member.mode & 0o777))

    def _symlink(self, folder: int, name: bytes, member: Member) -> None:
        allowed = self._limits.links
        if allowed == "none" or (allowed == "inside" and not stays_inside(member)):
            leads = shown(member.target)
            why = (
                "a link" if allowed == "none" else f"a link that leads outside the copy, to {leads}"
            )
            self._skip(member, why)
            return
        try:
            os.symlink(member.target, name, dir_fd=folder)
        except FileExistsError:
            os.unlink(name, dir_fd=folder)
            os.symlink(member.target, name, dir_fd=folder)
        self._stamp(folder, name, member)

    def _stamp(self, folder: int, name: bytes, member: Member) -> None:
        if self._limits.owners:
            os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        times = (member.mtime_ns, member.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)

    def _hard_link(self, folder: int, name: bytes, member: Member) -> None:
        parts = archive.split_name(member.target)
        if not parts:
            raise GuestProtocolError("the guest's archive has a hard link to its root")
        above = os.dup(self._root)
        try:
            for part in parts[:-1]:
                below = os.open(part, _FOLDER, dir_fd=above)
                os.close(above)
                above = below
            found = os.stat(parts[-1], dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise GuestProtocolError("the guest's archive has a hard link to a folder")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            os.link(parts[-1], name, src_dir_fd=above, dst_dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            self._skip(member, "another name of something that was left out")
        finally:
            os.close(above)

    # -- folders -----------------------------------------------------------------------------

    def _place(self, member: Member) -> str:
        return os.fsdecode(os.path.join(self._target, *member.parts))

    def _enter(self, parts: tuple[bytes, ...]) -> int:
        """The descriptor of a folder below the root; made when it is missing."""
        if self._deep is not None and self._deep[0] == parts:
            return self._deep[1]
        common = 0
        while (
            common < len(self._path) and common < len(parts) and self._path[common] == parts[common]
        ):
            common += 1
        self._leave(common)
        fd = self._open[-1] if self._open else self._root
        for depth, part in enumerate(parts[common:], common):
            below = self._below(fd, part)
            if depth < KEPT_FOLDERS:
                self._path.append(part)
                self._open.append(below)
            else:
                if self._deep is not None:
                    os.close(self._deep[1])
                self._deep = (parts, below)
            fd = below
        return fd

    def _below(self, fd: int, name: bytes) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=fd)
        except FileNotFoundError:
            os.mkdir(name, 0o755, dir_fd=fd)
            return os.open(name, _FOLDER, dir_fd=fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                where = os.fsdecode(os.path.join(self._target, name))
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where) from None
            raise

    def _leave(self, depth: int) -> None:
        if self._deep is not None:
            os.close(self._deep[1])
            self._deep = None
        while len(self._open) > depth:
            os.close(self._open.pop())
            self._path.pop()


def _open_up(folder: int) -> None:
    """Let ourselves write into a folder of ours; it gets the archive's mode at the end."""
    found = os.fstat(folder)
    if not found.st_mode & stat.S_IWUSR and found.st_uid == os.geteuid():
        os.fchmod(folder, stat.S_IMODE(found.st_mode) | stat.S_IRWXU)
