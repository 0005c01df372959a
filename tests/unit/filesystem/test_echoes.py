"""What the agent does again of the host's changes is answered as if it had been done, and is not."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import ROOT, Op
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.types import Context, SetAttr
from sandlot.testing import FileSystemClient, Kernel

AGENT = Context(77, 0, 0)


@pytest.fixture
async def fs() -> MemFs:
    fs = MemFs(size="1M")
    client = FileSystemClient(fs)
    await client.write_bytes("/there", b"contents")
    await client.mkdir("/folder")
    return fs


async def test_a_file_is_made_that_is_there(fs: MemFs) -> None:
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        kernel.mount.creating = {"there"}
        with pytest.raises(FileNotFoundError):
            await kernel.lookup(AGENT, ROOT, "there")
        entry, opened = await kernel.create(AGENT, ROOT, "there", 0o600, os.O_WRONLY | os.O_EXCL)
        assert entry.attr.size == 8 and stat.S_IMODE(entry.attr.mode) == 0o644
        await kernel.release(Context(0, 0, 0), entry.node, opened.handle)
        assert (await kernel.lookup(AGENT, ROOT, "there")).node == entry.node
    assert await FileSystemClient(fs).read_bytes("/there") == b"contents"


async def test_a_folder_is_made_that_is_there(fs: MemFs) -> None:
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        kernel.mount.creating = {"folder"}
        with pytest.raises(FileNotFoundError):
            await kernel.lookup(AGENT, ROOT, "folder")
        assert stat.S_ISDIR((await kernel.mkdir(AGENT, ROOT, "folder", 0o700)).attr.mode)


@pytest.mark.parametrize("folder", [False, True])
async def test_what_is_gone_is_removed(fs: MemFs, folder: bool) -> None:
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        with pytest.raises(FileNotFoundError):
            await kernel.lookup(AGENT, ROOT, "gone")
        kernel.mount.deleting = {"gone": folder}
        assert stat.S_ISDIR((await kernel.lookup(AGENT, ROOT, "gone")).attr.mode) == folder
        await (kernel.rmdir if folder else kernel.unlink)(AGENT, ROOT, "gone")
        with pytest.raises(FileNotFoundError):
            await kernel.lookup(AGENT, ROOT, "gone")


async def test_nothing_is_changed_nor_removed(fs: MemFs) -> None:
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        entry = await kernel.lookup(AGENT, ROOT, "there")
        attr = await kernel.setattr(AGENT, entry.node, SetAttr(size=0, mode=0o777))
        assert attr.size == 8 and stat.S_IMODE(attr.mode) == 0o644
        opened = await kernel.open(AGENT, entry.node, os.O_WRONLY)
        await kernel.ask(Op.FLUSH, entry.node, requests.FLUSH.pack(opened.handle, 0, 0, 0), AGENT)
        await kernel.release(Context(0, 0, 0), entry.node, opened.handle)
        await kernel.rename(AGENT, ROOT, "there", ROOT, "elsewhere", 0)
    assert await FileSystemClient(fs).read_bytes("/there") == b"contents"


@pytest.mark.parametrize("name", ["there", "folder"])
async def test_what_is_there_is_not_removed(fs: MemFs, name: str) -> None:
    """The guest's kernel would take it for dead: a folder could not be listed any more."""
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        entry = await kernel.lookup(AGENT, ROOT, name)
        with pytest.raises(OSError) as caught:
            await (kernel.unlink if name == "there" else kernel.rmdir)(AGENT, ROOT, name)
        assert caught.value.errno == errno.EBUSY
        assert (await kernel.lookup(AGENT, ROOT, name)).node == entry.node


async def test_others_do_what_they_do(fs: MemFs) -> None:
    async with Kernel(fs) as kernel:
        kernel.mount.nudger = AGENT.pid
        kernel.mount.creating, kernel.mount.deleting = {"there"}, {"gone": False}
        other = Context(78, 0, 0)
        await kernel.lookup(other, ROOT, "there")
        with pytest.raises(FileNotFoundError):
            await kernel.lookup(other, ROOT, "gone")
        await kernel.unlink(other, ROOT, "there")
    with pytest.raises(OSError) as caught:
        await FileSystemClient(fs).read_bytes("/there")
    assert caught.value.errno == errno.ENOENT
