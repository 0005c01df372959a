"""A detached sandbox from other programs, and many stopped ones."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.measure import Row, row
from sandlot import Sandbox
from sandlot.sandbox.host import Host
from sandlot.state.records import SandboxRecord

MANY = 200


def _times(work: Callable[[], object], times: int) -> list[float]:
    values = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        values.append((time.perf_counter() - began) * 1e3)
    return values


def _command(*words: str) -> Callable[[], object]:
    sandlot = str(Path(sys.executable).parent / "sandlot")
    return lambda: subprocess.run([sandlot, *words], check=True, capture_output=True)


async def door() -> list[Row]:
    """`exec` on a detached sandbox: the whole command, and through the SDK's open connection."""
    sandbox = await Sandbox.create(image="demo", detached=True)
    try:
        visitor = await Sandbox.get(sandbox.name)
        for _ in range(20):
            await visitor.exec(["/bin/true"])
        whole = await asyncio.to_thread(_times, _command("exec", sandbox.name, "/bin/true"), 20)
        calls = []
        for _ in range(100):
            began = time.perf_counter()
            await visitor.metrics()
            calls.append((time.perf_counter() - began) * 1e3)
        runs = []
        for _ in range(100):
            began = time.perf_counter()
            await visitor.exec(["/bin/true"])
            runs.append((time.perf_counter() - began) * 1e3)
    finally:
        await sandbox.remove()
    return [
        row("sandlot exec on a detached sandbox, the whole command", "<= 250 ms", whole, "ms"),
        row("exec of /bin/true through its door", "<= 5 ms", runs, "ms"),
        row("metrics through its door", "", calls, "ms"),
    ]


async def many() -> list[Row]:
    """`sandlot ps -a` with two hundred stopped sandboxes."""
    host = Host.current()
    made = []
    base = SandboxRecord(
        id="", name="", image="demo", image_digest="", memory=1 << 30, cpus=1, disk=1 << 32,
        hostname="x", machine_id="0" * 32, env={"PATH": "/usr/bin"}, command=["sleep", "1000"],
    )  # fmt: skip
    try:
        for number in range(MANY):
            record = replace(base, id=os.urandom(6).hex(), name=f"bench-{os.getpid()}-{number}")
            with host.sandboxes.creating(record) as (folder, lock):
                folder.write_run_state(started=1.0, finished=2.0, exit_code=0)
            lock.release()
            made.append(folder)
        values = await asyncio.to_thread(_times, _command("ps", "-a"), 20)
    finally:
        for folder in made:
            host.sandboxes.remove(folder)
    return [row(f"sandlot ps -a, {MANY} stopped sandboxes", "<= 200 ms", values, "ms")]


BENCHES = {"door": door, "many": many}
