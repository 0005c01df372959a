"""By the messages of a guest's kernel."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench.filesystem import Kernel

from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.host.hostfs import HostFs


@pytest.fixture
async def kernel(folder: Path) -> AsyncIterator[Kernel]:
    async with Kernel(HostFs(folder)) as made:
        yield made


async def test_a_file_from_its_name_to_its_end(kernel: Kernel, folder: Path) -> None:
    made = await kernel.ask(Op.CREATE, 1, requests.CREATE.pack(os.O_RDWR, 0o640, 0, 0), b"new\0")
    number, handle = int.from_bytes(made[:8], "little"), int.from_bytes(made[-16:-8], "little")
    data = os.urandom(500_000)
    written = await kernel.ask(
        Op.WRITE, number, requests.WRITE.pack(handle, 0, len(data), 0, 0, 0, 0), data
    )
    assert int.from_bytes(written[:4], "little") == len(data)
    assert (folder / "new").read_bytes() == data
    read = await kernel.ask(Op.READ, number, requests.READ.pack(handle, 1000, 400_000, 0, 0, 0, 0))
    assert read == data[1000:401_000]
    await kernel.ask(Op.FSYNC, number, requests.FSYNC.pack(handle, 0, 0))
    await kernel.ask(Op.RELEASE, number, requests.RELEASE.pack(handle, 0, 0, 0))
    await kernel.ask(Op.UNLINK, 1, b"new\0")
    with pytest.raises(FileNotFoundError):
        await kernel.ask(Op.UNLINK, 1, b"new\0")
    with pytest.raises(OSError) as found:
        await kernel.ask(Op.OPEN, number, requests.OPEN.pack(os.O_RDONLY, 0))
    assert found.value.errno == errno.ESTALE


async def test_a_name_that_is_not_there_may_be_remembered(kernel: Kernel) -> None:
    answer = await kernel.ask(Op.LOOKUP, 1, b"nothing\0")
    assert answer[:8] == bytes(8) and int.from_bytes(answer[16:24], "little") == 3600


async def test_nodes_are_forgotten(kernel: Kernel, folder: Path) -> None:
    (folder / "file").touch()
    number = await kernel.lookup(1, b"file")
    assert len(kernel.fs.tree.nodes()) == 2  # type: ignore[attr-defined]
    head = requests.HEADER.pack(48, Op.FORGET, 0, number, 0, 0, 0, 0, 0)
    kernel.mount.receive(head + requests.FORGET.pack(1))
    assert len(kernel.fs.tree.nodes()) == 1  # type: ignore[attr-defined]
