"""Random operations on the shipped file systems through a guest's FUSE messages, without a machine,
compared with the model that users' own are tested by (`sandlot.testing.file_system_machine`).

python -m bench.models [--on host memory overlay named] [--operations 1000000] [--seed 1]

In rounds of 1,000 operations on an empty file system each, whole trees compared after every 25th. The
first difference ends it with status 1, and the seed of its round.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.host import HostFs
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.testing import file_system_machine
from sandlot.volume.named import named_fs
from sandlot.volume.store import VolumeStore, new_record

ROUND = 1000
COMPARED = 25
OFFSETS = (0, 1, 4095, 4096, 5000, 65535, 65536, 70_000, 200_000)
SIZES = (1, 100, 4096, 8192, 65536, 66_000, 140_000)
OPEN = (2, 2 | 0o100, 2 | 0o2000, 2 | 0o1000, 0)


def _path(dice: random.Random) -> str:
    return "/" + "/".join(dice.choices("abcd", k=dice.randint(1, 3)))


def _data(dice: random.Random) -> bytes:
    return bytes([dice.randint(1, 255)]) * dice.choice(SIZES)


DRAWN: dict[str, tuple[Callable[[random.Random], Any], ...]] = {
    "write": (_path, _data),
    "mkdir": (_path,),
    "unlink": (_path,),
    "rmdir": (_path,),
    "open_file": (_path, lambda dice: dice.choice(OPEN)),
    "write_open": (
        lambda dice: dice.randrange(4), lambda dice: dice.choice(OFFSETS), _data,
    ),
    "close": (lambda dice: dice.randrange(4),),
    "truncate": (_path, lambda dice: dice.choice((0, *SIZES))),
    "truncate_open": (lambda dice: dice.randrange(4), lambda dice: dice.choice((0, *SIZES))),
    "rename": (_path, _path, lambda dice: dice.choice((0, 0, 1, 2))),
    "link": (_path, _path),
    "symlink": (_path, lambda dice: dice.choice((_path(dice), dice.choice("abcd")))),
    "chmod": (_path, lambda dice: dice.choice((0o600, 0o755, 0o2775, 0o1777))),
    "chown": (_path, lambda dice: dice.randrange(4), lambda dice: dice.randrange(4)),
    "set_xattr": (_path, lambda dice: dice.randbytes(dice.randrange(21))),
    "remove_xattr": (_path,),
    "allocate": (
        lambda dice: dice.randrange(4), lambda dice: dice.choice(OFFSETS),
        lambda dice: dice.choice(SIZES), lambda dice: dice.choice((0, 1, 3, 0x10, 0x11)),
    ),
}  # fmt: skip


@contextlib.contextmanager
def _made(kind: str) -> Iterator[FileSystem]:
    """An empty one."""
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as text:
        folder = Path(text)
        if kind == "host":
            yield HostFs(folder)
        elif kind == "memory":
            yield MemFs(size="256M")
        elif kind == "overlay":
            (folder / "lower").mkdir()
            yield OverlayFs(HostFs(folder / "lower"), MemFs(size="256M"))
        else:
            store = VolumeStore(folder)
            yield named_fs(store.create(new_record("exercised", size=1 << 30)), 1 << 30)


def one_round(kind: str, seed: int, operations: int, done: Counter[str]) -> None:
    """Random operations on a file system of its own.

    Raises:
        AssertionError: it is not as the model.
    """
    dice = random.Random(seed)
    refused = {"overlay": {errno.EXDEV}, "named": {errno.EOPNOTSUPP}}.get(kind, set())
    with _made(kind) as fs:
        machine = file_system_machine(lambda: fs, through_fuse=True, may_refuse=refused)()
        try:
            for number in range(operations):
                name = dice.choice(list(DRAWN))
                done[name] += 1
                getattr(machine, name)(*(draw(dice) for draw in DRAWN[name]))
                if number % COMPARED == 0:
                    machine.same_files()
            machine.same_files()
        finally:
            machine.teardown()


def main() -> int:
    """The program."""
    kinds = ("host", "memory", "overlay", "named")
    parser = argparse.ArgumentParser(prog="bench.models")
    parser.add_argument("--on", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    arguments = parser.parse_args()
    # What is printed is what this program is for: as it goes, since a million take an hour.
    for kind in arguments.on:
        done: Counter[str] = Counter()
        began = time.monotonic()
        for number in range(-(-arguments.operations // ROUND)):
            seed = arguments.seed + number
            count = min(ROUND, arguments.operations - number * ROUND)
            try:
                one_round(kind, seed, count, done)
            except AssertionError as error:
                print(f"{kind}: seed {seed}, of {done.total():,} operations: {error}")
                return 1
            if number % 100 == 99:
                rate = done.total() / (time.monotonic() - began)
                print(f"{kind}: {done.total():,} operations, {rate:,.0f}/s", flush=True)
        print(f"{kind}: {done.total():,} as the model, from seed {arguments.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
