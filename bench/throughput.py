"""Bytes out of a process and into one."""

from __future__ import annotations

import time

from bench.measure import Row, row
from sandlot import Sandbox

SIZE = 1 << 30


async def streams() -> list[Row]:
    """1 GiB each way, streamed; also with a program that writes small pieces."""
    out, small, into = [], [], []
    async with Sandbox.create(image="demo") as sandbox:
        for _ in range(3):
            out.append(await _read(sandbox, "dd if=/dev/zero bs=1M count=1024 status=none", SIZE))
            began = time.perf_counter()
            async with await sandbox.spawn("exec cat >/dev/null", stdin=True) as process:
                piece = bytes(1 << 20)
                for _ in range(SIZE >> 20):
                    await process.stdin.write(piece)
                process.stdin.close()
                await process.wait()
            into.append(SIZE / 1e6 / (time.perf_counter() - began))
        small.append(await _read(sandbox, "head -c 256M /dev/zero", SIZE >> 2))
    return [
        row("stdout of a process to the host, 1 GiB", ">= 300 MB/s", out, "MB/s"),
        row("the same, written in pieces of 8 KiB", "", small, "MB/s"),
        row("stdin to a process, 1 GiB", ">= 300 MB/s", into, "MB/s"),
    ]


async def _read(sandbox: Sandbox, command: str, size: int) -> float:
    began, got = time.perf_counter(), 0
    async with await sandbox.spawn(command) as process:
        async for data in process.stdout:
            got += len(data)
        await process.wait()
    assert got == size
    return got / 1e6 / (time.perf_counter() - began)


BENCHES = {"streams": streams}
