"""Garbage goes, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import RemoteConflict, RemoteDamaged, RemoteError
from sandlot.remote.collecting import collect
from sandlot.remote.index import pack_of
from sandlot.remote.versions import begin_push
from tests.framework.blobs import MemoryStore, failing
from tests.framework.pushing import noise, opened, pull, push

MIB = 1 << 20


def stored(store: MemoryStore) -> int:
    return sum(len(data) for data in store.blobs.values())


async def test_what_no_version_needs_goes(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", tmp_path / "file"
    noise(file, 20 * MIB, 1)
    await push(store, state, file, keep=1)
    noise(file, 12 * MIB, 2, at=8 * MIB)
    await push(store, state, file, keep=1)
    assert stored(store) > 32 * MIB
    done = await collect(await opened(store, state))
    assert done.freed > 8 * MIB and stored(store) == done.kept < 26 * MIB
    again = await collect(await opened(store, state))
    assert again.freed == 0
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == file.read_bytes()
    assert (await push(store, state, file)).moved == 0


async def test_packs_that_no_index_knows_go(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", noise(tmp_path / "file", MIB, 1)
    await push(store, state, file)
    await store.put("packs/ab/" + "ab" * 16, b"orphan")
    await store.put("manifests/" + "ab" * 16, b"orphan")
    await store.put("clock/ab", b"")
    assert (await collect(await opened(store, state))).blobs == 3
    await pull(store, tmp_path / "there", tmp_path / "target")


async def test_it_does_not_meet_a_push(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", noise(tmp_path / "file", MIB, 1)
    await push(store, state, file)
    repository = await opened(store, state)
    async with begin_push(repository, "sandbox", "web", "here"):
        before = dict(store.blobs)
        with pytest.raises(RemoteConflict, match="under way"):
            await collect(await opened(store, state))
        assert before.keys() == store.blobs.keys()


async def test_nothing_is_removed_when_something_cannot_be_read(tmp_path: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    for name in ("a", "b"):
        await push(store, state, noise(tmp_path / name, 100_000, ord(name)), name, name, keep=1)
    for kind in ("heads/", "manifests/", "index/"):
        kept = dict(store.blobs)
        key = next(key for key in kept if key.startswith(kind))
        store.blobs[key] = kept[key][:-1] + bytes([kept[key][-1] ^ 1])
        with pytest.raises(RemoteDamaged):
            await collect(await opened(store, tmp_path / kind[:-1]))
        assert {k for k in kept if pack_of(k)} <= store.blobs.keys()
        store.blobs = kept
    kept = dict(store.blobs)
    del store.blobs[next(key for key in store.blobs if key.startswith("index/"))]
    with pytest.raises(RemoteDamaged, match="lacks"):
        await collect(await opened(store, state))
    store.blobs = kept
    del store.blobs[next(key for key in store.blobs if key.startswith("manifests/"))]
    with pytest.raises(RemoteDamaged, match="has lost its manifest; nothing was removed"):
        await collect(await opened(store, state))


async def test_cut_off_at_every_call_nothing_needed_goes(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", tmp_path / "file"
    noise(file, 3 * MIB, 1)
    await push(store, state, file, keep=1)
    noise(file, 2 * MIB, 2)
    await push(store, state, file, keep=1)
    before, versions = dict(store.blobs), dict(store.versions)
    for at in range(1, 200):
        store.blobs, store.versions = dict(before), dict(versions)
        store.calls, store.before = 0, failing(at)
        try:
            await collect(await opened(store, tmp_path / f"s{at}"))
            ended = True
        except RemoteError:
            ended = False
        store.before = lambda *_: None
        target = tmp_path / f"target{at}"
        await pull(store, tmp_path / f"t{at}", target)
        assert target.read_bytes() == file.read_bytes()
        target.unlink()
        if ended:
            assert at > 10
            return
    raise AssertionError("it never ended well")
