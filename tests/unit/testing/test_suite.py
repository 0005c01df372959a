"""The suite, run on what is shipped."""

from __future__ import annotations

import stat
import tempfile
import uuid
from pathlib import Path

import pytest

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.fsspecfs import FsspecFs
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.filesystem.simple import SimpleFileSystem
from sandlot.filesystem.types import Attr
from sandlot.testing import FileSystemSuite


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandlot's own state is somewhere else than the folders that are served."""
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "state"))
    monkeypatch.setenv("SANDLOT_RUNTIME", str(tmp_path / "runtime"))


class TestMemFs(FileSystemSuite):
    leave_out = {"locks"}  # one guest's kernel keeps them to itself

    def make(self) -> FileSystem:
        return MemFs(size="64M")


class TestSharedMemFs(FileSystemSuite):
    def make(self) -> FileSystem:
        return MemFs(size="64M", cache="coherent")


class TestUncachedMemFs(FileSystemSuite):
    def make(self) -> FileSystem:
        return MemFs(size="64M", cache="none")


class TestOverlayFs(FileSystemSuite):
    leave_out = {"locks"}

    def make(self) -> FileSystem:
        return OverlayFs(MemFs(size="64M"), MemFs(size="64M"))


class TestSharedOverlayFs(FileSystemSuite):
    def make(self) -> FileSystem:
        return OverlayFs(MemFs(size="64M", cache="coherent"), MemFs(size="64M", cache="coherent"))


class Shelf(SimpleFileSystem):
    """The least that can be written: files in a dict, folders by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.folders = {"/"}

    def list(self, path: str) -> list[str]:
        if path not in self.folders:
            raise FileNotFoundError(path)
        below = path.rstrip("/") + "/"
        found = [name + "/" for name in self.folders if name.startswith(below) and name != "/"]
        names = [name[len(below) :] for name in [*self.files, *found] if name.startswith(below)]
        return [name for name in names if "/" not in name[:-1]]

    def read_bytes(self, path: str) -> bytes:
        if path in self.folders:
            raise IsADirectoryError(path)
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def write_bytes(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def remove(self, path: str) -> None:
        self.folders.discard(path)
        self.files.pop(path, None)

    def make_folder(self, path: str) -> None:
        self.folders.add(path)


class FullShelf(Shelf):
    """With what is optional, as coroutines."""

    async def stat(self, path: str) -> Attr:
        if path in self.folders:
            return Attr(stat.S_IFDIR | 0o755, nlink=2)
        return Attr(stat.S_IFREG | 0o644, size=len(self.read_bytes(path)))

    async def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self.read_bytes(path)[offset : offset + size]

    async def move(self, path: str, new: str) -> None:
        for kept in [name for name in self.files if name == path or name.startswith(path + "/")]:
            self.files[new + kept[len(path) :]] = self.files.pop(kept)
        inside = {name for name in self.folders if name == path or name.startswith(path + "/")}
        self.folders = self.folders - inside | {new + name[len(path) :] for name in inside}


SIMPLE = {"copy", "exchange", "links", "locks", "nodes", "owners", "sparse", "symlinks", "times",
          "xattrs"}  # fmt: skip


class TestSimpleFileSystem(FileSystemSuite):
    leave_out = SIMPLE | {"rename"}

    def make(self) -> FileSystem:
        return Shelf()


class TestFullSimpleFileSystem(FileSystemSuite):
    leave_out = SIMPLE | {"unlinked"}  # what is only read is not held

    def make(self) -> FileSystem:
        return FullShelf()


class TestFsspecFs(FileSystemSuite):
    leave_out = SIMPLE | {"unlinked"}

    def make(self) -> FileSystem:
        return FsspecFs(f"memory://suite-{uuid.uuid4().hex}")


class TestLocalFsspecFs(FileSystemSuite):
    leave_out = SIMPLE | {"names", "unlinked"}  # it has no names that are not Unicode

    def make(self) -> FileSystem:
        self.folder = tempfile.TemporaryDirectory()
        return FsspecFs(f"file://{self.folder.name}")

    async def unmake(self, fs: FileSystem) -> None:
        self.folder.cleanup()


class TestHostFs(FileSystemSuite):
    def make(self) -> FileSystem:
        self.folder = tempfile.TemporaryDirectory()
        return HostFs(self.folder.name)

    async def unmake(self, fs: FileSystem) -> None:
        self.folder.cleanup()
