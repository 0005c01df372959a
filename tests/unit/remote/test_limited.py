from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandlot.errors import ConfigError
from sandlot.remote.folder import FolderStore
from sandlot.remote.limited import limited
from sandlot.remote.store import BlobStore
from sandlot.testing import BlobStoreSuite
from tests.framework.faulty import FakeClock


class TestLimited(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, place: str) -> BlobStore:
        return limited(FolderStore(self.folder / place), 1000, FakeClock())


async def test_no_more_bytes_a_second_than_allowed(tmp_path: Path) -> None:
    clock = FakeClock()
    begin = clock.now()
    store = limited(FolderStore(tmp_path), 1000, clock)
    await store.put("a", bytes(5000))
    assert clock.now() == begin  # paid by those that come after
    await store.put("b", bytes(2000))
    assert clock.now() == begin + 5
    assert await store.get("b", length=1000) == bytes(1000)
    assert clock.now() == begin + 7
    assert await store.get("a") == bytes(5000)
    assert clock.now() == begin + 8
    await store.replace("c", bytes(1000), None)
    assert clock.now() == begin + 13
    await store.read("c")
    assert clock.now() == begin + 14
    clock.time += 100  # idle time is not saved up
    await store.put("d", bytes(1000))
    await store.put("d", bytes(1000))
    assert clock.now() == begin + 115
    assert await store.has("d")


async def test_calls_at_once_share_the_rate(tmp_path: Path) -> None:
    clock = FakeClock()
    begin = clock.now()
    store = limited(FolderStore(tmp_path), 1000, clock)
    await asyncio.gather(*(store.put(f"{number}", bytes(1000)) for number in range(10)))
    assert clock.now() >= begin + 9


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_of_nothing_is_refused(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ConfigError, match="moves nothing"):
        limited(FolderStore(tmp_path), rate)
