"""What it takes to push and pull: over a folder, against restic on the same files.

The figures are of this library alone: a sandbox of the same size adds the moment in which it is saved
(`python -m bench snapshot`). SANDLOT_BENCH_PUSH is the size in MiB, 2048 otherwise.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyrage

from bench.measure import Row, row
from sandlot.remote.folder import FolderStore
from sandlot.remote.keys import Keys
from sandlot.remote.receiving import Receiver
from sandlot.remote.repository import Repository, open_repository
from sandlot.remote.versions import File, Pushed, begin_push, find

T = TypeVar("T")
MIB = 1 << 20
SIZE = int(os.environ.get("SANDLOT_BENCH_PUSH", "2048")) * MIB
CHANGED = 10 * MIB
ROUNDS = 3
KEYS = Keys((str(pyrage.x25519.Identity.generate()),))


def _disk(path: Path, size: int) -> None:
    """A file as a disk is: programs and libraries at whole pages, and what compresses less."""
    noise, written = random.Random(1), 0
    sources = sorted(p for p in Path("/usr/lib").rglob("*.so*") if p.is_file())
    sources += sorted(p for p in Path("/usr/share").rglob("*") if p.is_file())
    with path.open("wb") as file:
        while written < size:
            for source in sources:
                try:
                    data = source.read_bytes()[: 32 * MIB]
                except OSError:
                    continue
                # Each time round another one, as other versions of a file are.
                data = noise.randbytes(64) + data
                data += bytes(-len(data) % 4096)
                file.write(data[: size - written])
                written = min(size, written + len(data))
                if written >= size:
                    break


class _Machine:
    """One with a state folder of its own."""

    def __init__(self, work: Path, name: str, remote: str) -> None:
        self._state = work / name
        self._state.mkdir(exist_ok=True)
        self._remote = work / remote

    async def push(self, files: list[Path]) -> Pushed:
        async with FolderStore(self._remote) as store:
            repository = await self._open(store)
            async with begin_push(repository, "sandbox", "bench", "bench") as begun:
                return await begun.send({}, [File(f"disk/{p.name}", p) for p in files])

    async def pull(self, target: Path) -> None:
        target.mkdir()
        async with FolderStore(self._remote) as store:
            repository = await self._open(store)
            _, manifest = await find(repository, "sandbox", "bench", None)
            await repository.load_index()
            receiver = Receiver(repository)
            try:
                await receiver.fill(
                    {target / p.path.replace("/", "-"): (p, await receiver.entries(p))
                     for p in manifest.parts}
                )  # fmt: skip
            finally:
                await receiver.close()

    async def _open(self, store: FolderStore) -> Repository:
        return await open_repository(store, KEYS, self._state, create=True)


def _restic(*arguments: str, work: Path) -> None:
    environment = {
        **os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": str(work / "restic"),
        "RESTIC_CACHE_DIR": str(work / "cache"),
    }  # fmt: skip
    subprocess.run(
        ["restic", "-q", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
    )


def _run(work: Callable[[], Coroutine[Any, Any, T]], results: list[T] | None = None) -> None:
    """Run it to its end; `results` gets what comes of it."""
    found = asyncio.run(work())
    if results is not None:
        results.append(found)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of processors."""

    def used() -> float:
        found = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in found)

    began, before = time.perf_counter(), used()
    work()
    return time.perf_counter() - began, used() - before


async def push() -> list[Row]:
    """Throughput, a small change, and restic beside it."""
    if shutil.which("restic") is None:
        raise SystemExit("restic is missing: apt-get install restic")
    return await asyncio.to_thread(_measured)


def _measured() -> list[Row]:
    samples: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        samples.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        work = Path(folder)
        disk = work / "disk"
        _disk(disk, SIZE)
        megabytes, target = SIZE / 1e6, work / "target"
        for number in range(ROUNDS):
            remote = f"remote-{number}"
            one, two = (
                _Machine(work, f"one-{number}", remote),
                _Machine(work, f"two-{number}", remote),
            )
            seconds, cpu = _timed(partial(_run, partial(one.push, [disk])))
            note("push", megabytes / seconds)
            note("push cpu", megabytes / cpu)
            seconds, cpu = _timed(partial(_run, partial(two.pull, target)))
            note("pull", megabytes / seconds)
            note("pull cpu", megabytes / cpu)
            shutil.rmtree(target)
            shutil.rmtree(work / "restic", ignore_errors=True)
            _restic("init", work=work)
            seconds, cpu = _timed(lambda: _restic("backup", str(disk), work=work))
            note("restic push", megabytes / seconds)
            note("restic push cpu", megabytes / cpu)
            seconds, cpu = _timed(
                lambda: _restic("restore", "latest", "--target", str(target), work=work)
            )
            note("restic pull", megabytes / seconds)
            note("restic pull cpu", megabytes / cpu)
            shutil.rmtree(target)
            layer = work / f"layer-{number}"
            layer.write_bytes(random.Random(number).randbytes(CHANGED))
            done: list[Pushed] = []
            seconds, _ = _timed(partial(_run, partial(one.push, [disk, layer]), done))
            note("again", seconds)
            note("moved", done[0].moved / 1e6)
            shutil.rmtree(work / remote)
    middle = {name: statistics.median(values) for name, values in samples.items()}
    return [
        row("push to a folder", "150 MB/s", samples["push"], "MB/s"),
        row("pull from a folder", "150 MB/s", samples["pull"], "MB/s"),
        row("push, a processor's second", "-", samples["push cpu"], "MB/s"),
        row("pull, a processor's second", "-", samples["pull cpu"], "MB/s"),
        row("push / restic backup", "-", [middle["push"] / middle["restic push"]], "x"),
        row("pull / restic restore", "-", [middle["pull"] / middle["restic pull"]], "x"),
        row("push / restic, by processor", "-", [middle["push cpu"] / middle["restic push cpu"]], "x"),
        row("pull / restic, by processor", "-", [middle["pull cpu"] / middle["restic pull cpu"]], "x"),
        row("push after 10 MB changed", "1.5 s", samples["again"], "s"),
        row("moved by that", "14 MB", samples["moved"], "MB"),
    ]  # fmt: skip


BENCHES = {"push": push}
