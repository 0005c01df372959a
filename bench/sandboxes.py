"""Starting, running commands, memory."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.measure import Row, row
from sandlot import Sandbox
from sandlot.image.manifest import MAX_MANIFEST, Manifest, parse_manifest
from sandlot.image.packing import PackedLayer, add_image, pack_layer
from sandlot.sandbox.host import Host
from sandlot.snapshot.template import cold_boot

FORKS = """
import os, time, statistics
times = []
for _ in range(200):
    began = time.perf_counter()
    os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)
    times.append(time.perf_counter() - began)
print(statistics.median(times))
"""


async def _timed(work: Callable[[], Awaitable[object]], times: int) -> list[float]:
    values = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        values.append((time.perf_counter() - began) * 1e3)
    return values


async def boot() -> list[Row]:
    """Kernel start to the agent's answer, and the device state saved."""
    host = Host.current()
    engine, kernel = await host.engine(), await host.kernel()

    async def one() -> None:
        await cold_boot(host.templates, engine, kernel, memory=1 << 30, cpus=1)

    return [
        row(
            "cold boot to the agent's answer, template saved",
            "<= 2.0 s",
            await _timed(one, 5),
            "ms",
        )
    ]


async def _create(image: str) -> float:
    began = time.perf_counter()
    sandbox = await Sandbox.create(image=image)
    await sandbox.exec(["/bin/echo", "hi"])
    took = (time.perf_counter() - began) * 1e3
    await sandbox.remove()
    return took


async def create() -> list[Row]:
    """`Sandbox.create` to the first exec's answer."""
    known = [await _create("demo") for _ in range(20)]
    store = Host.current().images
    demo = store.get("demo")
    fresh = []
    for number in range(5):
        name = f"bench-{number}"

        def make(name: str) -> None:
            with store.working():
                with pack_layer(store.blobs) as packer:
                    info = tarfile.TarInfo("bench")
                    info.size = 16
                    packer.tar.addfile(info, io.BytesIO(os.urandom(16)))
                below = parse_manifest(store.blobs.read(demo.manifest, MAX_MANIFEST))
                assert isinstance(below, Manifest)
                lower = map(PackedLayer, below.layers, demo.diff_ids)
                add_image(store, name, demo.config, [*lower, packer.layer])

        await asyncio.to_thread(make, name)
        fresh.append(await _create(name))
        store.remove(name)
    return [
        row("create to first exec answered", "<= 100 ms", known, "ms"),
        row("the same, image never used before", "+ <= 30 ms", fresh, "ms"),
    ]


async def command() -> list[Row]:
    """exec in a running sandbox, against fork and exec inside."""
    async with Sandbox.create(image="demo") as sandbox:
        inside = float((await sandbox.exec(["python3", "-c", FORKS], check=True)).text) * 1e3
        values = await _timed(lambda: sandbox.exec(["/bin/true"]), 200)
    over = [v - inside for v in values]
    return [
        row("exec, /bin/true", "", values, "ms"),
        row("fork + exec inside", "", [inside], "ms"),
        row("exec over what fork + exec costs inside", "<= 1 ms", over, "ms"),
    ]


async def program() -> list[Row]:
    """Whole commands."""
    sandlot = str(Path(sys.executable).parent / "sandlot")

    def whole(*words: str) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.to_thread(subprocess.run, words, check=True, capture_output=True)

    bare = statistics.median(await _timed(whole(sys.executable, "-c", "pass"), 20))
    imported = [v - bare for v in await _timed(whole(sys.executable, "-c", "import sandlot"), 20)]
    return [
        row("sandlot run --rm demo echo hi", "<= 350 ms",
            await _timed(whole(sandlot, "run", "--rm", "demo", "echo", "hi"), 20), "ms"),
        row("sandlot --help", "<= 150 ms", await _timed(whole(sandlot, "--help"), 20), "ms"),
        row("import sandlot, over a bare Python", "<= 60 ms", imported, "ms"),
    ]  # fmt: skip


async def memory() -> list[Row]:
    """Private memory of an idle sandbox's machine, alone and as one of ten."""
    async with Sandbox.create(image="demo") as sandbox:
        await sandbox.exec(["/bin/echo", "hi"])
        alone = sandbox.stats().private_bytes / 1e6
    many = [await Sandbox.create(image="demo") for _ in range(10)]
    try:
        await asyncio.gather(*(s.exec(["/bin/echo", "hi"]) for s in many))
        values = [s.stats().private_bytes / 1e6 for s in many]
    finally:
        await asyncio.gather(*(s.remove() for s in many))
    return [
        row("host memory of an idle sandbox, private, the only one", "<= 45 MB", [alone], "MB"),
        row("the same, each of ten", "<= 45 MB", values, "MB"),
    ]


async def twenty() -> list[Row]:
    """Twenty created at once, each answered an exec."""

    async def once() -> float:
        began = time.perf_counter()

        async def one() -> Sandbox:
            sandbox = await Sandbox.create(image="demo")
            await sandbox.exec(["/bin/echo", "hi"])
            return sandbox

        made = await asyncio.gather(*(one() for _ in range(20)))
        took = time.perf_counter() - began
        await asyncio.gather(*(s.remove() for s in made))
        return took

    return [
        row(
            "20 created at once, each answered an exec",
            "<= 2.5 s",
            [await once() for _ in range(3)],
            "s",
        )
    ]


BENCHES = {
    "boot": boot, "create": create, "command": command, "program": program, "memory": memory,
    "twenty": twenty,
}  # fmt: skip
