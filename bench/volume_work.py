"""What people do on volumes, on a host folder and on the sandbox's own disk in turns: reads at random,
`git status`, `pip install`; and what a method costs that a user has overridden."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.filesystem import Kernel
from bench.measure import Row, row
from bench.programs import PACKAGES
from sandlot import HostFs, Sandbox
from sandlot.filesystem.types import Context, Opened
from sandlot.image import build_debian_image
from sandlot.sandbox.host import Host

REPEATS = 3
FOLDERS, EACH = 200, 100
PLACES = {"host folder": "/host", "own disk": "/root"}
FIO = """
cd {0}; fio --name=r --filename=random --rw=randread --bs=4k --size=64M --ioengine=psync \
 --numjobs={1} --runtime=5 --time_based --group_reporting --minimal {2} | cut -d';' -f8
"""
PIP = """
cd {0}; rm -rf home; python3 -m venv --without-pip home
pip="/tmp/pip/bin/python -m pip --python home/bin/python"
$pip install -q --no-index --find-links /wheels made0 made1 made2
"""
WHEELS = """
import os, zipfile
os.makedirs("/wheels", exist_ok=True)
for which in range(3):
    name = f"made{which}"
    with zipfile.ZipFile(f"/wheels/{name}-1.0-py3-none-any.whl", "w") as wheel:
        files = [f"{name}/m{n}.py" for n in range(40)] + [f"{name}/__init__.py"]
        for file in files:
            wheel.writestr(file, "x = 1\\n" * 200)
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        kind = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{info}/WHEEL", kind)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\\n" for file in files))
"""


class Overridden(HostFs):
    """As a user's, with one method in Python."""

    async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
        return await super().open(ctx, node, flags)


def _repository(folder: Path) -> None:
    """A repository of 20,000 files, with everything in its index."""
    for number in range(FOLDERS):
        below = folder / f"d{number}"
        below.mkdir()
        for each in range(EACH):
            (below / f"f{each}").write_text(f"{number} {each}\n")
    # Who made the files is another machine: what they contain is known by their sizes and times.
    for words in (
        ["init", "-q"], ["config", "core.checkStat", "minimal"],
        ["config", "core.trustctime", "false"], ["add", "-A"],
    ):  # fmt: skip
        subprocess.run(["git", "-C", str(folder), *words], check=True)


async def _timed(sandbox: Sandbox, script: str) -> float:
    began = time.monotonic()
    await sandbox.exec(["bash", "-ec", script], check=True, timeout=1800)
    return time.monotonic() - began


async def volume_work() -> list[Row]:
    """A row for each kind of work and place."""
    await asyncio.to_thread(build_debian_image, Host.current().images, "programs", PACKAGES)
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as text:
        folder = Path(text)
        (folder / "tree").mkdir()
        await asyncio.to_thread(_repository, folder / "tree")
        volumes = {"/host": HostFs(folder)}
        async with Sandbox.create(image="programs", memory="1G", volumes=volumes) as sandbox:
            await sandbox.exec(["python3", "-c", WHEELS], check=True)
            await sandbox.exec(["python3", "-m", "venv", "/tmp/pip"], check=True, timeout=1800)
            await sandbox.exec("git config --global safe.directory '*'", check=True)
            await sandbox.files.upload(folder / "tree", "/root/tree")
            for path in PLACES.values():
                await _timed(sandbox, f"git -C {path}/tree status > /dev/null")
            for _ in range(REPEATS):
                for place, path in PLACES.items():
                    for what in ("after more than a minute", "again"):
                        took = await _timed(sandbox, f"git -C {path}/tree status > /dev/null")
                        name = f"git status of 20,000 files, {what}"
                        found.setdefault((name, place), []).append(took)
                    took = await _timed(sandbox, PIP.format(path))
                    found.setdefault(("pip install of three wheels", place), []).append(took)
                    for what, jobs, more in (
                        ("random reads of 4 KiB, cached", 1, "--pre_read=1 --invalidate=0"),
                        ("random reads of 4 KiB, not cached, 16 at a time", 16, "--invalidate=1"),
                    ):
                        done = await sandbox.exec(FIO.format(path, jobs, more), check=True)
                        found.setdefault((what, place), []).append(float(done.text))
    goals = {
        ("git status of 20,000 files, again", "host folder"): "1.5 x own disk",
        ("pip install of three wheels", "host folder"): "1.5 x own disk",
        ("random reads of 4 KiB, not cached, 16 at a time", "host folder"): "8,000",
        ("random reads of 4 KiB, cached", "host folder"): "own disk",
    }
    return [
        row(
            f"{what}, {place}", goals.get((what, place), ""), values,
            "/s" if what.startswith("random") else "s",
        )
        for (what, place), values in found.items()
    ]  # fmt: skip


async def overridden() -> list[Row]:
    """What an overridden method adds to a request, without a machine."""
    times: dict[type[HostFs], list[float]] = {HostFs: [], Overridden: []}
    rounds = 2000
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        (Path(folder) / "a").touch()
        for _ in range(5):
            for kind, values in times.items():
                async with Kernel(kind(folder)) as kernel:
                    node = await kernel.lookup(1, b"a")
                    began = time.perf_counter()
                    for _ in range(rounds):
                        await kernel.open(node, 0)
                    values.append((time.perf_counter() - began) / rounds * 1e6)
    added = [b - a for a, b in zip(times[HostFs], times[Overridden], strict=True)]
    return [row("added by an overridden `open`", "150 us", added, "us")]


BENCHES: dict[str, Callable[[], Awaitable[list[Row]]]] = {
    "volume_work": volume_work, "overridden": overridden,
}  # fmt: skip
