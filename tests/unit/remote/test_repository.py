"""What names stand for, in a store that may lie."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pyrage
import pytest

from sandlot.errors import (
    KeyMissing,
    RemoteConflict,
    RemoteDamaged,
    RemoteNotFound,
    RemoteUnreachable,
)
from sandlot.remote.keys import Keys, Ring, wrap
from sandlot.remote.repository import RING, at_once, open_repository, rewrap
from tests.framework.blobs import MemoryStore
from tests.framework.pushing import KEYS, noise, opened, pull, push


async def three_versions(tmp_path: Path) -> tuple[MemoryStore, list[dict[str, bytes]]]:
    """A store, and what it was after each push."""
    store, states = MemoryStore(), []
    for number in range(3):
        noise(tmp_path / "file", 10_000, number)
        await push(store, tmp_path / "state", tmp_path / "file")
        states.append(dict(store.blobs))
    return store, states


async def test_an_old_state_is_not_passed_off_as_the_new_one(tmp_path: Path) -> None:
    store, states = await three_versions(tmp_path)
    await pull(store, tmp_path / "there", tmp_path / "v3")
    store.blobs = dict(states[1])
    for state in ("state", "there"):
        with pytest.raises(RemoteDamaged, match=r"shows version 2 of 'web', .* seen version 3"):
            await pull(store, tmp_path / state, tmp_path / "target")
    with pytest.raises(RemoteDamaged, match="seen version 3"):
        await (await opened(store, tmp_path / "there")).heads()
    del store.blobs[next(key for key in store.blobs if key.startswith("heads/"))]
    with pytest.raises(RemoteDamaged, match="shows nothing"):
        await pull(store, tmp_path / "there", tmp_path / "target")
    # Who knows better pushes over it, and the count goes on.
    pushed = await push(store, tmp_path / "state", tmp_path / "file", force=True)
    assert pushed.version == 4
    await pull(store, tmp_path / "there", tmp_path / "target")


async def test_two_histories_are_told(tmp_path: Path) -> None:
    store, states = await three_versions(tmp_path)
    other = MemoryStore(dict(states[1]))
    for key in other.blobs:
        other.versions[key] = 0
    noise(tmp_path / "other", 10_000, 99)
    state = tmp_path / "second"
    await push(other, state, tmp_path / "other", force=True)
    with pytest.raises(RemoteDamaged, match="two histories"):
        await pull(store, state, tmp_path / "target")


async def test_a_head_or_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    for name in ("a", "b"):
        noise(tmp_path / name, 1000, ord(name))
        await push(store, tmp_path / "state", tmp_path / name, name, name)
    for kind in ("heads/", "manifests/"):
        kept = dict(store.blobs)
        one, two = (key for key in store.blobs if key.startswith(kind))
        store.blobs[one], store.blobs[two] = store.blobs[two], store.blobs[one]
        with pytest.raises(RemoteDamaged, match="what belongs there"):
            await pull(store, tmp_path / "new", tmp_path / "target", "a")
        store.blobs = kept


async def test_an_older_manifest_is_not_the_one_that_the_head_names(tmp_path: Path) -> None:
    store, _ = await three_versions(tmp_path)
    repository = await opened(store, tmp_path / "state")
    head, _ = await repository.head("web")
    assert head is not None
    first = head.pick(1)
    last = head.pick(None)
    assert first is not None and last is not None
    import dataclasses

    with pytest.raises(RemoteDamaged, match="not the manifest that its head names"):
        await repository.manifest(head, dataclasses.replace(last, manifest=first.manifest))


async def test_a_ring_of_the_stores_own_is_refused(tmp_path: Path) -> None:
    store, _ = await three_versions(tmp_path)
    store.blobs[RING] = wrap(Ring.new(), Keys(), KEYS.recipients())
    with pytest.raises(RemoteDamaged, match="another ring of keys"):
        await opened(store, tmp_path / "state")
    with pytest.raises(KeyMissing, match="nothing proves"):
        await opened(store, tmp_path / "fresh")
    with pytest.raises(KeyMissing, match="nothing proves"):
        await push(store, tmp_path / "fresh", tmp_path / "file")


async def test_nothing_there_and_no_key_are_told(tmp_path: Path) -> None:
    with pytest.raises(RemoteNotFound, match="nothing was ever pushed"):
        await opened(MemoryStore(), tmp_path, create=False)
    store, _ = await three_versions(tmp_path)
    strange = Keys((str(pyrage.x25519.Identity.generate()),))
    with pytest.raises(KeyMissing, match="memory://test: none of your keys"):
        await open_repository(store, strange, tmp_path)
    repository = await opened(store, tmp_path / "state")
    await rewrap(repository, KEYS, strange.recipients())
    known = repository.opened.ring.fingerprint
    theirs = await open_repository(store, strange, tmp_path / "theirs", fingerprint=known)
    assert theirs.opened.ring == repository.opened.ring
    await rewrap(theirs, strange, [])
    with pytest.raises(KeyMissing):
        await opened(store, tmp_path / "state")


async def test_two_who_make_it_at_once_have_one_ring(tmp_path: Path) -> None:
    store = MemoryStore()
    found = await asyncio.gather(*(opened(store, tmp_path / str(n)) for n in range(4)))
    assert len({each.opened.ring for each in found}) == 1


async def test_what_is_stored_says_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    text = b"CANARY-in-a-file " * 4000
    (tmp_path / "file").write_bytes(text)
    await push(store, tmp_path / "state", tmp_path / "file", "canaryname")
    everything = b"".join(key.encode() + data for key, data in store.blobs.items())
    for word in (
        b"CANARY", b"canaryname", b"disk/0", b"sandbox", b"AGE-SECRET",
        KEYS.identities[0].encode(), str(tmp_path).encode(),
    ):  # fmt: skip
        assert word.lower() not in everything.lower(), word


async def test_the_first_failure_ends_the_others() -> None:
    ended = []

    async def work(number: int) -> int:
        try:
            if number == 3:
                raise ValueError("three")
            await asyncio.sleep(0 if number < 3 else 3600)
            return number
        finally:
            ended.append(number)

    with pytest.raises(ValueError, match="three"):
        await at_once([partial(work, number) for number in range(10)], 4)
    assert {0, 1, 2, 3} <= set(ended)
    assert await at_once([partial(work, number) for number in range(3)], 2) == [0, 1, 2]
    assert await at_once([]) == []


async def test_somebody_changed_the_readers_at_this_moment(tmp_path: Path) -> None:
    store, _ = await three_versions(tmp_path)
    repository = await opened(store, tmp_path / "state")

    def before(number: int, verb: str, key: str) -> None:
        if verb == "replace":
            store.versions[key] += 1

    store.before = before
    with pytest.raises(RemoteConflict, match="who may read"):
        await rewrap(repository, KEYS, [])


async def test_a_place_that_is_empty_is_not_begun_anew(tmp_path: Path) -> None:
    """A drive that is not mounted: nothing is written there, and who asks may ask again."""
    store = MemoryStore()
    noise(tmp_path / "file", 100_000, 1)
    await push(store, tmp_path / "state", tmp_path / "file")
    repository = await opened(store, tmp_path / "state")
    blobs = dict(store.blobs)
    store.blobs.clear()
    for create in (True, False):
        with pytest.raises(RemoteUnreachable, match="nothing is in memory://test") as caught:
            await opened(store, tmp_path / "state", create=create)
        assert "mounted" in caught.value.hint
    with pytest.raises(RemoteUnreachable, match="nothing is in"):
        await repository.head("web")
    assert not store.blobs
    store.blobs |= blobs
    assert (await push(store, tmp_path / "state", tmp_path / "file")).version == 2


async def test_a_ring_that_was_made_anew_is_taken_when_it_is_named(tmp_path: Path) -> None:
    store = MemoryStore()
    await opened(store, tmp_path / "state")
    store.blobs.clear()
    ring = (await opened(store, tmp_path / "other")).opened.ring.fingerprint
    with pytest.raises(RemoteDamaged, match="another ring") as caught:
        await opened(store, tmp_path / "state")
    assert "--fingerprint" in caught.value.hint
    again = await open_repository(store, KEYS, tmp_path / "state", fingerprint=ring)
    assert again.opened.ring.fingerprint == ring
    await opened(store, tmp_path / "state")  # once is enough
