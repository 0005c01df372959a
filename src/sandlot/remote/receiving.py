"""Files out of a remote: fetched in few large pieces, opened and checked by threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandlot.errors import BlobNotFound, RemoteDamaged
from sandlot.remote.index import Entry, Place, pack_key, parse_list
from sandlot.remote.manifest import StoredPart
from sandlot.remote.repository import Repository, at_once
from sandlot.snapshot.importing import put
from sandlot.snapshot.integrity import digest_sparse

PIECE = 8 << 20
"""Bytes that are fetched at once, at most."""
BETWEEN = 128 << 10
"""Bytes between two chunks that are fetched rather than asked for in two requests."""
PIECES_AT_ONCE = 4
Told = Callable[[int], object]


@dataclass(frozen=True)
class Wanted:
    """A chunk, and all places where it belongs: (file, or a descriptor of it, offset)."""

    id: bytes
    length: int
    places: tuple[tuple[Path | int, int], ...]


@dataclass(frozen=True)
class Piece:
    """Bytes of a pack, and the chunks in them: (offset in the piece, length there, chunk)."""

    pack: bytes
    start: int
    length: int
    chunks: tuple[tuple[int, int, Wanted], ...]


class Receiver:
    """Fetches files of one version. `close` it at the end.

    Args:
        repository: with its index loaded.
        told: called with the bytes that were written of each piece.
    """

    def __init__(self, repository: Repository, *, told: Told = lambda _: None) -> None:
        self._repository = repository
        self._told = told
        self._threads = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "sandlot-pull")
        self._stopped = False
        self.moved = 0
        """Bytes that were fetched."""

    async def close(self) -> None:
        """Fetch nothing more."""
        self._stopped = True
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    async def entries(self, part: StoredPart) -> list[Entry]:
        """The chunks of a file.

        Raises:
            RemoteDamaged
        """
        pieces = await at_once([partial(self.chunk, id, length) for id, length in part.lists])
        entries = parse_list(b"".join(pieces), part.size)
        if sum(each.length for each in entries) != part.data:
            raise RemoteDamaged(f"the chunks of {part.path} are not as many bytes as it says")
        return entries

    async def chunk(self, id: bytes, length: int) -> bytes:
        """One chunk.

        Raises:
            RemoteDamaged
        """
        for last in (False, True):
            place = self._place(id)
            try:
                sealed = await self._repository.store.get(
                    pack_key(place.pack), start=place.offset, length=place.length
                )
            except BlobNotFound:
                if last:
                    raise self._gone(place) from None
                await self._repository.load_index()
                continue
            self.moved += len(sealed)
            return self._repository.sealer.open_chunk(id, sealed, length)
        raise AssertionError("unreachable")

    async def fill(self, files: Mapping[Path, tuple[StoredPart, list[Entry]]]) -> None:
        """Make files, whose folders are there. Each is checked as a whole at the end.

        Raises:
            RemoteDamaged: something is not what the manifest says.
        """
        wanted: dict[bytes, tuple[int, list[tuple[Path, int]]]] = {}
        for path, (part, entries) in files.items():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.truncate(descriptor, part.size)
            finally:
                os.close(descriptor)
            for each in entries:
                length, places = wanted.setdefault(each.id, (each.length, []))
                if length != each.length:
                    raise RemoteDamaged(f"{part.path} has a chunk of two lengths")
                places.append((path, each.offset))
        await self.fetch(
            [Wanted(id, length, tuple(places)) for id, (length, places) in wanted.items()]
        )
        await at_once([partial(self._check, path, part) for path, (part, _) in files.items()], 2)

    async def fetch(self, left: list[Wanted]) -> None:
        """Put chunks where they belong, in files that are there.

        Raises:
            RemoteDamaged: one is not what it should be, or gone.
        """
        for last in (False, True):
            missing: list[Wanted] = []
            pieces = list(plan((self._place(each.id), each) for each in left))
            work = [partial(self._piece, each, missing) for each in pieces]
            await at_once(work, PIECES_AT_ONCE)
            if not missing:
                break
            if last:
                raise self._gone(self._place(missing[0].id))
            # Somebody collected garbage meanwhile: what is needed is in other packs now.
            left = missing
            await self._repository.load_index()

    def _place(self, id: bytes) -> Place:
        place = self._repository.index.get(id)
        if place is None:
            raise RemoteDamaged(
                f"{self._repository.address} lacks a chunk that its manifest names",
                hint="the store lost something, or this version was removed meanwhile",
                address=self._repository.address,
            )
        return place

    def _gone(self, place: Place) -> RemoteDamaged:
        return RemoteDamaged(
            f"{self._repository.address}: {pack_key(place.pack)} is gone",
            hint="the store lost something, or this version was removed meanwhile",
            address=self._repository.address,
        )

    async def _piece(self, piece: Piece, missing: list[Wanted]) -> None:
        key = pack_key(piece.pack)
        try:
            data = await self._repository.store.get(key, start=piece.start, length=piece.length)
        except BlobNotFound:
            missing += [wanted for _, _, wanted in piece.chunks]
            return
        self.moved += len(data)
        if len(data) != piece.length:
            raise RemoteDamaged(
                f"{self._repository.address}: {key} is cut off", address=self._repository.address
            )
        loop = asyncio.get_running_loop()
        self._told(await loop.run_in_executor(self._threads, self._open, piece, data))

    def _open(self, piece: Piece, data: bytes) -> int:
        """In a thread: the chunks of a piece, to where they belong."""
        view, done = memoryview(data), 0
        opened: dict[Path, int] = {}

        def descriptor_of(file: Path | int) -> int:
            if isinstance(file, int):
                return file
            if file not in opened:
                opened[file] = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
            return opened[file]

        try:
            for at, length, wanted in piece.chunks:
                if self._stopped:
                    return done
                try:
                    plain = self._repository.sealer.open_chunk(
                        wanted.id, view[at : at + length], wanted.length
                    )
                except RemoteDamaged as error:
                    raise RemoteDamaged(
                        f"{self._repository.address}: {pack_key(piece.pack)} at byte "
                        f"{piece.start + at}: {error.message}",
                        hint="nothing of it was kept; the version before may be whole",
                        address=self._repository.address,
                    ) from None
                for file, offset in wanted.places:
                    put(descriptor_of(file), offset, plain)
                    done += len(plain)
        finally:
            for descriptor in opened.values():
                os.close(descriptor)
        return done

    async def _check(self, path: Path, part: StoredPart) -> None:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, digest_sparse, path)
        if found != part.contents:
            raise RemoteDamaged(
                f"{self._repository.address}: {part.path} is not what its manifest says",
                hint="nothing of it was kept", address=self._repository.address,
            )  # fmt: skip


def plan(found: Iterator[tuple[Place, Wanted]]) -> Iterator[Piece]:
    """What to fetch: chunks that lie near each other in one request."""
    ordered = sorted(found, key=lambda each: (each[0].pack, each[0].offset))
    run: list[tuple[Place, Wanted]] = []
    for each in ordered:
        if run:
            first, last = run[0][0], run[-1][0]
            end = each[0].offset + each[0].length
            near = each[0].pack == first.pack and (
                each[0].offset - (last.offset + last.length) <= BETWEEN
            )
            if not near or end - first.offset > PIECE:
                yield _piece(run)
                run = []
        run.append(each)
    if run:
        yield _piece(run)


def _piece(run: Sequence[tuple[Place, Wanted]]) -> Piece:
    first = run[0][0]
    end = max(place.offset + place.length for place, _ in run)
    return Piece(
        first.pack, first.offset, end - first.offset,
        tuple((place.offset - first.offset, place.length, wanted) for place, wanted in run),
    )  # fmt: skip
