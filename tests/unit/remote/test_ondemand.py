"""Files that are read before all of them is here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sandlot.errors import RemoteDamaged, RemoteUnreachable
from sandlot.remote import ondemand
from sandlot.remote.chunking import PAGE
from sandlot.remote.index import pack_of
from sandlot.remote.ondemand import OnDemand
from sandlot.remote.partial import keep_list, kept
from sandlot.remote.receiving import Receiver
from sandlot.remote.versions import find
from tests.framework.blobs import MemoryStore
from tests.framework.pushing import noise, opened, push

MIB = 1 << 20
SIZE = 24 * MIB


class Pulled:
    """A file that was pushed, of which nothing is here."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = MemoryStore()
        self.source, self.target = tmp_path / "file", tmp_path / "target"
        self.state = tmp_path / "there"
        self.bits = tmp_path / "bits"
        self.bits.mkdir()
        self.said: list[str] = []

    async def push(self, tmp_path: Path) -> None:
        noise(self.source, SIZE, 1)
        with self.source.open("r+b") as file:
            file.truncate(SIZE + 4 * MIB)  # a hole at its end
        await push(self.store, tmp_path / "state", self.source)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OnDemand]:
        """As the next program finds it."""
        repository = await opened(self.store, self.state, create=False)
        await repository.load_index()
        if not self.target.exists():
            _, manifest = await find(repository, "sandbox", "web", None)
            receiver = Receiver(repository)
            entries = await receiver.entries(manifest.parts[0])
            await receiver.close()
            keep_list(self.bits, 0, entries)
            with self.target.open("wb") as file:
                file.truncate(manifest.parts[0].size)
        part = kept(self.bits, 0, self.target.stat().st_size)
        made = OnDemand(repository, [(self.target, part)], tell=self.said.append)
        try:
            yield made
        finally:
            await made.close()

    def bytes_at(self, offset: int, length: int) -> bytes:
        with self.source.open("rb") as file:
            file.seek(offset)
            return file.read(length)


@pytest.fixture
async def pulled(tmp_path: Path) -> Pulled:
    made = Pulled(tmp_path)
    await made.push(tmp_path)
    return made


async def test_what_is_read_comes_and_little_else(pulled: Pulled) -> None:
    async with pulled.open() as files:
        assert await files.read(0, 9 * MIB - 100, 5000) == pulled.bytes_at(9 * MIB - 100, 5000)
        assert files.moved < 2 * MIB and files.waited == 1 and not files.whole
        calls = pulled.store.calls
        # What lies behind it came with it, and holes need nothing.
        assert await files.read(0, 9 * MIB + 4900, 1000) == pulled.bytes_at(9 * MIB + 4900, 1000)
        assert await files.read(0, SIZE + MIB, MIB) == bytes(MIB)
        assert pulled.store.calls == calls and files.waited == 1


async def test_many_at_once_are_fetched_once(pulled: Pulled) -> None:
    async with pulled.open() as files:
        spots = [(n * 37_000 % SIZE, 20_000) for n in range(400)]
        found = await asyncio.gather(*(files.read(0, *spot) for spot in spots))
        assert found == [pulled.bytes_at(*spot) for spot in spots]
        await files.fill(lambda: pulled.bits)
        assert files.whole and files.moved < SIZE + 2 * MIB
    assert pulled.target.read_bytes() == pulled.source.read_bytes()


async def test_the_rest_comes_behind_what_is_read(
    pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ondemand, "BATCH", MIB)
    async with pulled.open() as files:
        filling = asyncio.create_task(files.fill(lambda: pulled.bits))
        while files.moved < 4 * MIB:
            await asyncio.sleep(0)
        assert not files.whole
        last = SIZE - 5000
        assert await files.read(0, last, 5000) == pulled.bytes_at(last, 5000)
        assert not files.whole
        await filling
        assert files.whole
    assert pulled.target.read_bytes() == pulled.source.read_bytes()


async def test_the_next_program_goes_on(pulled: Pulled) -> None:
    async with pulled.open() as files:
        await files.read(0, 5 * MIB, MIB)
        files.keep(pulled.bits)
        first = files.moved
    async with pulled.open() as files:
        calls = pulled.store.calls
        assert await files.read(0, 5 * MIB, MIB) == pulled.bytes_at(5 * MIB, MIB)
        assert pulled.store.calls == calls
        await files.fill(lambda: pulled.bits)
        assert files.moved + first < SIZE + 2 * MIB
    async with pulled.open() as files:
        assert files.whole
    assert pulled.target.read_bytes() == pulled.source.read_bytes()


async def test_it_waits_for_a_remote_that_cannot_be_reached(
    pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ondemand, "AGAIN", 0.01)
    away = True

    def before(number: int, verb: str, key: str) -> None:
        if away and pack_of(key):
            raise RemoteUnreachable("the network is gone")

    async with pulled.open() as files:
        pulled.store.before = before
        reading = asyncio.create_task(files.read(0, 0, 100))
        while not pulled.said:
            await asyncio.sleep(0)
        calls = pulled.store.calls
        while pulled.store.calls < calls + 3:
            await asyncio.sleep(0.001)  # it tries by itself
        assert not reading.done()
        assert pulled.said == ["the network is gone: what is still to be fetched waits for it"]
        away = False
        assert await reading == pulled.bytes_at(0, 100)
        assert pulled.said[1:] == ["memory://test can be reached again"]


async def test_a_drive_that_is_not_mounted_is_waited_for(
    pulled: Pulled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks everything, its keys too; what lacks a pack alone has lost it."""
    monkeypatch.setattr(ondemand, "AGAIN", 0.01)
    async with pulled.open() as files:
        blobs = dict(pulled.store.blobs)
        pulled.store.blobs.clear()
        reading = asyncio.create_task(files.read(0, 0, 100))
        while not pulled.said:
            await asyncio.sleep(0)
        assert not reading.done()
        pulled.store.blobs |= blobs
        assert await reading == pulled.bytes_at(0, 100)
        for key in [key for key in blobs if pack_of(key)]:
            del pulled.store.blobs[key]
        with pytest.raises(RemoteDamaged, match="is gone"):
            await files.read(0, SIZE - 100, 100)


async def test_what_was_changed_is_refused_and_the_rest_goes_on(pulled: Pulled) -> None:
    first, *_ = (key for key in pulled.store.blobs if pack_of(key))
    data = pulled.store.blobs[first]
    middle = len(data) // 2
    pulled.store.blobs[first] = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    async with pulled.open() as files:
        wrong: set[int] = set()
        for at in range(0, SIZE, PAGE):
            try:
                assert await files.read(0, at, 1000) == pulled.bytes_at(at, 1000)
            except RemoteDamaged:
                wrong |= set(files.parts[0].touched(at, 1000))
        # One chunk, and none of those that come along with it.
        assert len(wrong) == 1
        with pytest.raises(RemoteDamaged, match="packs/"):
            await files.fill(lambda: pulled.bits)
        assert not files.whole
        # Once it is right again, what failed comes.
        pulled.store.blobs[first] = data
        await files.fill(lambda: pulled.bits)
    assert pulled.target.read_bytes() == pulled.source.read_bytes()


async def test_what_is_known_to_be_read_first_is_brought_in_few_requests(pulled: Pulled) -> None:
    spots = [n * 2 * MIB for n in range(10)]
    async with pulled.open() as files:
        for at in spots:
            await files.read(0, at, 4096)
        first = files.asked_first()
        assert len(first) == len(spots)
    pulled.target.unlink()
    async with pulled.open() as files:
        await files.bring([*first, bytes(32)])
        calls = pulled.store.calls
        for at in spots:
            assert await files.read(0, at, 4096) == pulled.bytes_at(at, 4096)
        assert pulled.store.calls == calls and not files.waited


async def test_a_folder_that_is_gone_loses_only_the_note(pulled: Pulled) -> None:
    async with pulled.open() as files:
        await files.fill(lambda: pulled.bits / "nowhere")
        assert files.whole


async def test_closing_gives_up_what_is_coming(pulled: Pulled) -> None:
    begun = asyncio.Event()

    async def get(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with pulled.open() as files:
        pulled.store.get = get  # type: ignore[method-assign]  # one that never answers
        reading = asyncio.create_task(files.read(0, 0, 100))
        await begun.wait()
    with pytest.raises(asyncio.CancelledError):
        await reading
