"""One remote as its readers and writers see it: the ring, where chunks lie, what names stand for.

keys/ring            the ring of keys, encrypted to those who may read (keys.py)
heads/NAME           what a name stands for; the name is a keyed digest
manifests/ID         a version
hot/ID               what a version reads first (hot.py)
index/ID             where chunks lie in packs
packs/XX/ID          sealed chunks, one after the other
pending/ID           somebody is pushing (leases.py)
gc                   somebody is collecting garbage
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    KeyMissing,
    RemoteConflict,
    RemoteDamaged,
    RemoteNotFound,
    RemoteUnreachable,
)
from sandlot.remote.index import Place, Rows, make_index, parse_index
from sandlot.remote.keys import Keys, Opened, Ring, readers, unwrap, wrap
from sandlot.remote.known import Known, pinned_ring
from sandlot.remote.manifest import (
    Head,
    Manifest,
    Version,
    make_head,
    make_manifest,
    parse_head,
    parse_manifest,
)
from sandlot.remote.sealing import Sealer
from sandlot.remote.store import BlobStore

RING = "keys/ring"
AT_ONCE = 8
MOST_CHUNKS = 20_000_000
T = TypeVar("T")


class Repository:
    """An open remote. Made by `open_repository`."""

    def __init__(self, store: BlobStore, sealer: Sealer, known: Known, opened: Opened) -> None:
        self.store = store
        self.opened = opened
        self.sealer = sealer
        self.known = known
        self.index: dict[bytes, Place] = {}
        self.indexes: set[str] = set()

    @property
    def address(self) -> str:
        """Where it is."""
        return self.store.address

    # -- where chunks lie ------------------------------------------------------------------

    async def load_index(self) -> None:
        """Learn what chunks are there."""
        names = [blob.key.rpartition("/")[2] async for blob in self.store.list("index/")]
        new = [name for name in names if name not in self.indexes]
        if self.indexes - set(names):  # somebody collected garbage
            self.index.clear()
            new = names
        for found in await at_once([partial(self._one_index, name) for name in new]):
            for pack, rows in found.items():
                for id, offset, length in rows:
                    self.index[id] = Place(pack, offset, length)
            if len(self.index) > MOST_CHUNKS:
                raise RemoteDamaged(f"{self.address} has more than {MOST_CHUNKS} chunks")
        self.indexes = set(names)
        self.known.forget_indexes(self.indexes)

    async def _one_index(self, name: str) -> dict[bytes, Rows]:
        data = self.known.index(name)
        if data is None:
            key = f"index/{name}"
            try:
                data = self.sealer.open("an index", key, await self.store.get(key))
            except BlobNotFound:
                return {}  # its successor is in the listing, or in the next one
            self.known.note_index(name, data)
        return parse_index(data)

    async def put_index(self, packs: dict[bytes, Rows]) -> str:
        """Say where the chunks of those packs lie."""
        name, data = secrets.token_hex(16), make_index(packs)
        key = f"index/{name}"
        await self.store.put(key, self.sealer.seal("an index", key, data))
        self.known.note_index(name, data)
        self.indexes.add(name)
        return name

    # -- what names stand for --------------------------------------------------------------

    async def head(self, name: str, *, older: bool = False) -> tuple[Head | None, str | None]:
        """What a name stands for, and the version of that blob.

        Args:
            older: take what is older than what was seen; the counter is what was seen then.

        Raises:
            RemoteDamaged: it is not what it was, or older than what this machine has seen.
        """
        name_id = self.sealer.name_id(name)
        key = f"heads/{name_id}"
        seen = self.known.seen(name_id)
        try:
            sealed, tag = await self.store.read(key)
        except BlobNotFound:
            if not await self.store.has(RING):
                raise emptied(self.address) from None
            if seen is not None and not older:
                raise self._older(name, seen[0], "nothing") from None
            return None, None
        head, digest = self._head(key, sealed)
        if head.name != name:
            raise RemoteDamaged(f"{self.address}: the head of {name!r} is that of another name")
        if seen is not None and not older:
            if head.counter < seen[0]:
                raise self._older(name, seen[0], f"version {head.counter}")
            if head.counter == seen[0] and digest != seen[1]:
                raise RemoteDamaged(
                    f"{self.address}: {name!r} has two histories: its version {head.counter} is"
                    " not the one that this machine saw",
                    hint="the store shows different things to different people, or was restored"
                    " from a backup",
                    address=self.address,
                )
        if seen is None or head.counter >= seen[0]:
            self.known.note_seen(name_id, head.counter, digest)
        return head, tag

    def _head(self, key: str, sealed: bytes) -> tuple[Head, str]:
        data = self.sealer.verified("a head", self.sealer.open("a head", key, sealed))
        return parse_head(data), hashlib.sha256(data).hexdigest()

    def _older(self, name: str, seen: int, found: str) -> RemoteDamaged:
        return RemoteDamaged(
            f"{self.address} shows {found} of {name!r}, but this machine has seen version {seen}",
            hint="the store passes off an old state as the new one; if it was restored from a"
            " backup, push again with --force",
            address=self.address,
        )

    async def heads(self) -> list[Head]:
        """All that was pushed, by name.

        Raises:
            RemoteDamaged: one is not what it was, or older than what this machine has seen.
        """
        keys = [blob.key async for blob in self.store.list("heads/")]

        async def one(key: str) -> Head | None:
            try:
                sealed, _ = await self.store.read(key)
            except BlobNotFound:
                return None
            head, _ = self._head(key, sealed)
            name_id = self.sealer.name_id(head.name)
            if key != f"heads/{name_id}":
                raise RemoteDamaged(f"{self.address}: a head lies under another name's key")
            seen = self.known.seen(name_id)
            if seen is not None and head.counter < seen[0]:
                raise self._older(head.name, seen[0], f"version {head.counter}")
            return head

        found = await at_once([partial(one, key) for key in keys])
        return sorted((each for each in found if each is not None), key=lambda each: each.name)

    async def manifest(self, head: Head, version: Version) -> Manifest:
        """A version of what a head names.

        Raises:
            RemoteDamaged: it is not what the head says.
            BlobNotFound: it was removed.
        """
        key = f"manifests/{version.manifest}"
        data = self.sealer.open("a manifest", key, await self.store.get(key))
        data = self.sealer.verified("a manifest", data)
        if hashlib.sha256(data).hexdigest() != version.digest:
            raise RemoteDamaged(f"{self.address}: {key} is not the manifest that its head names")
        found = parse_manifest(data)
        if (found.name, found.kind, found.version) != (head.name, head.kind, version.version):
            raise RemoteDamaged(f"{self.address}: {key} is the manifest of something else")
        return found

    async def put_manifest(self, manifest: Manifest) -> tuple[str, str]:
        """Store a version, which no head names yet: its name and digest."""
        name, data = secrets.token_hex(16), make_manifest(manifest)
        key = f"manifests/{name}"
        signed = self.sealer.sign("a manifest", data)
        await self.store.put(key, self.sealer.seal("a manifest", key, signed))
        return name, hashlib.sha256(data).hexdigest()

    async def put_head(self, head: Head, tag: str | None) -> None:
        """Have a name stand for something else.

        Raises:
            RemoteConflict: somebody was faster.
        """
        name_id = self.sealer.name_id(head.name)
        key, data = f"heads/{name_id}", make_head(head)
        sealed = self.sealer.seal("a head", key, self.sealer.sign("a head", data))
        try:
            await self.store.replace(key, sealed, tag)
        except BlobChanged:
            raise RemoteConflict(
                f"somebody else pushed {head.name!r} at this moment",
                hint="pull what is there, or push over it with --force (force=True)",
                address=self.address,
            ) from None
        self.known.note_seen(name_id, head.counter, hashlib.sha256(data).hexdigest())


async def open_repository(
    store: BlobStore, keys: Keys, state: Path, *, create: bool = False,
    recipients: Sequence[str] = (), fingerprint: str = "", looking: bool = False,
) -> Repository:  # fmt: skip
    """Open what is in a store.

    Args:
        store: an open one.
        keys: what opens its ring.
        state: the folder for what this machine knows of remotes.
        create: make a ring when there is none, for these keys and `recipients`.
        fingerprint: that of the ring, as somebody told it who knows.
        looking: only to see whose ring it is: one that nothing proves is opened too.

    Raises:
        RemoteNotFound: nothing was ever pushed there.
        KeyMissing: none of the keys opens it.
        RemoteDamaged: its ring is not the one that it was.
    """
    pinned = pinned_ring(state, store.address)
    try:
        data, _ = await store.read(RING)
    except BlobNotFound:
        if pinned:
            raise emptied(store.address) from None
        if not create:
            raise RemoteNotFound(
                f"nothing was ever pushed to {store.address}",
                hint="`sandlot push` makes it; `sandlot remote ls` shows the remotes you have",
                address=store.address,
            ) from None
        ring = Ring.new()
        data = await asyncio.to_thread(wrap, ring, keys, recipients)
        opened = Opened(ring, True, readers(data), bool(keys.passphrase))
        try:
            await store.replace(RING, data, None)
        except BlobChanged:  # somebody else made it at this moment
            data, _ = await store.read(RING)
            opened = await asyncio.to_thread(_unwrapped, data, keys, store.address)
    else:
        opened = await asyncio.to_thread(_unwrapped, data, keys, store.address)
    known = Known(state, opened.ring.id)
    found = opened.ring.fingerprint
    seen = known.check_ring(store.address, found) if fingerprint != found else True
    if fingerprint and fingerprint != found:
        raise RemoteDamaged(
            f"{store.address}: its ring of keys has the fingerprint {found}, not {fingerprint[:40]}",
            hint="somebody may have put another one there; ask who made it",
            address=store.address,
        )
    if not (seen or fingerprint or opened.endorsed or looking):
        raise KeyMissing(
            f"{store.address}: nothing proves that its keys are not the store's own: they have the"
            f" fingerprint {found}",
            hint="compare it with what `sandlot key ls REMOTE` says on a machine that pushes there,"
            f" and give it once: --fingerprint {found}",
            address=store.address,
        )
    if not looking:
        known.note_ring(store.address, found)
    return Repository(store, Sealer(opened.ring), known, opened)


def emptied(address: str) -> RemoteUnreachable:
    """Nothing is there, not even the keys: it is another place than it was, for now as a rule."""
    return RemoteUnreachable(
        f"nothing is in {address}, where something was pushed to before",
        hint="is its drive mounted? If it was emptied on purpose, push to another address",
        address=address,
    )


def _unwrapped(data: bytes, keys: Keys, address: str) -> Opened:
    try:
        return unwrap(data, keys)
    except (KeyMissing, RemoteDamaged) as error:
        raise type(error)(f"{address}: {error.message}", hint=error.hint, address=address) from None


async def rewrap(
    repository: Repository, keys: Keys, recipients: Sequence[str], *, passphrase: bool = True
) -> None:
    """Encrypt the ring anew, to these only. Who has read it before may have kept it.

    Args:
        passphrase: let the passphrase that it has open it still, unless the keys have another one.

    Raises:
        RemoteConflict: somebody else did it at this moment.
    """
    before, tag = await repository.store.read(RING)
    ring = repository.sealer.ring
    data = await asyncio.to_thread(
        partial(wrap, ring, keys, recipients, before=before, passphrase=passphrase)
    )
    try:
        await repository.store.replace(RING, data, tag)
    except BlobChanged:
        raise RemoteConflict(
            "somebody else changed who may read at this moment", hint="look, and try again",
            address=repository.address,
        ) from None  # fmt: skip


async def at_once(calls: Sequence[Callable[[], Awaitable[T]]], limit: int = AT_ONCE) -> list[T]:
    """The results of several calls, `limit` at a time; the first failure ends the others."""
    results: dict[int, T] = {}
    left = iter(list(enumerate(calls)))

    async def work() -> None:
        for number, call in left:
            results[number] = await call()

    tasks = [asyncio.create_task(work()) for _ in range(min(limit, len(calls)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [results[number] for number in range(len(calls))]
