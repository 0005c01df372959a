from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from sandlot.errors import BlobNotFound, RemoteFull, RemoteRefused
from sandlot.remote.folder import FolderStore
from sandlot.testing import BlobStoreSuite


class TestFolder(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, place: str) -> FolderStore:
        return FolderStore(self.folder / place)


def put_beyond(folder: Path) -> None:
    """In a program that may write no file of more than 64 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def work() -> None:
        async with FolderStore(folder) as store:
            await store.put("small", b"1")
            with pytest.raises(RemoteFull, match="cannot keep packs/large: File too large"):
                await store.put("packs/large", bytes(1 << 20))
            assert not await store.has("packs/large")

    asyncio.run(work())


def test_no_room_for_a_blob(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=put_beyond, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not list((tmp_path / ".incoming").iterdir())


async def test_what_is_written_can_be_shared(tmp_path: Path) -> None:
    """Files are for whom the folder is for: its umask and its rights say that."""
    async with FolderStore(tmp_path) as store:
        await store.put("packs/a", b"1")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "packs/a").stat().st_mode & 0o777 == 0o666 & ~mask


async def test_who_only_looks_makes_no_folder(tmp_path: Path) -> None:
    """As one whose name was mistyped."""
    async with FolderStore(tmp_path / "mistyped") as store:
        assert [blob async for blob in store.list()] == []
        assert not await store.has("a")
        with pytest.raises(BlobNotFound):
            await store.get("a")
        await store.delete("a")
        assert not (tmp_path / "mistyped").exists()
        await store.put("packs/a", b"1")
        assert (tmp_path / "mistyped").stat().st_mode & 0o777 == 0o700
        assert await store.get("packs/a") == b"1"
    (tmp_path / "file").touch()
    async with FolderStore(tmp_path / "file") as store:
        with pytest.raises(RemoteRefused, match="cannot be opened"):
            await store.has("a")
