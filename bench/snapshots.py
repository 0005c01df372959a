"""Snapshots, restores, forks, pools: sandboxes of 512 MB."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from bench.measure import Row, row
from sandlot import Pool, Sandbox


@contextlib.asynccontextmanager
async def _dirty(megabytes: int) -> AsyncIterator[Sandbox]:
    """A sandbox that has changed so much of its memory."""
    async with Sandbox.create(image="demo", memory="512M") as sandbox:
        await sandbox.exec(["/bin/true"])
        if megabytes:
            for folder in ("/dev/shm", "/run"):  # each holds half of the memory at most
                fill = f"head -c {megabytes // 2}M /dev/urandom > {folder}/dirty"
                await sandbox.exec(fill, check=True)
        yield sandbox


async def _used(sandbox: Sandbox) -> float:
    """The seconds until an exec has answered."""
    began = time.perf_counter()
    await sandbox.exec(["/bin/true"], check=True)
    return time.perf_counter() - began


async def pause() -> list[Row]:
    """How long the guest's programs stand still."""
    rows = []
    for megabytes, goal in ((64, "<= 60 ms"), (256, "<= 150 ms")):
        pauses, sizes, whole = [], [], []
        async with _dirty(megabytes) as sandbox:
            for _ in range(7):
                began = time.perf_counter()
                snap = await sandbox.snapshot()
                whole.append((time.perf_counter() - began) * 1e3)
                pauses.append(snap.record.pause * 1e3)
                sizes.append((snap.record.own_memory + snap.folder.state.stat().st_size) / 1e6)
                await snap.remove()
        rows.append(row(f"pause of a snapshot, {megabytes} MB dirty", goal, pauses, "ms"))
        rows.append(row("until it is on the disk and has its name", "", whole, "ms"))
        if megabytes == 64:
            rows.append(row("its own memory and devices", "<= 70 MB", sizes, "MB"))
    return rows


async def restore() -> list[Row]:
    """From a snapshot to the first exec's answer, at depth 1 and at depth 10."""
    rows = []
    async with _dirty(16) as sandbox:
        snap = await sandbox.snapshot()
        top = snap
        for depth in range(1, 11):
            if depth in (1, 10):
                made, answered, private, own = [], [], [], []
                for _ in range(12):
                    began = time.perf_counter()
                    child = await snap.restore()
                    made.append((time.perf_counter() - began) * 1e3)
                    await _used(child)
                    answered.append((time.perf_counter() - began) * 1e3)
                    private.append(child.stats().private_bytes / 1e6)
                    own.append(_guest_pages(child) / 1e6)
                    await child.remove()
                rows.append(row(f"restore, until it returns, depth {depth}", "", made, "ms"))
                rows.append(row("until an exec has answered", "<= 80 ms", answered, "ms"))
                if depth == 1:
                    rows.append(row("private memory of the child", "<= 25 MB", private, "MB"))
                    rows.append(row("of it pages of the guest", "<= 5 MB", own, "MB"))
            if depth < 10:
                async with snap.restore() as child:
                    snap = await child.snapshot()
        await top.remove(cascade=True)
    return rows


def _guest_pages(sandbox: Sandbox) -> int:
    """Bytes of the guest's memory that are the machine's own."""
    assert sandbox._owner is not None and sandbox._owner.owned is not None
    return sum(count for _, count in sandbox._owner.owned.machine.memory().own()) * 4096


async def fork() -> list[Row]:
    """A twin of a running sandbox, until it has answered an exec."""
    async with _dirty(0) as sandbox:
        values = []
        for _ in range(12):
            began = time.perf_counter()
            twin = await sandbox.fork()
            await _used(twin)
            values.append((time.perf_counter() - began) * 1e3)
            await twin.remove()
    return [row("fork, until an exec in the twin has answered", "<= 200 ms", values, "ms")]


async def pool() -> list[Row]:
    """From a pool, until an exec has answered."""
    async with _dirty(0) as sandbox:
        snap = await sandbox.snapshot()
        taken, answered = [], []
        async with Pool(snap, size=8) as ready:
            for _ in range(8):
                began = time.perf_counter()
                child = await ready.take()
                taken.append((time.perf_counter() - began) * 1e3)
                await _used(child)
                answered.append((time.perf_counter() - began) * 1e3)
                await child.remove()
                await ready.full()  # else the next is measured while others are made
        await snap.remove()
    return [
        row("pool.take, until it returns", "", taken, "ms"),
        row("until an exec has answered", "<= 5 ms", answered, "ms"),
    ]


async def hundred() -> list[Row]:
    """A hundred restores of one snapshot that all answer, and the host's memory for them."""
    async with _dirty(16) as sandbox:
        snap = await sandbox.snapshot()
        before = _available()
        began = time.perf_counter()

        async def one(number: int) -> Sandbox:
            child = await snap.restore(env={"WORKER_ID": str(number)})
            shown = await child.exec("echo $WORKER_ID", check=True)
            assert shown.text == f"{number}\n"
            return child

        made = await asyncio.gather(*(one(number) for number in range(100)))
        took = time.perf_counter() - began
        used = (before - _available()) / 1e9
        private = [child.stats().private_bytes / 1e6 for child in made]
        await asyncio.gather(*(child.remove() for child in made))
        await snap.remove()
    return [
        row("100 restores, each answered an exec", "<= 6 s", [took], "s"),
        row("the host's memory for all of them", "<= 2.5 GB", [used], "GB"),
        row("private memory of each", "<= 25 MB", private, "MB"),
    ]


def _available() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) * 1024


BENCHES = {
    "pause": pause, "restore": restore, "fork": fork, "pool": pool, "hundred": hundred,
}  # fmt: skip
