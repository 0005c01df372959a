"""Locks that hold between sandboxes: byte ranges as fcntl(2) has them, whole files as flock(2).

Ranges belong to an owner and are merged, split, upgraded and downgraded as POSIX says; an owner is
never in its own way. The two kinds know nothing of one another. Who waits is served in the order in
which they came. Ranges that wait for one another in a circle are a deadlock (EDEADLK).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from sandlot.filesystem.types import NO_LOCK, WHOLE_FILE, WRITE_LOCK, Context, Lock

MOST_LOCKS = 65536
"""That are held or waited for in one table: more is ENOLCK."""

Owner = tuple[str, str, int]


def owner_of(ctx: Context, lock: Lock) -> Owner:
    """Who holds a lock: owners of different sandboxes, and mounts, are different ones."""
    return ctx.sandbox, ctx.volume, lock.owner


def with_lock(ranges: list[Lock], lock: Lock) -> list[Lock]:
    """The ranges of one owner after one more lock, or after an unlock."""
    left = []
    for old in ranges:
        if old.end < lock.start or old.start > lock.end:
            left.append(old)
            continue
        if old.start < lock.start:
            left.append(Lock(old.start, lock.start - 1, old.kind, old.owner, old.pid))
        if old.end > lock.end:
            left.append(Lock(lock.end + 1, old.end, old.kind, old.owner, old.pid))
    if lock.kind != NO_LOCK:
        left.append(lock)
    return left


@dataclass(slots=True, eq=False)
class _Held:
    start: int
    end: int
    kind: int
    owner: Owner
    pid: int


@dataclass(slots=True, eq=False)
class _Waiting:
    owner: Owner
    lock: Lock
    granted: asyncio.Future[None]


@dataclass(slots=True)
class _OfNode:
    """Of one node: what is held, by range and whole, and who waits."""

    ranges: list[_Held] = field(default_factory=list)
    whole: list[_Held] = field(default_factory=list)
    waiting: list[_Waiting] = field(default_factory=list)

    def held(self, lock: Lock) -> list[_Held]:
        return self.whole if lock.whole else self.ranges

    def conflicts(self, owner: Owner, lock: Lock) -> Iterator[_Held]:
        for held in self.held(lock):
            if (
                held.owner != owner
                and held.start <= lock.end
                and held.end >= lock.start
                and WRITE_LOCK in (held.kind, lock.kind)
            ):
                yield held


class LockTable:
    """The locks of a file system, by node."""

    def __init__(self) -> None:
        self._nodes: dict[Hashable, _OfNode] = {}
        self._waits: dict[Owner, list[tuple[_OfNode, Lock]]] = {}
        self.count = 0

    def get(self, ctx: Context, node: Hashable, lock: Lock) -> Lock | None:
        """A lock that is in the way of this one, or None."""
        at = self._nodes.get(node)
        if at is None or lock.kind == NO_LOCK:
            return None
        held = next(at.conflicts(owner_of(ctx, lock), lock), None)
        if held is None:
            return None
        pid = held.pid if held.owner[:2] == (ctx.sandbox, ctx.volume) else 0
        return Lock(held.start, held.end, held.kind, held.owner[2], pid, lock.whole)

    def set_now(self, ctx: Context, node: Hashable, lock: Lock) -> None:
        """Take, change or release a lock.

        Raises:
            BlockingIOError: another one is in the way.
            OSError: there are too many (ENOLCK).
        """
        owner = owner_of(ctx, lock)
        at = self._nodes.get(node)
        if at is None:
            if lock.kind == NO_LOCK:
                return
            at = self._nodes[node] = _OfNode()
        if lock.kind != NO_LOCK:
            if self.count + 2 > MOST_LOCKS:
                self._tidy(node, at)
                raise OSError(errno.ENOLCK, "too many locks")
            if next(at.conflicts(owner, lock), None) is not None:
                raise BlockingIOError(errno.EAGAIN, "it is locked")
        self._apply(node, at, owner, lock)

    async def set(self, ctx: Context, node: Hashable, lock: Lock, wait: bool) -> None:
        """As `set_now`, with `wait` until it can be had.

        Raises:
            BlockingIOError: it cannot be had now, without `wait`.
            OSError: all would wait for one another (EDEADLK).
        """
        try:
            self.set_now(ctx, node, lock)
            return
        except BlockingIOError:
            if not wait:
                raise
        owner, at = owner_of(ctx, lock), self._nodes[node]
        if lock.whole:  # flock(2) lets go of what it has before it waits for another kind
            self._apply(node, at, owner, Lock(0, lock.end, NO_LOCK, lock.owner, whole=True))
            self._nodes[node] = at
        elif self._deadlock(owner, at, lock):
            raise OSError(errno.EDEADLK, "a deadlock")
        waiting = _Waiting(owner, lock, asyncio.get_running_loop().create_future())
        waits = at, lock
        at.waiting.append(waiting)
        self._waits.setdefault(owner, []).append(waits)
        self.count += 1
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                # It was granted just as its caller went away, who will not know that it has it.
                free = Lock(lock.start, lock.end, NO_LOCK, lock.owner, whole=lock.whole)
                self._apply(node, at, owner, free)
            raise
        finally:
            self.count -= 1
            self._waits[owner].remove(waits)
            if not self._waits[owner]:
                del self._waits[owner]
            if waiting in at.waiting:
                at.waiting.remove(waiting)
            self._tidy(node, at)

    def drop(self, node: Hashable, owner: Owner) -> None:
        """Let go of a lock of a whole file, which is closed."""
        at = self._nodes.get(node)
        if at is not None:
            self._apply(node, at, owner, Lock(0, WHOLE_FILE, NO_LOCK, owner[2], whole=True))

    def release(self, sandbox: str, volume: str) -> None:
        """Let go of everything that one mount holds."""
        for node, at in list(self._nodes.items()):
            for kind in (at.ranges, at.whole):
                kept = [held for held in kind if held.owner[:2] != (sandbox, volume)]
                self.count -= len(kind) - len(kept)
                kind[:] = kept
            self._serve(node, at)

    # -- inside ----------------------------------------------------------------------------

    def _deadlock(self, owner: Owner, at: _OfNode, lock: Lock) -> bool:
        """Whether one who is in the way waits, over others, for the one who asks."""
        seen: set[Owner] = set()
        look = [held.owner for held in at.conflicts(owner, lock)]
        while look:
            other = look.pop()
            if other == owner:
                return True
            if other in seen:
                continue
            seen.add(other)
            for where, wanted in self._waits.get(other, ()):
                if not wanted.whole:
                    look += [held.owner for held in where.conflicts(other, wanted)]
        return False

    def _apply(self, node: Hashable, at: _OfNode, owner: Owner, lock: Lock) -> None:
        """Make an owner hold exactly this in the range of the lock."""
        held = at.held(lock)
        start, end = lock.start, lock.end
        kept: list[_Held] = []
        freed = False
        for one in held:
            if one.owner != owner or one.end < start - 1 or one.start > end + 1:
                kept.append(one)
                continue
            if one.kind == lock.kind:  # touches or overlaps: one lock together
                start, end = min(start, one.start), max(end, one.end)
                continue
            if one.end < lock.start or one.start > lock.end:
                kept.append(one)
                continue
            freed |= lock.kind != WRITE_LOCK
            if one.start < lock.start:
                kept.append(_Held(one.start, lock.start - 1, one.kind, owner, one.pid))
            if one.end > lock.end:
                kept.append(_Held(lock.end + 1, one.end, one.kind, owner, one.pid))
        if lock.kind != NO_LOCK:
            kept.append(_Held(start, end, lock.kind, owner, lock.pid))
        self.count += len(kept) - len(held)
        held[:] = kept
        if freed and at.waiting:
            self._serve(node, at)
        self._tidy(node, at)

    def _serve(self, node: Hashable, at: _OfNode) -> None:
        """Give to those who wait what can be had now."""
        for waiting in list(at.waiting):
            if waiting.granted.done():
                continue
            if next(at.conflicts(waiting.owner, waiting.lock), None) is None:
                at.waiting.remove(waiting)
                waiting.granted.set_result(None)
                self._apply(node, at, waiting.owner, waiting.lock)
        self._tidy(node, at)

    def _tidy(self, node: Hashable, at: _OfNode) -> None:
        if not at.ranges and not at.whole and not at.waiting and self._nodes.get(node) is at:
            del self._nodes[node]
