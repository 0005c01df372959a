"""A hook is told what is about to be done to a volume's files, and may refuse it."""

from __future__ import annotations

import errno

import pytest

from sandlot.errors import GuestProtocolError, Refuse
from sandlot.filesystem.asking import ASKED
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.mount import Mount
from sandlot.filesystem.types import FileAccess
from sandlot.testing import FileSystemClient, Kernel


def asked(fs: MemFs, told: list[FileAccess], *, refuses: str = "", waits: bool = False) -> Kernel:
    """A kernel whose mount asks."""
    kernel = Kernel(fs, "box", "/data")

    def on_fs(access: FileAccess) -> object:
        told.append(access)
        if refuses and refuses in access.path:
            raise Refuse("not this one")
        return later() if waits else None

    async def later() -> None:
        return None

    def broken(error: GuestProtocolError) -> None:
        raise AssertionError(error)

    kernel.mount = Mount(
        fs, "box", "/data", send=kernel._receive, taken=lambda _: None, broken=broken, on_fs=on_fs
    )
    return kernel


@pytest.mark.parametrize("waits", [False, True])
async def test_it_is_told_of_each(waits: bool) -> None:
    told: list[FileAccess] = []
    async with asked(MemFs(size="1M"), told, waits=waits) as kernel:
        client = FileSystemClient(kernel)
        await client.mkdir("/sub")
        await client.write_bytes("/sub/a", b"x")
        await client.rename("/sub/a", "/b")
        assert await client.read_bytes("/b") == b"x"
        await client.unlink("/b")
    shown = [
        (each.operation, each.path, each.target) for each in told if each.operation != "opendir"
    ]
    assert ("mkdir", "/data/sub", "") in shown
    assert ("rename", "/data/sub/a", "/data/b") in shown
    assert shown[-1] == ("unlink", "/data/b", "")
    made = [each for each in told if each.operation in ("create", "mknod")]
    assert made and all(each.writes and each.context.sandbox == "box" for each in made)
    opened = [each for each in told if each.operation == "open" and each.path == "/data/b"]
    assert opened and not opened[-1].writes


async def test_what_it_refuses_is_not_done() -> None:
    fs = MemFs(size="1M")
    told: list[FileAccess] = []
    async with asked(fs, told, refuses="secret") as kernel:
        client = FileSystemClient(kernel)
        await client.write_bytes("/open", b"x")
        with pytest.raises(OSError) as caught:
            await client.write_bytes("/secret", b"x")
        assert caught.value.errno == errno.EACCES
        with pytest.raises(OSError):
            await client.mkdir("/secret")
    assert await FileSystemClient(fs).read_bytes("/open") == b"x"
    with pytest.raises(FileNotFoundError):
        await FileSystemClient(fs).read_bytes("/secret")


def test_reads_and_writes_are_not_asked_about() -> None:
    from sandlot.filesystem.fuse.opcodes import Op

    assert Op.READ not in ASKED and Op.WRITE not in ASKED and Op.LOOKUP not in ASKED
