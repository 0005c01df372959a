"""Random operations on what is shipped, against the model."""

from __future__ import annotations

import errno
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.host import HostFs
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.testing import FileSystemClient, file_system_machine

SETTINGS = settings(
    derandomize=True,  # a new finding is not the fault of who changed something else
    max_examples=8, stateful_step_count=30, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sandlot's own state is somewhere else than the folders that are served."""
    folder: Path = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDLOT_DATA", str(folder / "data"))
        patch.setenv("SANDLOT_RUNTIME", str(folder / "runtime"))
        yield


async def seed(client: FileSystemClient) -> None:
    """What the lower layer of overlays holds."""
    await client.mkdir("/a")
    await client.mkdir("/a/b")
    await client.write_bytes("/a/b/c", b"deep" * 5000)
    await client.write_bytes("/a/a", b"below")
    await client.write_bytes("/b", b"x" * 100_000)
    await client.setxattr("/b", "user.one", b"1")
    await client.symlink("/a/b", "/c")
    await client.mkdir("/d", 0o2755)
    await client.write_bytes("/d/a", b"one of two names")
    await client.link("/d/a", "/d/b")


def memory() -> FileSystem:
    return MemFs(size="64M")


async def overlay() -> FileSystem:
    lower = MemFs(size="64M")
    await seed(FileSystemClient(lower))
    return OverlayFs(lower, MemFs(size="64M"))


def host() -> FileSystem:
    """A folder that is removed with the last file system that has it."""
    folder = tempfile.TemporaryDirectory()
    fs = HostFs(folder.name)
    weakref.finalize(fs, folder.cleanup)
    return fs


TestMemFs = file_system_machine(memory).TestCase
TestMemFs.settings = SETTINGS
TestMemFsThroughFuse = file_system_machine(memory, through_fuse=True).TestCase
TestMemFsThroughFuse.settings = SETTINGS
TestEmptyOverlay = file_system_machine(lambda: OverlayFs(memory(), memory())).TestCase
TestEmptyOverlay.settings = SETTINGS
TestOverlay = file_system_machine(overlay, seed=seed, may_refuse={errno.EXDEV}).TestCase
TestOverlay.settings = SETTINGS
TestOverlayThroughFuse = file_system_machine(
    overlay, seed=seed, may_refuse={errno.EXDEV}, through_fuse=True
).TestCase
TestOverlayThroughFuse.settings = SETTINGS
TestHostFs = file_system_machine(host).TestCase
TestHostFs.settings = settings(SETTINGS, max_examples=3)
