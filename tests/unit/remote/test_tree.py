"""What a store in files leaves when its writer is killed, is slow, or has no room."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    RemoteError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
)
from sandlot.remote.folder import FolderStore, LocalDisk
from sandlot.remote.tree import FORGOTTEN, INCOMING, KEPT, Disk, TreeStore, explained

STEPS = ("begin", "read", "write", "link", "rename", "remove", "make", "info", "entries")


class Mortal(LocalDisk):
    """Kills its program before, or after, the step with this number."""

    def __init__(self, root: Path, step: int, *, after: bool) -> None:
        super().__init__(root)
        self.left = step
        self.after = after

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in STEPS:
            return found

        async def step(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return await found(*arguments)
            finally:
                if self.left == 0 and self.after:
                    os.kill(os.getpid(), signal.SIGKILL)

        return step


def do(root: Path, action: str, step: int, after: bool) -> None:
    import asyncio

    async def work() -> None:
        store = TreeStore(Mortal(root, step, after=after), str(root))
        match action:
            case "put":
                await store.put("packs/one", b"new" * 1000)
            case "replace":
                _, version = await store.read("heads/x")
                await store.replace("heads/x", b"new" * 1000, version)
            case "create":
                await store.replace("heads/new", b"new" * 1000, None)
            case "delete":
                await store.delete("heads/x")

    asyncio.run(work())


@pytest.mark.parametrize("action", ["put", "replace", "create", "delete"])
async def test_a_writer_that_is_killed_at_any_step_leaves_old_or_new(
    tmp_path: Path, action: str
) -> None:
    old, new = b"old" * 1000, b"new" * 1000
    seen: set[bytes | None] = set()
    ended = False
    for step in range(1, 60):
        for after in (False, True):
            root = tmp_path / f"{step}{after}"
            async with FolderStore(root) as store:
                await store.put("packs/one", old)
                await store.replace("heads/x", old, await store.replace("heads/x", b"older", None))
            process = multiprocessing.get_context("fork").Process(
                target=do, args=(root, action, step, after)
            )
            process.start()
            process.join()
            ended = process.exitcode == 0
            assert ended or process.exitcode == -signal.SIGKILL
            async with FolderStore(root) as store:
                key = {"put": "packs/one", "create": "heads/new"}.get(action, "heads/x")
                found: bytes | None
                version: str | None
                try:
                    found, version = await store.read(key)
                    assert await store.get(key) == found
                    keys = {blob.key async for blob in store.list()}
                    assert key in keys
                except BlobNotFound:
                    found, version = None, None
                    assert not await store.has(key)
                before = None if action == "create" else old
                after_it = None if action == "delete" else new
                assert found in (before, after_it)
                seen.add(found)
                # The same again finishes, by another program.
                again = await store.replace(key, b"later", version)
                assert await store.read(key) == (b"later", again)
        if ended:
            break
    assert ended and len(seen) == 2


async def test_what_writers_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    async with FolderStore(tmp_path / "r") as store:
        await store.put("a", b"1")
    incoming = tmp_path / "r" / INCOMING
    (incoming / "old").write_bytes(b"x")
    (incoming / "new").write_bytes(b"x")
    long_ago = time.time() - FORGOTTEN - 60
    os.utime(incoming / "old", (long_ago, long_ago))
    async with FolderStore(tmp_path / "r") as store:
        assert [blob.key async for blob in store.list()] == ["a"]
        await store.put("a", b"2")
    assert [path.name for path in incoming.iterdir()] == ["new"]


class Slow(LocalDisk):
    """Before its first link, others do their work."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.times = times

    async def link(self, source: str, target: str) -> None:
        async with FolderStore(self._root) as other:
            for number in range(self.times):
                _, version = await other.read("heads/x")
                await other.replace("heads/x", b"faster %d" % number, version)
        self.times = 0
        await super().link(source, target)


@pytest.mark.parametrize("times", [1, 2, KEPT - 1, KEPT, KEPT + 1, 3 * KEPT])
async def test_who_slept_through_versions_is_told(tmp_path: Path, times: int) -> None:
    async with FolderStore(tmp_path) as store:
        version = await store.replace("heads/x", b"first", None)
    slow = TreeStore(Slow(tmp_path, times), "slow")
    with pytest.raises(BlobChanged, match="replaced by somebody else"):
        await slow.replace("heads/x", b"late", version)
    async with FolderStore(tmp_path) as store:
        data, version = await store.read("heads/x")
        assert data == b"faster %d" % (times - 1)
        await store.replace("heads/x", b"next", version)
        assert await store.get("heads/x") == b"next"


async def test_a_slow_delete_or_put_comes_after_all(tmp_path: Path) -> None:
    async with FolderStore(tmp_path) as store:
        await store.replace("heads/x", b"first", None)
        await TreeStore(Slow(tmp_path, 3 * KEPT), "slow").put("heads/x", b"put")
        assert await store.get("heads/x") == b"put"
        await TreeStore(Slow(tmp_path, 3 * KEPT), "slow").delete("heads/x")
        assert not await store.has("heads/x")


class Linkless(LocalDisk):
    """A file system such as FAT, by what `os.link` says there."""

    async def link(self, source: str, target: str) -> None:
        def link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "link", link)
            await super().link(source, target)


async def test_without_links_a_lock_takes_their_place(tmp_path: Path) -> None:
    one, two = (TreeStore(Linkless(tmp_path), "usb") for _ in range(2))
    version = await one.replace("heads/x", b"1", None)
    with pytest.raises(BlobChanged):
        await two.replace("heads/x", b"2", None)
    version = await two.replace("heads/x", b"2", version)
    assert await one.read("heads/x") == (b"2", version)
    assert [path.name for path in (tmp_path / INCOMING).iterdir()] == [".lock"]


class Failing(LocalDisk):
    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root)
        self.number = number

    async def write(self, path: str, data: bytes) -> None:
        await super().write(path, data[: len(data) // 2])
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, RemoteFull, "make room"),
        (errno.EDQUOT, RemoteFull, "make room"),
        (errno.EIO, RemoteUnreachable, "try again"),
        (errno.EACCES, RemoteRefused, "must be able to write"),
        (errno.EROFS, RemoteRefused, ""),
    ],
)
async def test_what_failed_is_told_and_leaves_nothing(
    tmp_path: Path, number: int, kind: type[RemoteError], hint: str
) -> None:
    async with FolderStore(tmp_path) as store:
        await store.put("a", b"old")
    failing: Disk = Failing(tmp_path, number)
    with pytest.raises(kind, match=f"disk cannot keep a: {os.strerror(number)}") as caught:
        await TreeStore(failing, "disk").put("a", b"new")
    assert hint in caught.value.hint and caught.value.address == "disk"
    assert not list((tmp_path / INCOMING).iterdir())
    assert (tmp_path / "a").read_bytes() == b"old"


async def test_a_drive_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "mnt" / "team")
    with pytest.raises(RemoteRefused, match="cannot be opened: No such file") as caught:
        await store.put("a", b"")
    assert "mount the drive" in caught.value.hint
    assert not (tmp_path / "mnt").exists()


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    async with FolderStore(tmp_path) as store:
        await store.put("packs/a", b"1")
        (tmp_path / "packs" / "Thumbs.db").touch()
        (tmp_path / "packs" / "link").symlink_to("a")
        (tmp_path / ".Trash").mkdir()
        assert [blob.key async for blob in store.list()] == ["packs/a"]


def test_an_error_without_a_text_has_its_name() -> None:
    assert explained(TimeoutError(), "disk", "read a").message == "disk cannot read a: TimeoutError"
