"""`make bench`: the table of docs/benchmarks.md, measured here and now.

python -m bench [NAME ...]      only some of them
python -m bench --json FILE     also as JSON
python -m bench exerciser ...   random operations on a file system (bench/exerciser.py)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from bench import (
    exerciser,
    files,
    filesystem,
    gateway,
    images,
    intercept,
    lazy,
    life,
    network,
    phases,
    plugins,
    pull,
    push,
    sandboxes,
    snapshots,
    throughput,
    volume_work,
    volumes,
)
from bench.measure import Row, heading, line
from sandlot.image import build_debian_image
from sandlot.sandbox.host import Host

BENCHES = {
    **sandboxes.BENCHES,
    **life.BENCHES,
    **throughput.BENCHES,
    **pull.BENCHES,
    **images.BENCHES,
    **files.BENCHES,
    **filesystem.BENCHES,
    **network.BENCHES,
    **intercept.BENCHES,
    **gateway.BENCHES,
    **snapshots.BENCHES,
    **phases.BENCHES,
    **volumes.BENCHES,
    **volume_work.BENCHES,
    **plugins.BENCHES,
    **push.BENCHES,
    **lazy.BENCHES,
}


async def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    host = Host.current()
    await asyncio.to_thread(build_debian_image, host.images, "demo", ["python3"])
    engine, _ = await host.template(1 << 30, 1)
    print(f"QEMU {engine.version}, {engine.accelerator}\n")
    print(heading())
    rows: list[Row] = []
    for name, bench in BENCHES.items():
        if arguments.names and name not in arguments.names:
            continue
        for row in await bench():
            rows.append(row)
            print(line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([row.__dict__ for row in rows], indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["exerciser"]:
        sys.exit(exerciser.main(sys.argv[2:]))
    sys.exit(asyncio.run(main()))
