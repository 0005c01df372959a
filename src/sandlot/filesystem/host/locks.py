"""Locks that hold against everybody: other sandboxes, other programs, and the host's own.

Each owner of locks in a file has a descriptor of its own there, whose "open file description" locks
(fcntl F_OFD_SETLK) are that owner's. It is closed with the owner's last lock.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct

from sandlot.filesystem.host.tree import Descriptor, Key
from sandlot.filesystem.locks import with_lock
from sandlot.filesystem.types import NO_LOCK, READ_LOCK, WHOLE_FILE, WRITE_LOCK, Lock

MOST_OWNERS = 8192
"""Descriptors for locks, of one file system."""
MOST_RANGES = 8192
"""Ranges that one owner may have locked in one file."""
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two attempts to get a lock that is waited for; they grow."""

Owner = tuple[Key, str, str, int, bool]
_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 0)
_GETLK: int = getattr(fcntl, "F_OFD_GETLK", 0)
_APPLE = sys.platform == "darwin"
_FLOCK = Struct("@qqihh") if _APPLE else Struct("@hhqqi4x")
_KINDS = {READ_LOCK: fcntl.F_RDLCK, WRITE_LOCK: fcntl.F_WRLCK, NO_LOCK: fcntl.F_UNLCK}
AVAILABLE = bool(_SETLK and _GETLK)
"""Whether this host has such locks; else those of a sandbox are its kernel's own matter."""


def _pack(lock: Lock) -> bytes:
    length = 0 if lock.end >= WHOLE_FILE else lock.end - lock.start + 1
    if _APPLE:
        return _FLOCK.pack(lock.start, length, 0, _KINDS[lock.kind], os.SEEK_SET)
    return _FLOCK.pack(_KINDS[lock.kind], os.SEEK_SET, lock.start, length, 0)


def _unpack(data: bytes) -> Lock | None:
    if _APPLE:
        start, length, pid, kind, _ = _FLOCK.unpack(data)
    else:
        kind, _, start, length, pid = _FLOCK.unpack(data)
    if kind == fcntl.F_UNLCK:
        return None
    end = start + length - 1 if length else WHOLE_FILE
    return Lock(start, end, READ_LOCK if kind == fcntl.F_RDLCK else WRITE_LOCK, 0, max(pid, 0))


@dataclass(slots=True)
class _Held:
    """What one owner has locked in one file."""

    descriptor: Descriptor
    ranges: list[Lock] = field(default_factory=list)


class Locks:
    """Who has locked what in the files of one volume."""

    def __init__(self) -> None:
        self._held: dict[Owner, _Held] = {}
        self._waiting: dict[Owner, Lock] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, who: Owner, lock: Lock, open_file: Callable[[], Descriptor]) -> Lock | None:
        """A lock of somebody else's that is in the way."""
        held = self._held.get(who)
        descriptor = held.descriptor if held is not None else open_file()
        found = _unpack(fcntl.fcntl(descriptor.number, _GETLK, _pack(lock)))
        if found is None:
            return None
        for other, holds in self._held.items():
            if other != who and other[0] == who[0] and not other[4]:
                for one in holds.ranges:
                    if one.start <= found.start <= one.end and one.kind == found.kind:
                        pid = one.pid if other[1:3] == who[1:3] else 0
                        return Lock(found.start, found.end, found.kind, other[3], pid)
        return found

    def set(self, who: Owner, lock: Lock, open_file: Callable[[], Descriptor]) -> None:
        """Take, change or release a lock.

        Raises:
            BlockingIOError: somebody else's is in the way.
        """
        held = self._held.get(who)
        if held is None:
            if lock.kind == NO_LOCK:
                return
            if len(self._held) >= MOST_OWNERS:
                raise OSError(errno.ENOLCK, "too many locks in this volume")
            held = _Held(open_file())
        ranges = [] if lock.whole else with_lock(held.ranges, lock)
        if len(ranges) > MOST_RANGES:
            raise OSError(errno.ENOLCK, "too many locks in this file")
        if lock.whole:
            how = {READ_LOCK: fcntl.LOCK_SH, WRITE_LOCK: fcntl.LOCK_EX, NO_LOCK: fcntl.LOCK_UN}
            fcntl.flock(held.descriptor.number, how[lock.kind] | fcntl.LOCK_NB)
            ranges = [] if lock.kind == NO_LOCK else [lock]
        else:
            try:
                fcntl.fcntl(held.descriptor.number, _SETLK, _pack(lock))
            except PermissionError as error:  # EACCES is another word for EAGAIN here
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        held.ranges = ranges
        if ranges:
            self._held[who] = held
        else:
            self._held.pop(who, None)

    async def wait(self, who: Owner, lock: Lock, open_file: Callable[[], Descriptor]) -> None:
        """Take a lock as soon as it can be had.

        Raises:
            OSError: whoever has it waits for this owner (EDEADLK).
        """
        pause = FIRST_PAUSE
        self._waiting[who] = lock
        try:
            while True:
                try:
                    self.set(who, lock, open_file)
                    return
                except BlockingIOError:
                    if not lock.whole:
                        self._refuse_deadlock(who)
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, LONGEST_PAUSE)
        finally:
            self._waiting.pop(who, None)

    def _refuse_deadlock(self, who: Owner) -> None:
        """Follow who waits for whom. Processes outside of these sandboxes are not known."""
        me, seen = who[1:], {who}
        ahead = [who]
        while ahead:
            waiter = ahead.pop()
            lock = self._waiting.get(waiter)
            for holder in self._in_the_way(waiter, lock) if lock is not None else ():
                if holder == me:
                    raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
                for other in self._waiting:
                    if other[1:] == holder and other not in seen:
                        seen.add(other)
                        ahead.append(other)

    def _in_the_way(self, who: Owner, lock: Lock) -> list[tuple[str, str, int, bool]]:
        return [
            other[1:]
            for other, held in self._held.items()
            if other[0] == who[0] and other != who and not other[4]
            and any(
                one.start <= lock.end and lock.start <= one.end
                and WRITE_LOCK in (one.kind, lock.kind)
                for one in held.ranges
            )
        ]  # fmt: skip

    def drop(self, who: Owner) -> None:
        """Let go of all that an owner has in a file."""
        self._held.pop(who, None)

    def clear(self, sandbox: str, volume: str) -> None:
        """Let go of all locks of a sandbox."""
        for who in [who for who in self._held if who[1:3] == (sandbox, volume)]:
            del self._held[who]
