"""Open folders, taken piece by piece: nothing twice, nothing left out, and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError
from sandlot.filesystem import listing as module
from sandlot.filesystem.listing import Listing, fits
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.types import Attr, DirEntry, Entry
from sandlot.testing import FileSystemClient, Kernel


def names_in(body: bytes) -> list[tuple[bytes, int]]:
    """Names and the offsets after them."""
    found, at = [], 0
    while at < len(body):
        length = int.from_bytes(body[at + 16 : at + 20], "little")
        found.append(
            (body[at + 24 : at + 24 + length], int.from_bytes(body[at + 8 : at + 16], "little"))
        )
        at += (24 + length + 7) // 8 * 8
    return found


class Source:
    """A folder of many names; counts how often it is read anew."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.begun = 0

    async def begin(self) -> AsyncIterator[DirEntry]:
        self.begun += 1
        return self.names()

    async def names(self) -> AsyncIterator[DirEntry]:
        for number in range(self.count):
            yield DirEntry(f"name-{number}", 0o100644, number + 10)


async def read(listing: Listing, offset: int, size: int = 400) -> list[tuple[bytes, int]]:
    return names_in(await listing.read(offset, size, 1, None, lambda entry: 0))


@given(st.integers(0, 300), st.integers(60, 2000))
async def test_it_is_whole_however_it_is_taken(count: int, size: int) -> None:
    source = Source(count)
    listing = Listing(source.begin)
    seen: list[bytes] = []
    offset = 0
    while piece := await read(listing, offset, size):
        seen += [name for name, _ in piece]
        offset = piece[-1][1]
    assert seen == [b".", b".."] + [b"name-%d" % number for number in range(count)]
    assert source.begun == 1


async def test_one_may_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 20)
    source = Source(200)
    listing = Listing(source.begin)
    offset = 0
    while piece := await read(listing, offset):
        offset = piece[-1][1]
    assert (await read(listing, 195))[0] == (b"name-193", 196)
    assert source.begun == 1  # it was remembered
    assert (await read(listing, 5))[0] == (b"name-3", 6)
    assert source.begun == 2
    assert (await read(listing, 0))[0] == (b".", 1)
    assert await read(listing, 10**12) == []


async def test_names_that_cannot_be_are_left_out() -> None:
    async def begin() -> list[DirEntry]:
        return [DirEntry(name, 0o100644) for name in ("", ".", "a/b", "x" * 256, "a\0", "good")]

    found = await read(Listing(begin), 2)
    assert [name for name, _ in found] == [b"good"]
    assert not fits("..") and fits("..."), "only the two dots themselves"


async def test_too_much_at_once_is_a_breach() -> None:
    with pytest.raises(GuestProtocolError, match="at once"):
        await read(Listing(Source(1).begin), 0, 1 << 20)


async def test_nodes_are_told_only_for_what_is_answered() -> None:
    """Else the guest would never forget what it was never told."""
    counted: list[str] = []

    async def begin() -> list[DirEntry]:
        return [
            DirEntry(f"name-{n}", 0o100644, n + 1, Entry(f"name-{n}", Attr(0o100644)))
            for n in range(50)
        ]

    async def tell(entry: DirEntry) -> Entry | None:
        return entry.entry

    def number(entry: Entry) -> int:
        counted.append(entry.node)
        return 7

    await Listing(begin).read(2, 1000, 1, tell, number)
    assert 0 < len(counted) < 10


@pytest.mark.parametrize("plus", [True, False])
async def test_what_was_told_is_forgotten_again(plus: bool) -> None:
    async with Kernel(MemFs(size="64M")) as kernel:
        client = FileSystemClient(kernel)
        for number in range(500):
            await kernel.inner.mknod(client.ctx, kernel.inner.root, f"{number}", 0o100644, 0)
        opened = await kernel.opendir(client.ctx, 1)
        method = kernel.readdirplus if plus else kernel.readdir
        entries = [entry async for entry in await method(client.ctx, 1, opened.handle)]
        assert len(entries) == 500
        told = [entry.entry.node for entry in entries if entry.entry is not None]
        assert len(told) == (500 if plus else 0)
        for node in told:
            kernel.forget(node)
        assert kernel.mount.statistics()["nodes"] == 1
