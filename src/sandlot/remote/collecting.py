"""Removing from a remote what no version needs any more."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial

from sandlot.errors import BlobNotFound, RemoteDamaged
from sandlot.remote.hot import HOT
from sandlot.remote.index import Place, pack_key, pack_of, parse_list
from sandlot.remote.leases import GC, collecting
from sandlot.remote.receiving import Receiver
from sandlot.remote.repository import Repository, at_once
from sandlot.remote.sending import Sender
from sandlot.remote.store import Blob

KEPT = 0.5
"""How much of a pack has to be needed for it to be left as it is."""


@dataclass(frozen=True)
class Collected:
    """What was removed: blobs, and bytes that the remote has less. `kept` bytes are needed."""

    blobs: int
    freed: int
    kept: int


async def collect(repository: Repository, *, patience: float = 0.0) -> Collected:
    """Mark what the versions of all names need, and remove the rest. Nobody pushes meanwhile; who
    pulls finds what it needs, if its version is still named.

    Nothing is removed if one head, manifest or list cannot be read.

    Raises:
        RemoteConflict: somebody pushes, or collects too.
        RemoteDamaged: something cannot be read.
    """
    store = repository.store
    async with collecting(store, patience=patience):
        await repository.load_index()
        needed, manifests = await _marked(repository)
        blobs = {blob.key: blob async for blob in store.list() if blob.key != GC}
        doomed = [
            key for key in blobs
            if key.startswith(("manifests/", HOT)) and key.rpartition("/")[2] not in manifests
        ]  # fmt: skip
        packs = await _repacked(repository, needed, blobs)
        doomed += [key for key in blobs if (pack := pack_of(key)) and pack not in packs]
        doomed += [key for key in blobs if key.startswith("clock/")]
        await at_once([partial(store.delete, key) for key in doomed])
        after = [blob async for blob in store.list() if blob.key != GC]
        size = sum(blob.size for blob in after)
        before = sum(blob.size for blob in blobs.values())
        return Collected(len(doomed), max(0, before - size), size)


async def _marked(repository: Repository) -> tuple[set[bytes], set[str]]:
    """The chunks and manifests that are needed."""
    needed: set[bytes] = set()
    manifests: set[str] = set()
    receiver = Receiver(repository)
    try:
        for head in await repository.heads():
            for version in head.versions:
                try:
                    manifest = await repository.manifest(head, version)
                except BlobNotFound:
                    raise RemoteDamaged(
                        f"{repository.address}: version {version.version} of {head.name!r} has lost"
                        " its manifest; nothing was removed", address=repository.address,
                    ) from None  # fmt: skip
                manifests.add(version.manifest)
                for part in manifest.parts:
                    fresh = [each for each in part.lists if each[0] not in needed]
                    pieces = await at_once([partial(receiver.chunk, *each) for each in fresh])
                    needed |= {id for id, _ in fresh}
                    for piece in pieces:
                        needed |= {entry.id for entry in parse_list(piece, part.size)}
    finally:
        await receiver.close()
    return needed, manifests


async def _repacked(
    repository: Repository, needed: set[bytes], blobs: dict[str, Blob]
) -> set[bytes]:
    """Have what is needed in packs that are worth keeping, with one index; these packs are
    returned."""
    index = repository.index
    used: dict[bytes, list[tuple[bytes, Place]]] = {}
    for id in needed:
        if id not in index:
            raise RemoteDamaged(
                f"{repository.address} lacks chunks that its versions need; nothing was removed",
                hint="an index is lost, which push and gc never remove without another",
                address=repository.address,
            )
        used.setdefault(index[id].pack, []).append((id, index[id]))
    sender = Sender(repository)
    kept = {}
    try:
        for pack, rows in used.items():
            blob = blobs.get(pack_key(pack))
            taken = sum(place.length for _, place in rows)
            if blob is None or taken >= KEPT * blob.size:
                kept[pack] = [(id, place.offset, place.length) for id, place in rows]
                continue
            await _moved(repository, sender, rows)
        old = set(repository.indexes)
        if not kept and not sender.moved and not old:
            return set()
        await sender.finish(kept)
    finally:
        await sender.abandon()
    for name in old:  # what stands in them stands in the new one
        with contextlib.suppress(BlobNotFound):
            await repository.store.delete(f"index/{name}")
    return set(kept) | sender.packs


async def _moved(repository: Repository, sender: Sender, rows: list[tuple[bytes, Place]]) -> None:
    """Take chunks over into another pack, sealed as they are."""
    for id, place in rows:
        key = pack_key(place.pack)
        sealed = await repository.store.get(key, start=place.offset, length=place.length)
        if len(sealed) != place.length:
            raise RemoteDamaged(f"{repository.address}: {key} is cut off")
        await sender.add(id, sealed)
