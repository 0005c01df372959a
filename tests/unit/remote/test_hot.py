"""What a version reads first, as the one before noticed."""

from __future__ import annotations

from pathlib import Path

from sandlot.errors import RemoteRefused
from sandlot.remote.collecting import collect
from sandlot.remote.hot import HOT, MOST, hot_chunks, note_hot
from sandlot.remote.versions import find
from tests.framework.blobs import MemoryStore
from tests.framework.pushing import noise, opened, push

IDS = [bytes([n % 251]) * 16 + n.to_bytes(16, "big") for n in range(MOST + 10)]


async def test_what_is_noted_is_found_in_its_order(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = await opened(store, tmp_path / "state")
    assert await hot_chunks(repository, "aa") is None
    await note_hot(repository, "aa", [IDS[3], IDS[1], IDS[3], IDS[2]])
    assert await hot_chunks(repository, "aa") == [IDS[3], IDS[1], IDS[2]]
    await note_hot(repository, "bb", IDS)
    assert await hot_chunks(repository, "bb") == IDS[:MOST]
    assert IDS[3] not in b"".join(store.blobs.values())


async def test_what_a_store_made_of_it_is_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = await opened(store, tmp_path / "state")
    await note_hot(repository, "aa", IDS[:5])
    await note_hot(repository, "bb", IDS[5:9])
    store.blobs[HOT + "aa"] = store.blobs[HOT + "bb"]
    assert await hot_chunks(repository, "aa") == []
    store.blobs[HOT + "bb"] = b"short"
    assert await hot_chunks(repository, "bb") == []


async def test_who_may_only_read_notes_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    repository = await opened(store, tmp_path / "state")

    def before(number: int, verb: str, key: str) -> None:
        if verb == "put":
            raise RemoteRefused("you may only read")

    store.before = before
    await note_hot(repository, "aa", IDS[:5])
    assert await hot_chunks(repository, "aa") is None


async def test_it_goes_with_its_version(tmp_path: Path) -> None:
    store = MemoryStore()
    noise(tmp_path / "file", 1 << 20, 1)
    for _ in range(2):
        await push(store, tmp_path / "state", tmp_path / "file", keep=2)
    repository = await opened(store, tmp_path / "state")
    for version in (1, 2):
        picked, _ = await find(repository, "sandbox", "web", version)
        await note_hot(repository, picked.manifest, IDS[:5])
    await push(store, tmp_path / "state", tmp_path / "file", keep=2)
    await collect(await opened(store, tmp_path / "state"))
    picked, _ = await find(repository, "sandbox", "web", 2)
    assert [key for key in store.blobs if key.startswith(HOT)] == [HOT + picked.manifest]
