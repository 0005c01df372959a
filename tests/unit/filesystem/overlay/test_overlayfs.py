"""What is of an overlay alone: the lower layer stays, and the upper one is as overlayfs would have it."""

from __future__ import annotations

import errno
import io
import stat
from typing import Any

import pytest

from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.layers import OPAQUE, WHITEOUT
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.filesystem.types import WRITE_LOCK, Context, Entry
from sandlot.testing import FileSystemClient, Kernel


class Layers:
    """An overlay, its layers, and clients of all three."""

    def __init__(self, upper: MemFs | None = None, cache: str = "fast") -> None:
        self.lower_fs = MemFs(size="64M", cache=cache)
        self.upper_fs = upper or MemFs(size="64M", cache=cache)
        self.fs = OverlayFs(self.lower_fs, self.upper_fs)
        self.lower = FileSystemClient(self.lower_fs)
        self.upper = FileSystemClient(self.upper_fs)
        self.whole = FileSystemClient(self.fs)

    async def fill(self) -> None:
        await self.lower.mkdir("/d", 0o2750)
        await self.lower.write_bytes("/d/a", b"lower")
        await self.lower.setxattr("/d/a", "user.one", b"1")
        await self.lower.change("/d/a", mode=0o4711, uid=5, gid=6, mtime_ns=10**18, atime_ns=5)
        await self.lower.write_bytes("/b", b"b" * 3_000_000)
        self.before = self.dumped()

    def dumped(self) -> bytes:
        file = io.BytesIO()
        self.lower_fs.dump(file)
        return file.getvalue()

    def check_lower(self) -> None:
        """Nothing of the lower layer was changed, but when it was read."""
        fresh = self._shown(self.dumped())
        assert fresh == self._shown(self.before)

    @staticmethod
    def _shown(data: bytes) -> list[Any]:
        copy = MemFs(size="64M")
        copy.load(io.BytesIO(data))
        return [
            (ino, n.mode, n.uid, n.gid, n.mtime, n.ctime, n.nlink, sorted(n.entries or {}),
             n.contents.read(0, n.contents.size) if n.contents else b"", n.xattrs)
            for ino, n in sorted(copy._numbered().items())
        ]  # fmt: skip


@pytest.fixture
async def layers() -> Layers:
    made = Layers()
    await made.fill()
    return made


async def test_a_copy_is_all_of_the_file(layers: Layers) -> None:
    before = await layers.whole.stat("/d/a")
    node, _ = await layers.whole.resolve("/d/a")
    folder = await layers.whole.stat("/d")
    async with layers.whole.opened("/d/a", 0o2) as file:
        assert (await file.stat()).ino == before.ino
        copy = await layers.upper.stat("/d/a")
        for name in ("mode", "uid", "gid", "mtime_ns", "size"):
            assert getattr(copy, name) == getattr(before, name), name
        assert await layers.upper.getxattr("/d/a", "user.one") == b"1"
        await file.pwrite(b"UP", 0)
    assert (await layers.upper.stat("/d")).mode == folder.mode
    assert await layers.whole.read_bytes("/d/a") == b"UPwer"
    after = await layers.fs.getattr(layers.whole.ctx, node)
    assert (after.ino, after.nlink) == (before.ino, 1)
    assert await layers.upper.listdir("/d") == ["a"]  # nothing of the work is left
    layers.check_lower()


async def test_what_was_opened_before_follows(layers: Layers) -> None:
    async with layers.whole.opened("/d/a") as reader:
        assert await reader.pread(10, 0) == b"lower"
        async with layers.whole.opened("/d/a", 0o2) as writer:
            await writer.pwrite(b"L", 0)
        assert await reader.pread(10, 0) == b"Lower"
        with pytest.raises(OSError, match=r".") as caught:
            await reader.pwrite(b"x", 0)
        assert caught.value.errno == errno.EBADF
    layers.check_lower()


async def test_an_unlinked_file_can_be_changed(layers: Layers) -> None:
    async with Kernel(layers.fs) as kernel:
        client = FileSystemClient(kernel)
        async with client.opened("/d/a") as file:
            await client.unlink("/d/a")
            assert (await file.stat()).nlink == 0
            await file.truncate(2)
            assert await file.pread(10, 0) == b"lo"
        assert await client.listdir("/d") == []
        assert await layers.upper.listdir("/") == ["d"]
    layers.check_lower()


async def test_removing_leaves_a_whiteout_and_making_takes_it_away(layers: Layers) -> None:
    await layers.whole.unlink("/b")
    white = await layers.upper.stat("/b")
    assert stat.S_ISCHR(white.mode) and white.rdev == 0
    assert await layers.whole.listdir("/") == ["d"]
    assert not await layers.whole.exists("/b")
    await layers.whole.write_bytes("/b", b"again")
    assert await layers.whole.read_bytes("/b") == b"again"
    await layers.whole.unlink("/b")
    assert await layers.whole.listdir("/") == ["d"]
    with pytest.raises(PermissionError):  # a guest cannot make one itself
        await layers.whole.mknod("/w", stat.S_IFCHR, 0)
    layers.check_lower()


async def test_a_folder_made_again_is_opaque(layers: Layers) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        await layers.whole.rmdir("/d")
    assert caught.value.errno == errno.ENOTEMPTY
    await layers.whole.unlink("/d/a")
    await layers.whole.rmdir("/d")
    await layers.whole.mkdir("/d")
    assert await layers.whole.listdir("/d") == []
    assert await layers.upper.getxattr("/d", OPAQUE) == b"y"
    assert await layers.whole.listxattr("/d") == []
    with pytest.raises(PermissionError):
        await layers.whole.setxattr("/d", OPAQUE, b"n")
    again = FileSystemClient(OverlayFs(layers.lower_fs, layers.upper_fs))
    assert await again.listdir("/d") == []
    layers.check_lower()


async def test_folders_of_the_lower_layer_stay_where_they_are(layers: Layers) -> None:
    for flags in (0, 2):
        await layers.whole.mkdir(f"/mine{flags}")
        with pytest.raises(OSError, match=r".") as caught:
            await layers.whole.rename("/d", f"/mine{flags}", flags)
        assert caught.value.errno == errno.EXDEV
    # One's own can be moved, also over what is below.
    await layers.whole.unlink("/d/a")
    await layers.whole.write_bytes("/mine0/x", b"x")
    await layers.whole.rename("/mine0", "/d")
    assert await layers.whole.listdir("/d") == ["x"]
    layers.check_lower()


async def test_a_lower_file_is_moved(layers: Layers) -> None:
    await layers.whole.rename("/d/a", "/moved")
    assert await layers.whole.listdir("/d") == []
    assert await layers.whole.read_bytes("/moved") == b"lower"
    await layers.whole.rename("/moved", "/b")
    assert await layers.whole.listdir("/") == ["b", "d"]
    again = FileSystemClient(OverlayFs(layers.lower_fs, layers.upper_fs))
    assert await again.listdir("/d") == []
    assert await again.read_bytes("/b") == b"lower"
    layers.check_lower()


async def test_sparse_files_stay_sparse() -> None:
    layers = Layers()
    async with layers.lower.opened("/s", 0o102) as file:
        await file.pwrite(b"far", 5 << 30)
        await file.truncate(6 << 30)
    await layers.whole.change("/s", mode=0o600)
    copy = await layers.upper.stat("/s")
    assert copy.size == 6 << 30
    assert copy.blocks < 100
    async with layers.whole.opened("/s") as file:
        assert await file.pread(5, 5 << 30) == b"far\0\0"


class NoDevices(MemFs):
    """As an unprivileged host folder may be."""

    async def mknod(self, ctx: Context, parent: Any, name: str, mode: int, rdev: int) -> Entry:
        if stat.S_ISCHR(mode):
            raise PermissionError(errno.EPERM, "no devices")
        return await super().mknod(ctx, parent, name, mode, rdev)


async def test_whiteouts_without_devices() -> None:
    layers = Layers(NoDevices(size="64M"))
    await layers.fill()
    await layers.whole.unlink("/d/a")
    assert await layers.upper.getxattr("/d/a", WHITEOUT) == b"y"
    assert await layers.whole.listdir("/d") == []
    assert not await layers.whole.exists("/d/a")
    await layers.whole.write_bytes("/d/a", b"")
    assert await layers.whole.listdir("/d") == ["a"]
    await layers.whole.unlink("/d/a")
    await layers.whole.rmdir("/d")
    assert await layers.whole.listdir("/") == ["b"]
    layers.check_lower()


async def test_a_copy_that_does_not_fit_leaves_nothing(layers: Layers) -> None:
    small = Layers(MemFs(size="1M", cache="coherent"))
    await small.fill()
    with pytest.raises(OSError, match="no room"):
        await small.whole.change("/b", mode=0o600)
    assert await small.upper.listdir("/") == []
    assert await small.whole.read_bytes("/b") == b"b" * 3_000_000
    await small.whole.truncate("/b", 0)  # of which nothing has to be copied
    small.check_lower()


async def test_locks_hold_while_a_file_is_copied_up() -> None:
    layers = Layers(cache="coherent")
    await layers.fill()
    async with layers.whole.opened("/d/a") as one:
        await one.lock(WRITE_LOCK, owner=1)
        async with layers.whole.opened("/d/a", 0o2) as two:
            with pytest.raises(BlockingIOError):
                await two.lock(WRITE_LOCK, owner=2)


async def test_changes_of_the_layers_are_told() -> None:
    layers = Layers(cache="coherent")
    await layers.fill()
    async with Kernel(layers.fs, "one") as kernel, Kernel(layers.lower_fs, "two") as below:
        client = FileSystemClient(kernel)
        node, _ = await client.resolve("/d/a")
        kernel.notices.clear()
        await FileSystemClient(below).write_bytes("/d/a", b"new")
        told = {int.from_bytes(body[:8], "little") for code, body in kernel.notices if code == 2}
        assert node in told
        kernel.notices.clear()
        await FileSystemClient(below).mkdir("/new")
        assert [body[16:-1] for code, body in kernel.notices if code == 3] == [b"new"]


async def test_nodes_and_open_files_are_known_after_a_restore(layers: Layers) -> None:
    async with Kernel(layers.fs) as kernel:
        client = FileSystemClient(kernel)
        low = await client.open("/d/a")
        high = await client.open("/new", 0o102)
        await high.write(b"upper")
        folder, _ = await client.resolve("/d")
        saved = kernel.mount.save()
        again = Kernel(OverlayFs(layers.lower_fs, layers.upper_fs), "copy")
        await again.mount.recall(saved)
        ctx = client.ctx
        assert await again.read(ctx, low.node, low.handle, 0, 10) == b"lower"
        assert await again.read(ctx, high.node, high.handle, 0, 10) == b"upper"
        assert (await again.lookup(ctx, folder, "a")).node == low.node
        assert again.inner.path_of(again.mount.node(low.node)) == "d/a"
