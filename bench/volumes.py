"""Volumes seen from the guest: throughput, small files, names; and the guest's own disk beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.measure import Row, row
from sandlot import HostFs, MemFs, Sandbox

REPEATS = 3
SMALL = """
import json, os, sys, time

base, count = sys.argv[1], int(sys.argv[2])
os.makedirs(base, exist_ok=True)


def rate(act):
    began = time.perf_counter()
    for number in range(count):
        act(f"{base}/{number}")
    return count / (time.perf_counter() - began)


def small(path):
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(file, b"x" * 1000)
    os.close(file)
    os.unlink(path)


def absent(path):
    try:
        os.stat(path + "-absent")
    except FileNotFoundError:
        pass


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


made = rate(small)
rate(make)
with open("/proc/sys/vm/drop_caches", "w") as drop:
    drop.write("2")
began = time.perf_counter()
looked = sum(1 for entry in os.scandir(base) if entry.stat().st_size == 0)
walked = looked / (time.perf_counter() - began)
print(json.dumps({"small": made, "absent": rate(absent), "tree": walked}))
"""
LARGE = """
import json, os, sys, time

path, megabytes = sys.argv[1], int(sys.argv[2])
block = bytes(1 << 20)
began = time.perf_counter()
with open(path, "wb", buffering=0) as file:
    for _ in range(megabytes):
        file.write(block)
    os.fsync(file.fileno())
written = megabytes / (time.perf_counter() - began)
with open("/proc/sys/vm/drop_caches", "w") as drop:
    drop.write("3")
began = time.perf_counter()
with open(path, "rb", buffering=0) as file:
    while file.read(1 << 20):
        pass
read = megabytes / (time.perf_counter() - began)
os.unlink(path)
print(json.dumps({"write": written, "read": read}))
"""
PATHS = {"host folder": "/host", "memory": "/memory", "own disk": "/root"}


@asynccontextmanager
async def _sandbox() -> AsyncIterator[Sandbox]:
    with tempfile.TemporaryDirectory() as folder:
        volumes = {"/host": HostFs(Path(folder)), "/memory": MemFs()}
        async with Sandbox.create(image="demo", memory="512M", volumes=volumes) as sandbox:
            yield sandbox


async def _measured(sandbox: Sandbox, program: str, path: str, count: int) -> dict[str, Any]:
    done = await sandbox.exec(["python3", "-c", program, path, str(count)], check=True)
    found: dict[str, Any] = json.loads(done.text)
    return found


async def volumes() -> list[Row]:
    """Rates at the guest's end, each in turn on every file system."""
    found: dict[tuple[str, str], list[float]] = {}
    async with _sandbox() as sandbox:
        for _ in range(REPEATS):
            for name, path in PATHS.items():
                for program, where, count in (
                    (LARGE, f"{path}/large", 128), (SMALL, f"{path}/small", 300),
                ):  # fmt: skip
                    for what, rate in (await _measured(sandbox, program, where, count)).items():
                        found.setdefault((what, name), []).append(rate)
    goals = {
        ("write", "host folder"): "300 MB/s", ("read", "host folder"): "300 MB/s",
        ("small", "host folder"): "1,500 /s", ("small", "memory"): "2,500 /s",
        ("tree", "host folder"): "5,000 /s",
    }  # fmt: skip
    titles = {
        "write": "sequential write and fsync", "read": "sequential read, not cached",
        "small": "small files made, written, removed", "absent": "names that are not there",
        "tree": "stat of files in a cold folder",
    }  # fmt: skip
    return [
        row(
            f"{titles[what]}, {name}", goals.get((what, name), ""), rates,
            "MB/s" if what in ("write", "read") else "/s",
        )
        for (what, name), rates in found.items()
    ]  # fmt: skip


BENCHES: dict[str, Callable[[], Awaitable[list[Row]]]] = {"volumes": volumes}
