from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import BlobChanged, BlobNotFound, RemoteUnreachable
from sandlot.remote.folder import FolderStore
from sandlot.remote.patience import LONGEST_WAIT, Patience, PatientStore
from sandlot.testing import BlobStoreSuite
from tests.framework.faulty import FakeClock, FaultyStore

FAULTS = ("before", "after")


class TestEveryThirdCallFails(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, place: str) -> PatientStore:
        faults = {number: FAULTS[number % 2] for number in range(1, 5000, 3)}
        store = Told(FolderStore(self.folder / place), faults)
        return PatientStore(store, Patience(attempts=10), FakeClock())


class Told(FaultyStore):
    """Whose answer to a replacement is never lost: when others replace it again before one asks,
    nobody can tell any more whether it was carried out, and the suite counts."""

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        if self.faults.get(self.calls + 1):
            self.faults[self.calls + 1] = "before"
        return await super().replace(key, data, expected)


@pytest.fixture
async def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def patient(
    store: FolderStore, faults: dict[int, str], retry_after: float | None = None
) -> tuple[PatientStore, FaultyStore, FakeClock]:
    faulty, clock = FaultyStore(store, faults, retry_after), FakeClock()
    return PatientStore(faulty, Patience(attempts=4, first=1.0, longest=3.0), clock), faulty, clock


async def test_it_gives_up_after_its_tries_and_waits_longer_each_time(folder: FolderStore) -> None:
    store, faulty, clock = patient(folder, dict.fromkeys(range(1, 10), "before"))
    with pytest.raises(RemoteUnreachable):
        await store.put("a", b"")
    assert faulty.calls == 4
    assert [round(seconds) for seconds in clock.slept] == pytest.approx([1, 2, 3], abs=1)
    assert clock.slept[0] < clock.slept[1] < 3.75 and clock.slept[2] < 3.75


async def test_it_waits_as_long_as_it_is_asked_to_but_not_for_ever(folder: FolderStore) -> None:
    store, _, clock = patient(folder, {1: "before"}, retry_after=17.0)
    await store.put("a", b"1")
    assert clock.slept == [17.0]
    store, faulty, clock = patient(folder, {1: "before"}, retry_after=LONGEST_WAIT + 1)
    with pytest.raises(RemoteUnreachable):
        await store.put("a", b"1")
    assert faulty.calls == 1 and not clock.slept


async def test_a_cut_blob_goes_on_where_it_stopped(folder: FolderStore) -> None:
    data = bytes(range(256)) * 64
    await folder.put("a", data)
    # More cuts than tries: each one brought something.
    store, faulty, _ = patient(folder, dict.fromkeys(range(1, 9), "halfway"))
    assert await store.get("a") == data
    assert faulty.calls == 9
    store, faulty, _ = patient(folder, {1: "halfway", 2: "before", 3: "halfway"})
    assert await store.get("a", start=100, length=5000) == data[100:5100]


async def test_a_cut_blob_that_was_replaced_meanwhile_is_read_anew(folder: FolderStore) -> None:
    await folder.put("a", b"old" * 1000)

    class Replaced(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await folder.put("a", b"new" * 500)

    faulty = FaultyStore(folder, {1: "halfway"})
    assert await PatientStore(faulty, clock=Replaced()).get("a") == b"new" * 500

    class Removed(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await folder.delete("a")

    faulty = FaultyStore(folder, {1: "halfway"})
    with pytest.raises(BlobNotFound):
        await PatientStore(faulty, clock=Removed()).get("a")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_replacement_of_which_the_answer_was_lost_counts(
    folder: FolderStore, fault: str
) -> None:
    store, _, _ = patient(folder, {1: fault})
    version = await store.replace("a", b"mine", None)
    assert await folder.read("a") == (b"mine", version)
    store, _, _ = patient(folder, {1: fault})
    assert await store.replace("a", b"mine too", version) != version


async def test_a_replacement_by_somebody_else_meanwhile_is_told(folder: FolderStore) -> None:
    class Other(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await folder.replace("a", b"theirs", None)

    store = PatientStore(FaultyStore(folder, {1: "before"}), clock=Other())
    with pytest.raises(BlobChanged):
        await store.replace("a", b"mine", None)

    class Gone(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await folder.delete("a")

    store = PatientStore(FaultyStore(folder, {1: "before"}), clock=Gone())
    with pytest.raises(BlobChanged):
        await store.replace("a", b"mine", (await folder.read("a"))[1])


async def test_a_listing_that_is_cut_tells_each_once(folder: FolderStore) -> None:
    for number in range(10):
        await folder.put(f"packs/{number}", b"")
    store, faulty, _ = patient(folder, {1: "after", 2: "before", 3: "after"})
    assert sorted([blob.key async for blob in store.list()]) == [f"packs/{n}" for n in range(10)]
    assert faulty.calls == 4
    store, _, clock = patient(folder, dict.fromkeys(range(1, 99), "before"))
    with pytest.raises(RemoteUnreachable):
        [blob async for blob in store.list()]
    assert len(clock.slept) == 3


async def test_other_errors_are_raised_at_once(folder: FolderStore) -> None:
    store, faulty, clock = patient(folder, {})
    with pytest.raises(BlobNotFound):
        await store.get("a")
    with pytest.raises(BlobChanged):
        await store.replace("a", b"", "7-none")
    assert faulty.calls == 2 and not clock.slept
