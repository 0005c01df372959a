"""Folders that the guest lists without having opened them."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandlot.errors import Refuse
from sandlot.filesystem import folders
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Notify, Op
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.filesystem.readonly import ReadOnly
from sandlot.filesystem.types import Context, DirEntry, FileAccess, Opened
from sandlot.testing import FileSystemClient, Kernel

COUNT = 300


async def filled(fs: FileSystem) -> FileSystem:
    client = FileSystemClient(fs)
    await client.mkdir("/d")
    for number in range(COUNT):
        await client.write_bytes(f"/d/{number}", b"")
    return fs


def host(path: Path, kind: type[HostFs] = HostFs) -> HostFs:
    (path / "d").mkdir(parents=True)
    for number in range(COUNT):
        (path / "d" / str(number)).touch()
    return kind(path)


async def listed(kernel: Kernel, node: int, pid: int = 1) -> list[str]:
    return [name async for name in reading(kernel, node, pid)]


async def reading(kernel: Kernel, node: int, pid: int = 1) -> AsyncIterator[str]:
    ctx = Context(pid, 0, 0, "test", "/")
    opened = await kernel.opendir(ctx, node)
    assert opened.handle == 0
    async for entry in await kernel.readdir(ctx, node, opened.handle):
        yield entry.name
    await kernel.releasedir(ctx, node, opened.handle)


async def folder(kernel: Kernel) -> int:
    client = FileSystemClient(kernel)
    return int((await kernel.lookup(client.ctx, 1, "d")).node)


ALL = {str(number) for number in range(COUNT)}


@pytest.mark.parametrize("kind", ["host", "memory", "read-only"])
async def test_the_guest_asks_once_whether_it_must_open(kind: str, tmp_path: Path) -> None:
    fs = host(tmp_path / "x") if kind == "host" else await filled(MemFs())
    async with Kernel(ReadOnly(fs) if kind == "read-only" else fs, unopened=True) as kernel:
        node = await folder(kernel)
        for _ in range(2):
            names = await listed(kernel, node)
            assert len(names) == COUNT and set(names) == ALL
        asked = kernel.mount.statistics()
        assert asked["opendir"] == 1 and "releasedir" not in asked
        await kernel.fsyncdir(FileSystemClient(kernel).ctx, node, 0, False)
        assert not kernel.mount.folders._readings


class Listing(MemFs):
    """As a user's who lists otherwise."""

    async def readdir(self, ctx: Context, node: Any, handle: Any) -> Iterator[DirEntry]:
        return iter(())


class Opening(MemFs):
    """As a user's who looks at what is opened."""

    async def opendir(self, ctx: Context, node: Any) -> Opened:
        return await super().opendir(ctx, node)


def test_who_opens_folders_itself_is_asked(tmp_path: Path) -> None:
    assert MemFs().unopened and HostFs(tmp_path).unopened and ReadOnly(MemFs()).unopened
    assert not FileSystem().unopened and not OverlayFs(MemFs(), MemFs()).unopened
    assert not Listing().unopened and not Opening().unopened and not ReadOnly(Opening()).unopened


async def test_a_hook_is_asked_before_a_folder_is_listed() -> None:
    told: list[FileAccess] = []

    def hook(access: FileAccess) -> None:
        told.append(access)
        raise Refuse("no")

    fs = await filled(MemFs())
    async with Kernel(fs, unopened=True) as kernel:
        node = await folder(kernel)
        await listed(kernel, node)
        saved = kernel.mount.save()
    again = Kernel(fs, unopened=True, on_fs=hook)
    await again.mount.recall(saved)
    body = requests.READ.pack(0, 0, 4096, 0, 0, 0, 0)
    with pytest.raises(PermissionError):
        await again.ask(Op.READDIR, node, body)
    assert [(each.operation, each.path) for each in told] == [("opendir", "/d")]
    async with Kernel(fs, unopened=True, on_fs=hook) as fresh:
        with pytest.raises(PermissionError):
            await fresh.opendir(FileSystemClient(fresh).ctx, await folder(fresh))


@pytest.mark.parametrize("pids", [(1, 2), (1, 1)])
async def test_two_may_list_at_once(pids: tuple[int, int]) -> None:
    async with Kernel(await filled(MemFs()), unopened=True) as kernel:
        node = await folder(kernel)
        one = reading(kernel, node, pids[0])
        first = [await anext(one) for _ in range(COUNT // 2)]
        assert set(await listed(kernel, node, pids[1])) == ALL
        assert set(first + [name async for name in one]) == ALL


async def test_readings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_READINGS", 3)
    async with Kernel(await filled(MemFs()), unopened=True) as kernel:
        node = await folder(kernel)
        some = [reading(kernel, node, pid) for pid in range(6)]
        for each in some:
            await anext(each)
        assert len(kernel.mount.folders._readings) == 3
        for each in some:  # those that were forgotten begin anew
            assert len([name async for name in each]) == COUNT - 1
        assert not kernel.mount.folders._readings


async def test_what_must_not_be_kept_is_forgotten_when_it_was_read(tmp_path: Path) -> None:
    class Unwatched(HostFs):
        async def opendir(self, ctx: Context, node: Any) -> Opened:
            return Opened((await super().opendir(ctx, node)).handle)

        unopened = True

    for kind, told in ((HostFs, False), (Unwatched, True)):
        fs = host(tmp_path / kind.__name__, kind)
        async with Kernel(fs, unopened=True) as kernel:
            node = await folder(kernel)
            kernel.notices.clear()
            await listed(kernel, node)
            turned = asyncio.Event()
            asyncio.get_running_loop().call_soon(turned.set)
            await turned.wait()
            codes = [
                code for code, body in kernel.notices if int.from_bytes(body[:8], "little") == node
            ]
            assert codes == ([Notify.INVAL_INODE] if told else [])


async def test_it_goes_on_after_a_restore() -> None:
    fs = await filled(MemFs())
    async with Kernel(fs, unopened=True) as kernel:
        node = await folder(kernel)
        half = reading(kernel, node)
        await anext(half)
        saved = json.loads(json.dumps(kernel.mount.save()))
        again = Kernel(fs, unopened=True)
        await again.mount.recall(saved)
        body = requests.READ.pack(0, 0, 4096, 0, 0, 0, 0)
        assert await again.ask(Op.READDIR, node, body)
        other = Kernel(FileSystem(), unopened=True)
        await other.mount.recall(saved)
        with pytest.raises(OSError) as stale:
            await other.ask(Op.READDIR, node, body)
        assert stale.value.errno == errno.ESTALE
