"""Files into a sandbox and out of it: one large one, and a tree of many small ones."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.measure import Row, row
from sandlot import Sandbox

SIZE = 1 << 30
FILES = 10_000


async def contents() -> list[Row]:
    """1 GiB, written and read back, streamed on the host's side."""
    block = os.urandom(1 << 20)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(SIZE >> 20):
            yield block

    write, read = [], []
    async with Sandbox.create(image="demo", memory="1G") as sandbox:
        for _ in range(3):
            began = time.perf_counter()
            await sandbox.files.write("/big", blocks())
            write.append(SIZE / 1e6 / (time.perf_counter() - began))
            began, got = time.perf_counter(), 0
            async with await sandbox.files.open("/big") as file:
                async for piece in file:
                    got += len(piece)
            assert got == SIZE
            read.append(SIZE / 1e6 / (time.perf_counter() - began))
    return [
        row("files.write, 1 GiB", ">= 300 MB/s", write, "MB/s"),
        row("files.read, 1 GiB", ">= 300 MB/s", read, "MB/s"),
    ]


def make_tree(root: Path) -> None:
    """Ten thousand files of 100 bytes to 10 KB, a hundred in each folder."""
    for number in range(FILES):
        folder = root / f"d{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(b"x" * (100 + number % 9900))


async def trees() -> list[Row]:
    """A tree of small files up and down, against `tar` on the host."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_tree(base / "tree")
        tar = []
        up = []
        down = []
        async with Sandbox.create(image="demo", memory="1G") as sandbox:
            for turn in range(3):
                (base / "copy").mkdir()
                began = time.perf_counter()
                line = f"tar c -C {base}/tree . | tar x -C {base}/copy"
                await asyncio.to_thread(subprocess.run, ["sh", "-c", line], check=True)
                tar.append((time.perf_counter() - began) * 1e3)
                shutil.rmtree(base / "copy")
                began = time.perf_counter()
                await sandbox.files.upload(base / "tree", f"/tree{turn}")
                up.append((time.perf_counter() - began) * 1e3)
                began = time.perf_counter()
                await sandbox.files.download(f"/tree{turn}", base / "copy")
                down.append((time.perf_counter() - began) * 1e3)
                shutil.rmtree(base / "copy")
    return [
        row("tar of 10,000 small files, packed and unpacked on the host", "", tar, "ms"),
        row("files.upload of the same", "<= 2.5 x tar", up, "ms"),
        row("files.download of the same", "<= 2.5 x tar", down, "ms"),
    ]


BENCHES = {"contents": contents, "trees": trees}
