"""Files into a remote: cut, sealed and packed by threads, packs sent while the next are made."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sandlot.remote.chunking import GAP, PAGE, SEGMENT, chunks
from sandlot.remote.index import (
    NAME,
    Entry,
    Place,
    Rows,
    make_index,
    make_list,
    pack_key,
    parse_index,
)
from sandlot.remote.manifest import StoredPart
from sandlot.remote.repository import Repository, at_once
from sandlot.remote.sealing import LEVEL, padded
from sandlot.snapshot.integrity import digest_sparse

PACK = 12 << 20
PACKS_AT_ONCE = 4
LIST = 1 << 19
"""Bytes of the list of a file's chunks that are a chunk of their own."""
Told = Callable[[int], object]
Piece = tuple[Entry, bytes | None]


class Sender:
    """Sends files of one push. Closed by `finish`, or by `abandon`.

        sender = Sender(repository)
        parts = [await sender.file("disk/0", path)]
        await sender.finish()

    Args:
        repository: with its index loaded.
        level: of the compression.
        told: called with the bytes of each piece of a file that was looked at.
    """

    def __init__(
        self, repository: Repository, *, level: int = LEVEL, told: Told = lambda _: None
    ) -> None:
        self._repository = repository
        self._level = level
        self._told = told
        self._threads = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "sandlot-push")
        self._claimed: set[bytes] = set()
        self._pack: list[tuple[bytes, bytes]] = []
        self._filled = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._new: dict[bytes, list[tuple[bytes, int, int]]] = {}
        self._stopped = False
        self.moved = 0
        """Bytes of packs that were sent."""
        self.added = 0
        """Bytes of chunks that were not there before, as they are stored."""

    async def adopt(self) -> None:
        """Count on packs that a push of this machine has sent, which was cut off after."""
        repository = self._repository
        sent = repository.known.sent()

        async def one(pack: bytes, data: bytes) -> None:
            if not await repository.store.has(pack_key(pack)):
                repository.known.forget_sent([pack])
                return
            for each, rows in parse_index(data).items():
                self._note(each, list(rows))

        await at_once([partial(one, pack, data) for pack, data in sent.items()])

    def _note(self, pack: bytes, rows: list[tuple[bytes, int, int]]) -> None:
        self._new[pack] = rows
        for id, offset, length in rows:
            self._repository.index[id] = Place(pack, offset, length)

    # -- files -----------------------------------------------------------------------------

    async def file(
        self, name: str, path: Path, *, contents: str = "", frozen: bool = True
    ) -> StoredPart:
        """Send a file, which is not written to meanwhile.

        Args:
            name: the part's.
            path: where it is.
            contents: the digest of its contents, where it is known.
            frozen: it is never written to again, so that its chunks may be remembered.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            known = self._repository.known.chunks(status) if frozen else None
            if known is not None and await self._again(descriptor, known[1]):
                contents, entries = known
            else:
                reading = None
                if not contents:
                    reading = asyncio.create_task(asyncio.to_thread(digest_sparse, path))
                try:
                    entries = await self._read(descriptor, list(_segments(descriptor)))
                finally:
                    if reading is not None:
                        await asyncio.wait([reading])
                if reading is not None:
                    contents = reading.result()
                if frozen:
                    self._repository.known.note_chunks(status, contents, entries)
        finally:
            os.close(descriptor)
        return StoredPart(
            name, status.st_size, sum(each.length for each in entries), contents,
            await self._list(make_list(entries)),
        )  # fmt: skip

    async def _again(self, descriptor: int, entries: list[Entry]) -> bool:
        """Send those chunks of a file that the remote has not; False if the file has others."""
        index = self._repository.index
        missing = [each for each in entries if each.id not in index]
        if missing != await self._read(descriptor, [(e.offset, e.length) for e in missing]):
            return False
        self._told(sum(each.length for each in entries) - sum(each.length for each in missing))
        return True

    async def _read(self, descriptor: int, segments: list[tuple[int, int]]) -> list[Entry]:
        loop = asyncio.get_running_loop()
        waiting: deque[asyncio.Future[list[Piece]]] = deque()
        entries: list[Entry] = []

        async def take() -> None:
            pieces = await waiting[0]
            waiting.popleft()
            for entry, sealed in pieces:
                entries.append(entry)
                if sealed is not None:
                    await self.add(entry.id, sealed)

        try:
            for start, length in segments:
                work = loop.run_in_executor(self._threads, self._segment, descriptor, start, length)
                waiting.append(work)
                if len(waiting) > self._threads._max_workers + 2:
                    await take()
                self._told(length)
            while waiting:
                await take()
        finally:
            if waiting:  # the descriptor is not closed under them
                await asyncio.wait(waiting)
        return entries

    def _segment(self, descriptor: int, start: int, length: int) -> list[Piece]:
        """In a thread: the chunks of a piece of a file, sealed where they are new."""
        if self._stopped:
            return []
        data = memoryview(_pread(descriptor, start, length))
        sealer, found = self._repository.sealer, []
        for begin, end in chunks(data, sealer.cuts):
            piece = data[begin:end]
            id = sealer.chunk_id(piece)
            found.append((Entry(start + begin, end - begin, id), self._sealed(id, piece)))
        return found

    def _sealed(self, id: bytes, piece: bytes | memoryview) -> bytes | None:
        """A chunk that has to be sent; None when it is there, or another thread sends it."""
        if id in self._repository.index or id in self._claimed:
            return None
        # Two threads at once seal it twice, which the packer sees.
        return self._repository.sealer.seal_chunk(id, piece, self._level)

    async def _list(self, data: bytes) -> tuple[tuple[bytes, int], ...]:
        lists = []
        for at in range(0, len(data), LIST):
            piece = data[at : at + LIST]
            id = self._repository.sealer.chunk_id(piece)
            sealed = self._sealed(id, piece)
            if sealed is not None:
                await self.add(id, sealed)
            lists.append((id, len(piece)))
        return tuple(lists)

    # -- packs -----------------------------------------------------------------------------

    async def add(self, id: bytes, sealed: bytes) -> None:
        """Send a sealed chunk, with others."""
        if id in self._claimed:
            return
        self._claimed.add(id)
        self._pack.append((id, sealed))
        self._filled += len(sealed)
        self.added += len(sealed)
        if self._filled >= PACK:
            await self._send()

    async def _send(self) -> None:
        if not self._pack:
            return
        taken, self._pack, self._filled = self._pack, [], 0
        while len(self._sending) >= PACKS_AT_ONCE:
            await self._wait(asyncio.FIRST_COMPLETED)
        self._sending.add(asyncio.create_task(self._one_pack(taken)))

    async def _one_pack(self, taken: list[tuple[bytes, bytes]]) -> None:
        pack, rows, at = secrets.token_bytes(NAME), [], 0
        for id, sealed in taken:
            rows.append((id, at, len(sealed)))
            at += len(sealed)
        data = b"".join([*(sealed for _, sealed in taken), os.urandom(padded(at) - at)])
        await self._repository.store.put(pack_key(pack), data)
        self.moved += len(data)
        self._repository.known.note_sent(pack, make_index({pack: rows}))
        self._note(pack, rows)

    async def _wait(self, when: str) -> None:
        if self._sending:
            done, self._sending = await asyncio.wait(self._sending, return_when=when)
            for task in done:
                task.result()

    @property
    def packs(self) -> set[bytes]:
        """Those that were sent."""
        return set(self._new)

    # -- the end ---------------------------------------------------------------------------

    async def finish(self, more: Mapping[bytes, Rows] | None = None) -> None:
        """Have everything in the remote, with an index of it, and of `more` packs."""
        try:
            await self._send()
            while self._sending:
                await self._wait(asyncio.ALL_COMPLETED)
            if self._new or more:
                await self._repository.put_index({**(more or {}), **self._new})
                self._repository.known.forget_sent(list(self._new))
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Send nothing more."""
        self._stopped = True
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        self._sending.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _extents(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where a file has something: (begin, end), whole pages. Holes that are no longer than the zeros
    within a chunk are not told: so it does not matter which of the two a file has."""
    size, position = os.fstat(descriptor).st_size, 0
    begin, stop = 0, -1
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % PAGE
        if stop < 0 or start - stop >= GAP:
            if stop >= 0:
                yield begin, stop
            begin = start
        stop = min(position + -position % PAGE, size)
    if stop >= 0:
        yield begin, stop


def _segments(descriptor: int) -> Iterator[tuple[int, int]]:
    """What there is in a file, in pieces that are cut by themselves: (offset, length)."""
    for begin, end in _extents(descriptor):
        while begin < end:
            stop = min(begin - begin % SEGMENT + SEGMENT, end)
            yield begin, stop - begin
            begin = stop


def _pread(descriptor: int, start: int, length: int) -> bytes:
    data = os.pread(descriptor, length, start)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), start + len(data))
        if not more:
            raise OSError(errno.EIO, "a file became shorter while it was pushed")
        data += more
    return data
