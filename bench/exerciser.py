"""Random operations on a file system of a sandbox, compared with a model after each one.

python -m bench exerciser [--path-kind disk] [--operations 1000000] [--what bytes names brisk torture]

Runs in rounds, some of them at once, each with a seed of its own that is printed; the first mismatch
ends it with status 1 and the last operations. `bytes` works on a file (write, truncate, map, punch,
copy, ...) and compares it whole; `brisk` does the same, more often what the guest's kernel does by
itself, and compares what each operation touched, so that a million take minutes; `names` works on a
tree (create, rename, link, ...); `torture` appends and counts by several processes. What it prints is
its result: a line for some rounds, what was done how often, and the mismatch.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.framework import posix
from tests.framework.posix import FILE_SYSTEMS, VOLUMES, FileSystem, Misbehaved

from bench.programs import removed
from sandlot import Sandbox
from sandlot.image import build_debian_image
from sandlot.sandbox.host import Host

ROUND = 20_000
AT_ONCE = 8
"""Rounds on files of their own, since each waits for the host most of its time."""
SIZES = (20_000, 64 << 10, 256 << 10, 1 << 20)


async def one_round(
    sandbox: Sandbox, fs: FileSystem, what: str, number: int, seed: int, count: int
) -> dict[str, Any]:
    """What was done how often."""
    if what == "names":
        return await posix.exercise_names(sandbox, fs.path, seed=seed, operations=count)
    size = SIZES[number % len(SIZES)]
    return await posix.exercise(
        sandbox, fs.path, seed=seed, operations=count, size=size, brisk=what == "brisk"
    )


async def exercise(fs: FileSystem, what: str, operations: int, seed: int) -> None:
    """All rounds of one kind, in a sandbox of their own.

    Raises:
        Misbehaved: the file system was not as its model.
    """
    done, kinds = 0, Counter[str]()
    began = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandlot-bench-"))
        arguments = fs.arguments(Path(folder))
        stack.enter_context(removed(arguments))
        creation = Sandbox.create(image="demo", memory="512M", **arguments)
        sandbox = await stack.enter_async_context(creation)
        await fs.prepare(sandbox)
        rounds = -(-operations // ROUND)
        for first in range(0, rounds, AT_ONCE):
            some = range(first, min(first + AT_ONCE, rounds))
            counts = [min(ROUND, operations - number * ROUND) for number in some]
            if what == "torture":
                # Each record stands for an append and three counts.
                records = max(1, sum(counts) // 16)
                await sandbox.exec(["rm", "-rf", f"{fs.path}/torture"], check=True)
                await sandbox.exec(["mkdir", f"{fs.path}/torture"], check=True)
                path = f"{fs.path}/torture"
                await posix.torture(sandbox, path, name="one", records=records)
                await posix.judge(sandbox, path, names=["one"], records=records)
            else:
                each = (
                    one_round(sandbox, fs, what, number, seed + number, count)
                    for number, count in zip(some, counts, strict=True)
                )
                for found in await asyncio.gather(*each):
                    kinds.update(found["kinds"])
            done += sum(counts)
            rate = done / (time.monotonic() - began)
            print(
                f"{fs.name} {what}: seeds {seed + some[0]} to {seed + some[-1]}, "
                f"{done:,} operations, {rate:.0f}/s", flush=True,
            )  # fmt: skip
    if kinds:
        print(f"{fs.name} {what}: {dict(sorted(kinds.items()))}")


def main(words: list[str]) -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="bench exerciser")
    names = {fs.name: fs for fs in (*FILE_SYSTEMS, *VOLUMES)}
    parser.add_argument("--path-kind", choices=names, default="disk")
    parser.add_argument("--operations", type=int, default=1_000_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument(
        "--what",
        nargs="+",
        choices=("bytes", "names", "brisk", "torture"),
        default=["bytes", "names"],
    )
    arguments = parser.parse_args(words)
    build_debian_image(Host.current().images, "demo", ["python3"])
    for what in arguments.what:
        try:
            asyncio.run(
                exercise(names[arguments.path_kind], what, arguments.operations, arguments.seed)
            )
        except Misbehaved as error:
            print(error)
            return 1
    print("all as their models")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
