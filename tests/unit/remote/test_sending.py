"""Files into a remote: little is moved, and what was moved is not moved again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandlot.errors import RemoteUnreachable
from sandlot.remote.index import pack_of
from tests.framework.blobs import MemoryStore
from tests.framework.pushing import noise, opened, pull, push

MIB = 1 << 20


async def test_a_small_change_moves_little(tmp_path: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    file = noise(tmp_path / "file", 20 * MIB, 1)
    first = await push(store, state, file)
    assert first.size == 20 * MIB <= first.moved < 22 * MIB
    noise(file, MIB, 2, at=5 * MIB)
    second = await push(store, state, file)
    assert second.version == 2 and MIB <= second.moved < 3 * MIB
    third = await push(store, state, file)
    assert third.moved == 0 and third.size == 20 * MIB
    again = await push(store, tmp_path / "elsewhere", file, "other", "x")
    assert again.moved == 0


async def test_holes_and_zeros_move_nothing_and_are_the_same(tmp_path: Path) -> None:
    store = MemoryStore()
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    for path in (sparse, full):
        if path == full:
            path.write_bytes(bytes(40 * MIB))
        noise(path, 100_000, 1, at=3 * MIB + 4096)
        noise(path, 50_000, 2, at=3 * MIB + 150_000)  # a hole between them that is short
        os.truncate(path, 40 * MIB)
    assert sparse.stat().st_blocks < full.stat().st_blocks
    first = await push(store, tmp_path / "state", sparse)
    assert first.size < 200_000 and first.moved < 300_000
    second = await push(store, tmp_path / "other", full, "full", "y")
    assert second.moved == 0 and second.size == first.size
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == full.read_bytes()
    assert (tmp_path / "target").stat().st_blocks <= sparse.stat().st_blocks + 64


async def test_a_push_that_was_cut_off_does_not_send_twice(tmp_path: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    file = noise(tmp_path / "file", 40 * MIB, 1)
    cut, seen = 0, 0

    def one_pack(number: int, verb: str, key: str) -> None:
        nonlocal seen
        if verb == "put" and pack_of(key):
            seen += 1
            if seen > 1:
                raise RemoteUnreachable("cut off")

    store.before = one_pack
    while True:
        before, seen = sum(1 for key in store.blobs if pack_of(key)), 0
        try:
            done = await push(store, state, file)
            break
        except RemoteUnreachable:
            cut += 1
            assert sum(1 for key in store.blobs if pack_of(key)) == before + 1
    assert cut >= 2 and done.version == 1
    sent = sum(len(data) for key, data in store.blobs.items() if pack_of(key))
    assert sent < 43 * MIB
    store.before = lambda *_: None
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == file.read_bytes()


async def test_a_pack_that_is_gone_is_sent_again(tmp_path: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    file = noise(tmp_path / "file", MIB, 1)

    def no_index(number: int, verb: str, key: str) -> None:
        if verb == "put" and key.startswith("index/"):
            raise RemoteUnreachable("cut off")

    store.before = no_index
    with pytest.raises(RemoteUnreachable):
        await push(store, state, file)
    assert (await opened(store, state)).known.sent()
    for key in [key for key in store.blobs if pack_of(key)]:
        del store.blobs[key]
    store.before = lambda *_: None
    await push(store, state, file)
    await pull(store, tmp_path / "there", tmp_path / "target")


async def test_a_file_that_is_not_what_was_remembered_is_read_again(tmp_path: Path) -> None:
    store, state = MemoryStore(), tmp_path / "state"
    file = noise(tmp_path / "file", MIB, 1)
    await push(store, state, file)
    status = file.stat()
    noise(file, MIB, 2)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    for key in [key for key in store.blobs if not key.startswith("keys")]:
        del store.blobs[key]
    await push(store, state, file, force=True)
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == file.read_bytes()
