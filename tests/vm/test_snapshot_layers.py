"""Layers of a disk that are joined in the background, and files that are not read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import Sandbox, Snapshot
from sandlot.sandbox import joining, saving
from sandlot.snapshot.integrity import digest_sparse
from sandlot.snapshot.memory import DEEPEST

MEGABYTES = 4  # in each layer


@pytest.fixture
async def written(image: str) -> AsyncIterator[Sandbox]:
    async with Sandbox.create(image=image, memory="256M") as sandbox:
        yield sandbox
    for snapshot in await Snapshot.list():
        if snapshot.record.sandbox == sandbox.name:
            await snapshot.remove(cascade=True)


async def layer(sandbox: Sandbox, number: int) -> Snapshot:
    """A snapshot with one layer more, and a file that lies in it."""
    write = f"head -c {MEGABYTES}M /dev/urandom > /root/{number}; echo {number} >> /root/all; sync"
    await sandbox.exec(write, check=True)
    return await sandbox.snapshot()


async def sums(sandbox: Sandbox) -> str:
    return (await sandbox.exec("cd /root; sha256sum *", check=True)).text


def layers_of(sandbox: Sandbox) -> list[Path]:
    return sandbox._folder.disk_files()[0]


async def test_layers_are_joined_in_the_background(
    written: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AT_ONCE", 0)
    monkeypatch.setattr(joining, "DELAY", 0)
    snapshots = [await layer(written, number) for number in range(DEEPEST)]
    # The last one was there before anything was joined; that is done while nobody waits.
    assert len(snapshots[-1].record.layers) == DEEPEST
    whole = await sums(written)
    while len(layers_of(written)) > 1:
        await asyncio.sleep(0.02)  # the machine works by itself
    assert await sums(written) == whole
    after = await layer(written, DEEPEST)
    assert len(after.record.layers) == 2
    whole = await sums(written)
    async with after.restore() as child, snapshots[-1].restore() as before:
        assert await sums(child) == whole
        assert (await before.exec("cat /root/all")).text.split()[-1] == str(DEEPEST - 1)
    await written.stop()
    await written.start()
    assert await sums(written) == whole


async def test_a_save_does_not_wait_for_joining_until_layers_are_too_many(
    written: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AT_ONCE", 0)
    monkeypatch.setattr(joining, "DELAY", 0)
    monkeypatch.setattr(joining, "MOST_LAYERS", DEEPEST + 2)
    for number in range(DEEPEST):
        await layer(written, number)
    whole = await sums(written)
    # At once: it is given up, or just done.
    second = await written.snapshot()
    assert len(second.record.layers) in (DEEPEST + 1, 2)
    third = await written.snapshot()
    assert len(third.record.layers) in (DEEPEST + 2, 3, 2)
    fourth = await written.snapshot()
    assert len(fourth.record.layers) <= DEEPEST + 2
    assert len(layers_of(written)) <= DEEPEST + 2
    async with fourth.restore() as child:
        assert await sums(child) == whole
        assert (await child.exec("dmesg | grep -i 'ext4.*error' || true")).text == ""
    assert await sums(written) == whole


async def test_joined_layers_are_taken_elsewhere(written: Sandbox, tmp_path: Path) -> None:
    """They name no file of the host that they were joined on, as those from a stranger could."""
    for number in range(DEEPEST):
        await written.exec(f"echo {number} > /root/{number}; sync", check=True)
        await written.snapshot()
    await written.exec("echo last > /root/last; sync", check=True)
    joined = await written.snapshot()
    assert len(joined.record.layers) == 2
    await joined.export(tmp_path / "joined")
    back = await Snapshot.import_(tmp_path / "joined", "joined-back")
    async with back.restore() as child:
        assert await sums(child) == await sums(written)


async def test_saves_in_a_row_begin_no_joining(
    written: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AT_ONCE", 0)
    monkeypatch.setattr(joining, "DELAY", 1e6)
    begun = []

    async def join(*_: object) -> None:
        begun.append(1)

    monkeypatch.setattr(joining, "join", join)
    for number in range(DEEPEST + 2):
        assert len((await layer(written, number)).record.layers) == number + 1
    assert not begun and len(layers_of(written)) == DEEPEST + 2


async def test_a_machine_that_ends_while_layers_are_joined(
    written: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AT_ONCE", 0)
    monkeypatch.setattr(joining, "DELAY", 0)
    for number in range(DEEPEST):
        await layer(written, number)
    whole = await sums(written)
    await written.snapshot()
    await written.kill()
    await written.start()
    assert await sums(written) == whole


async def test_what_was_read_before_is_not_read_again(
    written: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return digest_sparse(path)

    monkeypatch.setattr(saving, "digest_sparse", digest)
    first = await layer(written, 1)
    (lowest,) = first.record.layers
    assert sorted(read) == sorted([lowest, "pages-1", "state"])
    assert "memory/root" in first.record.digests  # the template's
    first.folder.verify(whole=True)
    read.clear()
    second = await layer(written, 2)
    assert sorted(read) == sorted([second.record.layers[-1], "pages-1", "state"])
    second.folder.verify(whole=True)
    async with second.restore() as child:
        read.clear()
        third = await child.snapshot()
        assert sorted(read) == sorted([third.record.layers[-1], "pages-2", "state"])
        third.folder.verify(whole=True)
