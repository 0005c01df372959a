"""How much of a volume with a size is used, counted by all programs that have it open.

It is a small file of two numbers. Locks of open file descriptions (fcntl(2)), which end with their
program, say more by the bytes that they are on:

    0                the two numbers are being changed
    TURN + inode     a file is being changed: nobody else counts it meanwhile
    OPEN + inode     shared, by every program that has the file open: its last one gives the room of
                     an unlinked file back

What is about to be taken is counted before it is taken, so that a program that dies leaves at most
too much in the count, and never too little. The first that opens a volume after such a death counts
all there is anew.

What counts is what a file takes of the disk, but not more than its length in whole blocks, so that
what the host's file system needs for itself, and finds out later, is nobody's; 4 KiB for a folder,
and 512 bytes for every name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from pathlib import Path
from struct import Struct

from sandlot.filesystem.host.locks import AVAILABLE

BLOCK = 4096
NAME = 512
_TURN, _OPEN = 1 << 60, 1 << 61
_MASK = _TURN - 1
_NUMBERS = Struct("<8sqq")
_MAGIC = b"SLUSAGE1"
_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 0)
_SETLKW: int = getattr(fcntl, "F_OFD_SETLKW", 0)
_QUICK_WALK = 0.2  # seconds: a volume that is counted in that time is counted at each first opening

__all__ = ["AVAILABLE", "BLOCK", "NAME", "Ledger", "count", "full", "room", "whole"]


def whole(size: int) -> int:
    """Bytes, in whole blocks."""
    return -(-size // BLOCK) * BLOCK


def room(st: os.stat_result, *, by_length: bool = False) -> int:
    """What counts of an inode, its names aside; `by_length` where a host tells too late what a
    file takes of the disk."""
    if stat.S_ISDIR(st.st_mode):
        return BLOCK
    if stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode):
        return whole(st.st_size) if by_length else min(whole(st.st_size), st.st_blocks * 512)
    return 0


def full() -> OSError:
    """What a guest is told that wants more than there is."""
    return OSError(errno.ENOSPC, "no room left in this volume")


class Ledger:
    """The count of one volume, opened. Blocking; made for a thread where it says so."""

    def __init__(self, path: Path, data: Path, size: int) -> None:
        self.size = size
        self._path = path
        self._data = data
        self._fd = -1
        self.by_length = False

    # -- opening and closing ---------------------------------------------------------------

    def open(self) -> None:
        """Begin to count. May take long: for a thread.

        Raises:
            OSError: the host refuses.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.by_length = not _tells_at_once(self._path.parent)
        try:
            self._begin()
        except BaseException:
            self._shut()
            raise

    def _begin(self) -> None:
        """Become one of the users: the first one, who may count, or one more."""
        while True:
            # In this order: who has the numbers' lock sees nobody else between counting and sharing.
            self._lock(0, fcntl.F_WRLCK)
            try:
                first = True
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    first = False
                used, users = self._read()
                if first:
                    used, users = self._counted(used, users), 0
                try:
                    fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # somebody looks whether there are others
                    continue
                self._write(used, users + 1)
                return
            finally:
                self._lock(0, fcntl.F_UNLCK)

    def _counted(self, used: int, users: int) -> int:
        """What is used, for the first user: counted anew if the last ones died, or if it is quick."""
        slow = self._path.with_name("usage.slow")
        if users == 0 and slow.exists():
            return used
        began = time.monotonic()
        used = count(self._data, by_length=self.by_length)
        if time.monotonic() - began > _QUICK_WALK:
            slow.touch()
        else:
            slow.unlink(missing_ok=True)
        return used

    def close(self) -> None:
        """Stop counting. Closing twice is allowed."""
        if self._fd < 0:
            return
        self._lock(0, fcntl.F_WRLCK)
        used, users = self._read()
        self._write(used, max(users - 1, 0))
        self._shut()  # with its locks

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- the count -------------------------------------------------------------------------

    def _read(self) -> tuple[int, int]:
        data = os.pread(self._fd, _NUMBERS.size, 0)
        if len(data) == _NUMBERS.size:
            magic, used, users = _NUMBERS.unpack(data)
            if magic == _MAGIC:
                return used, users
        return 0, 1  # never counted

    def _write(self, used: int, users: int) -> None:
        os.pwrite(self._fd, _NUMBERS.pack(_MAGIC, max(used, 0), users), 0)

    @property
    def used(self) -> int:
        """Bytes that are used, those included that are being taken."""
        return self._read()[0]

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return max(self.size - self.used, 0)

    def take(self, size: int, *, least: int | None = None) -> int:
        """Count bytes that are about to be used, `least` or more of them; how many is returned.

        Raises:
            OSError: there is no room for them (ENOSPC).
        """
        if size <= 0:
            return 0
        self._lock(0, fcntl.F_WRLCK)
        try:
            used, users = self._read()
            free = self.size - used
            if size > free:
                if least is None or least > free:
                    raise full()
                size = free // BLOCK * BLOCK
            self._write(used + size, users)
            return size
        finally:
            self._lock(0, fcntl.F_UNLCK)

    def settle(self, difference: int) -> None:
        """Correct the count by what was really used, or given back."""
        if difference:
            self._lock(0, fcntl.F_WRLCK)
            try:
                used, users = self._read()
                self._write(used + difference, users)
            finally:
                self._lock(0, fcntl.F_UNLCK)

    # -- files -----------------------------------------------------------------------------

    def try_turn(self, inode: int) -> bool:
        """Begin to change a file, unless another program does."""
        try:
            self._lock(_TURN + (inode & _MASK), fcntl.F_WRLCK, wait=False)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def end_turn(self, inode: int) -> None:
        """The file was changed."""
        self._lock(_TURN + (inode & _MASK), fcntl.F_UNLCK)

    def note_open(self, inode: int) -> None:
        """This program has a file open."""
        self._lock(_OPEN + (inode & _MASK), fcntl.F_RDLCK)

    def note_closed(self, inode: int) -> None:
        """It has not any more."""
        self._lock(_OPEN + (inode & _MASK), fcntl.F_UNLCK)

    def open_elsewhere(self, inode: int) -> bool:
        """Whether another program has a file open, which this one has not. In the file's turn."""
        at = _OPEN + (inode & _MASK)
        try:
            self._lock(at, fcntl.F_WRLCK, wait=False)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return True
            raise
        self._lock(at, fcntl.F_UNLCK)
        return False

    def _lock(self, at: int, kind: int, *, wait: bool = True) -> None:
        fcntl.fcntl(self._fd, _SETLKW if wait else _SETLK, _flock(kind, at))


_LINUX, _APPLE = Struct("@hhqqi4x"), Struct("@qqihh")


def _flock(kind: int, at: int) -> bytes:
    if sys.platform == "darwin":
        return _APPLE.pack(at, 1, 0, kind, os.SEEK_SET)
    return _LINUX.pack(kind, os.SEEK_SET, at, 1, 0)


def _tells_at_once(folder: Path) -> bool:
    """Whether the host says at once how much of the disk a file takes; some do only after a while."""
    probe = folder / f".probe-{os.getpid()}-{os.urandom(4).hex()}"
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        probe.unlink()
        os.write(descriptor, os.urandom(4 * BLOCK))
        return os.fstat(descriptor).st_blocks * 512 >= 4 * BLOCK
    except OSError:
        return False
    finally:
        os.close(descriptor)


def count(top: Path, *, by_length: bool = False) -> int:
    """What counts of all that is in a folder, however deep it is."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    total = 0
    seen: set[tuple[int, int]] = set()
    here = os.open(top, flags)
    waiting: list[list[str]] = []
    folders: list[str] | None = None
    try:
        while True:
            if folders is None:
                folders = []
                with os.scandir(here) as found:
                    for item in found:
                        st = item.stat(follow_symlinks=False)
                        total += NAME
                        if stat.S_ISDIR(st.st_mode):
                            folders.append(item.name)
                        elif st.st_nlink > 1:
                            if (st.st_dev, st.st_ino) in seen:
                                continue
                            seen.add((st.st_dev, st.st_ino))
                        total += room(st, by_length=by_length)
            if folders:
                name = folders.pop()
                try:
                    below = os.open(name, flags, dir_fd=here)
                except OSError:
                    continue
                os.close(here)
                here = below
                waiting.append(folders)
                folders = None
            elif waiting:
                above = os.open("..", flags, dir_fd=here)
                os.close(here)
                here = above
                folders = waiting.pop()
            else:
                return total
    finally:
        os.close(here)
