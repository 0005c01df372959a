"""Files that are read before all of them is here: what is asked for is fetched first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sandlot.errors import RemoteDamaged, RemoteError, RemoteUnreachable
from sandlot.remote.hot import MOST
from sandlot.remote.index import Place
from sandlot.remote.partial import Partial, keep_bits
from sandlot.remote.receiving import BETWEEN, Receiver, Told, Wanted
from sandlot.remote.repository import RING, Repository

AHEAD = 512 << 10
"""Bytes, as they are stored, that are fetched with what was asked for, since they lie behind it."""
AT_HAND = 256 << 10
"""Bytes that are read without a thread, which would take longer: they came just now, as a rule."""
BATCH = 8 << 20
"""Bytes that the rest is fetched in, at once."""
BATCHES = 2
QUIET = 0.2
"""Seconds after something was read in which the rest waits: more is read soon, and a machine that
starts needs the processors."""
BEGINNING = 20.0
"""Seconds in which what is read is noted."""
PATIENCE = 2.0
"""Seconds that it waits at most, for each batch."""
KEEP = 3.0
"""Seconds after which what is here is written down."""
AGAIN = 3.0
"""Seconds until a remote that cannot be reached is asked again."""
_sync = os.fdatasync if hasattr(os, "fdatasync") else os.fsync
Chunk = tuple[int, int]
"""Which file, which of its chunks."""


class OnDemand:
    """Files of which some chunks are here. `close` it at the end.

    Args:
        repository: with its index loaded.
        files: for each, where it is and what of it is here.
        told: called with the bytes of each piece that came.
        tell: called with what a user should know, in one line.
    """

    def __init__(
        self, repository: Repository, files: Sequence[tuple[Path, Partial]], *,
        told: Told = lambda _: None, tell: Callable[[str], object] = lambda _: None,
    ) -> None:  # fmt: skip
        self._repository = repository
        self._receiver = Receiver(repository, told=told)
        self._tell = tell
        self.parts = [part for _, part in files]
        self._descriptors = [os.open(path, os.O_RDWR | os.O_CLOEXEC) for path, _ in files]
        self._coming: dict[Chunk, asyncio.Task[None]] = {}
        self._asked = 0
        self._last = time.monotonic()  # when something was read
        self._reached = True
        self._first: dict[Chunk, None] = {}
        self._beginning = time.monotonic() + BEGINNING
        self.waited = 0
        """How many reads had to wait for something to be fetched."""

    @property
    def moved(self) -> int:
        """Bytes that were fetched."""
        return self._receiver.moved

    @property
    def whole(self) -> bool:
        """Whether all of all files is here."""
        return not any(part.left for part in self.parts)

    async def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a file, which come now if they are not here. While the remote cannot be reached
        this waits.

        Raises:
            RemoteError: they cannot be had.
        """
        part = self.parts[number]
        self._last = time.monotonic()
        wanted = list(part.missing(part.touched(offset, length)))
        if len(self._first) < MOST and time.monotonic() < self._beginning:
            self._first.update(((number, each), None) for each in part.touched(offset, length))
        if wanted:
            self.waited += 1
            await self._have(number, wanted)
        descriptor = self._descriptors[number]
        if length <= AT_HAND:
            return os.pread(descriptor, length, offset)
        return await asyncio.to_thread(os.pread, descriptor, length, offset)

    def asked_first(self) -> list[bytes]:
        """The names of the chunks that were read in the beginning, in their order."""
        return [self.parts[number].entries[chunk].id for number, chunk in self._first]

    async def bring(self, ids: Iterable[bytes]) -> None:
        """Have those chunks that files here want, in few requests.

        Raises:
            RemoteError: they cannot be had.
        """
        wanted = set(ids)
        chunks = [
            (number, chunk)
            for number, part in enumerate(self.parts)
            for chunk in part.missing()
            if part.entries[chunk].id in wanted and (number, chunk) not in self._coming
        ]
        if chunks:
            await asyncio.shield(self._bring(chunks))

    async def _have(self, number: int, wanted: list[int]) -> None:
        self._asked += 1
        try:
            new = [each for each in wanted if (number, each) not in self._coming]
            if new:
                self._bring((number, each) for each in (*new, *self._ahead(number, new[-1])))
            coming = {self._coming[number, e] for e in wanted if (number, e) in self._coming}
            try:
                await asyncio.gather(*(asyncio.shield(task) for task in coming))
            except RemoteDamaged:
                # It may be what was only fetched along with it: each by itself then.
                for each in self.parts[number].missing(wanted):
                    await asyncio.shield(self._bring([(number, each)]))
        finally:
            self._asked -= 1

    def _ahead(self, number: int, last: int) -> Iterator[int]:
        """The chunks of a file behind one that is fetched, as far as they lie behind it there."""
        part, taken = self.parts[number], 0
        before = self._place(number, last)
        for each in range(last + 1, len(part.entries)):
            place = self._place(number, each)
            if before is None or place is None or place.pack != before.pack:
                return
            taken += place.length
            if taken > AHEAD or not 0 <= place.offset - before.offset - before.length <= BETWEEN:
                return
            before = place
            if not part.has(each) and (number, each) not in self._coming:
                yield each

    def _place(self, number: int, chunk: int) -> Place | None:
        return self._repository.index.get(self.parts[number].entries[chunk].id)

    def _bring(self, chunks: Iterable[Chunk]) -> asyncio.Task[None]:
        """Begin to fetch some chunks, which nobody fetches yet."""
        wanted = list(chunks)
        task = asyncio.create_task(self._fetched(wanted))
        for each in wanted:
            self._coming[each] = task

        def over(task: asyncio.Task[None]) -> None:
            for each in wanted:
                self._coming.pop(each, None)
            if not task.cancelled():
                task.exception()  # who waits for it is told

        task.add_done_callback(over)
        return task

    async def _fetched(self, chunks: list[Chunk]) -> None:
        places: dict[bytes, tuple[int, list[tuple[Path | int, int]]]] = {}
        for number, chunk in chunks:
            entry = self.parts[number].entries[chunk]
            found = places.setdefault(entry.id, (entry.length, []))
            found[1].append((self._descriptors[number], entry.offset))
        wanted = [Wanted(id, length, tuple(where)) for id, (length, where) in places.items()]
        while True:
            try:
                await self._receiver.fetch(wanted)
                break
            except (RemoteUnreachable, RemoteDamaged) as error:
                if isinstance(error, RemoteDamaged) and await self._is_there():
                    raise
                if self._reached:
                    self._reached = False
                    self._tell(f"{error.message}: what is still to be fetched waits for it")
                await asyncio.sleep(AGAIN)
                with contextlib.suppress(RemoteError):
                    await self._repository.load_index()  # it may have been found empty
        if not self._reached:
            self._reached = True
            self._tell(f"{self._repository.address} can be reached again")
        for number, chunk in chunks:
            self.parts[number].note([chunk])

    async def _is_there(self) -> bool:
        """Whether the remote is where it was: a drive that is not mounted lacks everything."""
        with contextlib.suppress(RemoteUnreachable):
            return await self._repository.store.has(RING)
        return False

    # -- the rest --------------------------------------------------------------------------

    async def fill(self, folder: Callable[[], Path]) -> None:
        """Fetch all that is not here, behind what is asked for, and write down in a folder what is.

        Raises:
            RemoteError: it cannot be had. What is here stays.
        """
        under_way: set[asyncio.Task[None]] = set()
        kept = time.monotonic()
        batches = self._batches()
        while True:
            await self._turn()
            batch = next(batches, None)
            if batch is None:
                break
            under_way.add(self._bring(batch))
            if len(under_way) >= BATCHES:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            if time.monotonic() - kept > KEEP:
                await asyncio.to_thread(self.keep, folder())
                kept = time.monotonic()
        # What was asked for may be coming still.
        while self._coming:
            await asyncio.gather(*set(self._coming.values()))
        for each in under_way:
            each.result()
        await asyncio.to_thread(self.keep, folder())

    async def _turn(self) -> None:
        """Wait until nothing is read, or for so long that the rest would never come."""
        patience = time.monotonic() + PATIENCE
        while True:
            now = time.monotonic()
            quiet = now + QUIET / 4 if self._asked else self._last + QUIET
            if (left := min(quiet, patience) - now) <= 0:
                return
            await asyncio.sleep(left)

    def _batches(self) -> Iterator[list[Chunk]]:
        batch: list[Chunk] = []
        taken = 0
        for number, part in enumerate(self.parts):
            for chunk in part.missing():
                if (number, chunk) in self._coming:
                    continue
                batch.append((number, chunk))
                taken += part.entries[chunk].length
                if taken >= BATCH:
                    yield batch
                    batch, taken = [], 0
        if batch:
            yield batch

    def keep(self, folder: Path) -> None:
        """Write down what is here, once it is on the disk. May be called in a thread."""
        bits = [part.bits() for part in self.parts]
        with contextlib.suppress(FileNotFoundError):  # it is renamed, or removed, at this moment
            for number, descriptor in enumerate(self._descriptors):
                _sync(descriptor)
                keep_bits(folder, number, bits[number])

    async def close(self) -> None:
        """Fetch nothing more."""
        coming = set(self._coming.values())
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        await self._receiver.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
