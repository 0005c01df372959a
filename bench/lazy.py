"""From `pull --lazy` to the first command, on a machine that has nothing of a sandbox of 1 GB.

It is pushed to a folder and pulled by another program with a state directory of its own, which has the
kernel and the template but nothing of the sandbox. SANDLOT_BENCH_LAZY is the size in MiB, 1024
otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.measure import Row, row
from sandlot import Remote, Sandbox
from sandlot.image import build_debian_image
from sandlot.remote.keys import new_key_file
from sandlot.sandbox.host import Host

SIZE = int(os.environ.get("SANDLOT_BENCH_LAZY", "1024"))
ROUNDS = 5
NAME = "bench-lazy"
# A third compresses, as programs do.
FILL = """
set -e
mkdir /data; n=0
while [ $n -lt {count} ]; do
  n=$((n+1)); head -c 8M /dev/urandom > /data/$n
  cat /usr/bin/python3.11 /data/$n | head -c 4M >> /data/$n
done; sync
"""
PROGRAM = """
import asyncio, json, sys, time
from sandlot import Remote, Sandbox

async def once(lazy):
    began = time.perf_counter()
    async with Sandbox.pull("bench-lazy", remote=Remote(sys.argv[1], key=sys.argv[2]), lazy=lazy) as sb:
        await sb.exec(["true"], check=True)
        first = time.perf_counter() - began
        waited = sb._owner.fetching.waited
        await sb.pulled()
        return {"first": first, "whole": time.perf_counter() - began, "waited": waited}

# Who measures reads it.
print(json.dumps(asyncio.run(once(sys.argv[3] == "lazy"))))
"""


async def lazy() -> list[Row]:
    """What is waited for until a command has run."""
    host = Host.current()
    await asyncio.to_thread(build_debian_image, host.images, "demo", ["python3"])
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        work = Path(folder)
        address, key = str(work / "remote"), work / "key"
        new_key_file(key)
        async with Sandbox.create(NAME, image="demo", disk="8G", memory="512M") as sb:
            await sb.exec(FILL.format(count=-(-SIZE // 12)), check=True)
            pushed = await sb.push(Remote(address, key=key))
        state = work / "there"
        state.mkdir()
        (state / "kernels").symlink_to(host.paths.kernels)

        async def pulled(how: str) -> dict[str, Any]:
            program = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, address, str(key), how, stdout=subprocess.PIPE,
                env={**os.environ, "SANDLOT_DATA": str(state)},
            )  # fmt: skip
            out, _ = await program.communicate()
            found: dict[str, Any] = json.loads(out.splitlines()[-1])
            return found

        await pulled("lazy")  # the template is made
        shutil.rmtree(work / "remote" / "hot")
        cold, warm, whole = [], [], []
        for _ in range(ROUNDS):
            cold.append(await pulled("lazy"))
            warm.append(await pulled("lazy"))
            whole.append(await pulled("whole"))
            shutil.rmtree(work / "remote" / "hot", ignore_errors=True)
    firsts = [[each["first"] for each in some] for some in (cold, warm, whole)]
    size = f"of {pushed.size / 1e9:.1f} GB"
    return [
        row(f"lazy pull {size} to its first exec", "1 s", firsts[0], "s"),
        row("the same, what is read first is known", "1 s", firsts[1], "s"),
        row("whole pull to its first exec", "-", firsts[2], "s"),
        row("lazy pull until all is here", "-", [each["whole"] for each in cold], "s"),
        row("reads that had to wait", "-", [each["waited"] for each in cold], ""),
        row("the same, known", "-", [each["waited"] for each in warm], ""),
    ]  # fmt: skip


BENCHES = {"lazy": lazy}
