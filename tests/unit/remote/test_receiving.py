"""Files out of a remote that may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import RemoteDamaged
from sandlot.remote.index import Place, pack_of
from sandlot.remote.receiving import BETWEEN, PIECE, Wanted, plan
from tests.framework.blobs import MemoryStore
from tests.framework.pushing import noise, pull, push

MIB = 1 << 20


def packs(store: MemoryStore) -> list[str]:
    return [key for key in store.blobs if pack_of(key)]


async def pushed(tmp_path: Path) -> MemoryStore:
    store = MemoryStore()
    noise(tmp_path / "file", 30 * MIB, 1)
    await push(store, tmp_path / "state", tmp_path / "file")
    return store


async def test_what_comes_is_what_was_pushed(tmp_path: Path) -> None:
    store = await pushed(tmp_path)
    store.calls = 0
    moved = await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == (tmp_path / "file").read_bytes()
    assert moved < 32 * MIB and store.calls < 20  # few requests


@pytest.mark.parametrize("damage", ["changed", "cut", "swapped", "lost", "foreign"])
async def test_what_a_store_does_to_packs_is_seen(tmp_path: Path, damage: str) -> None:
    store = await pushed(tmp_path)
    first, second = packs(store)[:2]
    data = store.blobs[first]
    if damage == "changed":
        store.blobs[first] = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
    elif damage == "cut":
        store.blobs[first] = data[: len(data) // 2]
    elif damage == "swapped":
        store.blobs[first], store.blobs[second] = store.blobs[second], data
    elif damage == "lost":
        del store.blobs[first]
    else:
        other = MemoryStore()
        await push(other, tmp_path / "other", tmp_path / "file")
        store.blobs[first] = other.blobs[packs(other)[0]]
    with pytest.raises(RemoteDamaged) as caught:
        await pull(store, tmp_path / "there", tmp_path / "target")
    assert "packs/" in caught.value.message and store.address in caught.value.message


async def test_packs_that_moved_meanwhile_are_found(tmp_path: Path) -> None:
    store = await pushed(tmp_path)
    noise(tmp_path / "file", 20 * MIB, 2)
    await push(store, tmp_path / "state", tmp_path / "file", keep=1)
    from sandlot.remote.collecting import collect
    from tests.framework.pushing import opened

    repository = await opened(store, tmp_path / "state")
    collected = False

    async def collect_first() -> None:
        nonlocal collected
        collected = True
        await collect(repository)

    original = store.get

    async def get(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if pack_of(key) and not collected:
            await collect_first()
        return await original(key, start=start, length=length)

    store.get = get  # type: ignore[method-assign]
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert collected
    assert (tmp_path / "target").read_bytes() == (tmp_path / "file").read_bytes()


def test_neighbours_are_fetched_together() -> None:
    def at(pack: bytes, offset: int, length: int = 100) -> tuple[Place, Wanted]:
        return Place(pack, offset, length), Wanted(bytes(32), 100, ())

    a, b = b"a" * 16, b"b" * 16
    found = [at(b, 0), at(a, 200), at(a, 0), at(a, 400 + BETWEEN), at(a, PIECE + BETWEEN)]
    pieces = list(plan(iter(found)))
    assert [(p.pack, p.start, p.length) for p in pieces] == [
        (a, 0, 300), (a, 400 + BETWEEN, 100), (a, PIECE + BETWEEN, 100), (b, 0, 100),
    ]  # fmt: skip
    long = list(plan(iter([at(a, n * (1 << 20), 1 << 20) for n in range(20)])))
    assert all(p.length <= PIECE for p in long) and sum(p.length for p in long) == 20 << 20
