"""Stores of fsspec's and archives."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import uuid
import zipfile
from pathlib import Path

import fsspec
import pytest

from sandlot.errors import ConfigError
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.fsspecfs import FsspecFs, TarFs, ZipFs
from sandlot.testing import FileSystemClient, Kernel

BIG = os.urandom(3_500_000)


@pytest.fixture(params=["zip", "tar", "tgz", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileSystem:
    """The same files in stores of several kinds."""
    files = {"a.txt": b"hello", "d/big": BIG, "d/e/empty": b""}
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return ZipFs(tmp_path / "x.zip")
    if request.param in ("tar", "tgz"):
        with tarfile.open(tmp_path / "x", "w:gz" if request.param == "tgz" else "w") as packed:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
        return TarFs(tmp_path / "x")
    root = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}"
    target, path = fsspec.core.url_to_fs(root)
    for name, data in files.items():
        target.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        target.pipe_file(f"{path}/{name}", data)
    return FsspecFs(root, readonly=True)


async def test_stores_are_read(store: FileSystem) -> None:
    async with Kernel(store) as kernel:
        client = FileSystemClient(kernel)
        assert await client.listdir("/") == ["a.txt", "d"]
        assert await client.listdir("/d") == ["big", "e"]
        assert await client.read_bytes("/a.txt") == b"hello"
        assert await client.read_bytes("/d/e/empty") == b""
        assert await client.read_bytes("/d/big") == BIG
        async with client.opened("/d/big") as file:
            for at in (3_499_000, 10, 1_048_570, 2_000_000):
                assert await file.pread(5000, at) == BIG[at : at + 5000]
        assert (await client.stat("/d")).is_folder
        with pytest.raises(FileNotFoundError):
            await client.stat("/d/none")
        with pytest.raises(OSError, match="Read-only"):
            await client.write_bytes("/a.txt", b"x")


async def test_blocks_are_kept_within_a_bound() -> None:
    target = fsspec.filesystem("memory")
    root = uuid.uuid4().hex
    target.pipe_file(f"/{root}/big", BIG)
    fs = FsspecFs(target, root=f"/{root}", cache_size="2M")
    reads: list[tuple[int, int]] = []
    inner = target.cat_file

    class Counting:
        def __getattr__(self, name: str) -> object:
            return getattr(target, name)

        def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
            reads.append((start or 0, end or 0))
            found: bytes = inner(path, start=start, end=end)
            return found

    fs.store = Counting()
    client = FileSystemClient(fs)
    async with client.opened("/big") as file:
        for at in range(0, 1 << 20, 65536):
            await file.pread(65536, at)
        assert reads == [(0, 1 << 20)]
        await client.read_bytes("/big")
        assert fs._blocks.held <= 2 << 20
        target.pipe_file(f"/{root}/big", b"changed")
        fs._listed.clear()
        assert await client.read_bytes("/big") == b"changed"


async def test_listings_are_believed_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    fs = FsspecFs(f"file://{tmp_path}", listing_timeout=1e9)
    client = FileSystemClient(fs)
    assert await client.listdir("/") == ["a"]
    (tmp_path / "b").write_bytes(b"y")
    assert await client.listdir("/") == ["a"]
    fs._timeout = 0.0
    assert await client.listdir("/") == ["a", "b"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such store"):
        FsspecFs("nowhere://x")
    with pytest.raises(ConfigError, match="no archive"):
        ZipFs(tmp_path / "none.zip")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigError, match="needs the package fsspec") as caught:
        FsspecFs("memory://x")
    assert "sandlot[fsspec]" in caught.value.hint
