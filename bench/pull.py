"""An image from a registry on loopback to the first exec's answer, against `tar xzf` of its layers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.framework.fake_registry import layer
from tests.framework.registry import RealRegistry, make_layout, real_registry

from bench.measure import Row, row
from sandlot import Sandbox
from sandlot.image.compression import plain_pieces
from sandlot.image.config import host_architecture
from sandlot.sandbox.host import Host
from sandlot.sandbox.pulling import find_image

TOTAL = 200_000_000  # bytes that the image's layers have when they are unpacked
TIMES = 5


def filler(seed: int, size: int) -> bytes:
    """A layer of files as programs have them: they shrink to about a third."""
    source = random.Random(seed)
    words = [source.randbytes(source.randint(2, 12)) for _ in range(4000)]
    files: dict[str, bytes] = {}
    while size > 0:
        length = min(size, int(source.paretovariate(1.1) * 4000), 20_000_000)
        piece = b"".join(source.choices(words, k=length // 7 + 1))[:length]
        files[f"opt/filler-{seed}/{len(files) % 40}/{len(files)}"] = piece
        size -= length
    return layer(files)


def _layers() -> list[bytes]:
    """Those of `demo`, and more until they are TOTAL bytes, in two layers; the last is small."""
    store = Host.current().images
    made = []
    for blob in store.get("demo").blobs:
        with store.blobs.open(blob) as file:
            made.append(b"".join(plain_pieces(file)))
    rest = max(TOTAL - sum(map(len, made)), 2_000_000)
    return [*made, filler(1, rest // 2), filler(2, rest // 2), filler(3, 1_000_000)]


@contextlib.contextmanager
def _state(root: Path) -> Iterator[Path]:
    """A state directory with nothing in it but what does not depend on images."""
    data = root / "state"
    data.mkdir()
    current = Host.current().paths.data
    for name in ("kernels", "templates", "disks", "cache"):
        (data / name).symlink_to(current / name)
    old = {
        name: os.environ.get(name) for name in ("SANDLOT_DATA", "SANDLOT_RUNTIME", "SANDLOT_PULL")
    }
    os.environ.update(SANDLOT_DATA=str(data), SANDLOT_RUNTIME=str(root / "run"), SANDLOT_PULL="")
    try:
        yield data
    finally:
        for name, value in old.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(data, ignore_errors=True)


async def _first_exec(reference: str) -> float:
    began = time.perf_counter()
    sandbox = await Sandbox.create(image=reference)
    await sandbox.exec(["/bin/echo", "hi"])
    took = (time.perf_counter() - began) * 1e3
    await sandbox.remove()
    return took


def _untar(blobs: list[Path], place: Path) -> float:
    began = time.perf_counter()
    for blob in blobs:
        subprocess.run(["tar", "xzf", str(blob), "-C", str(place)], check=True)
    return (time.perf_counter() - began) * 1e3


def _compressed(registry: RealRegistry) -> list[Path]:
    """The layers as the registry keeps them, in the order of their sizes."""
    found = registry.storage.rglob("blobs/sha256/*/*/data")
    return [path for path in found if path.read_bytes()[:2] == b"\x1f\x8b"]


async def pull() -> list[Row]:
    """Pull, convert and start an image of 200 MB; again; and one that shares most of it."""
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        root = Path(folder)
        layers = await asyncio.to_thread(_layers)
        with real_registry(root / "registry") as registry:
            one = make_layout(root / "one", {host_architecture(): layers})
            registry.copy(one, "app:1")
            blobs = _compressed(registry)
            layers[-1] = filler(4, 1_000_000)
            registry.copy(make_layout(root / "two", {host_architecture(): layers}), "app:2")
            del layers
            fresh, again, shared, untar = [], [], [], []
            for number in range(TIMES):
                place = root / f"untar-{number}"
                place.mkdir()
                await asyncio.to_thread(os.sync)  # what was written before costs neither of them
                untar.append(await asyncio.to_thread(_untar, blobs, place))
                shutil.rmtree(place)
                await asyncio.to_thread(os.sync)
                with _state(root):
                    fresh.append(await _first_exec(f"{registry.host}/app:1"))
                    for _ in range(10):
                        began = time.perf_counter()
                        await find_image(Host.current(), f"{registry.host}/app:1")
                        again.append((time.perf_counter() - began) * 1e3)
                    began = time.perf_counter()
                    await find_image(Host.current(), f"{registry.host}/app:2")
                    shared.append((time.perf_counter() - began) * 1e3)
    return [
        row("`tar xzf` of the layers of an image of 200 MB", "", untar, "ms"),
        row("its pull from loopback, unpacking, first exec", "<= 1.5 times that", fresh, "ms"),
        row("the same image again, before the restore", "<= 20 ms", again, "ms"),
        row("an image that shares all but a layer of 1 MB", "that layer only", shared, "ms"),
    ]


BENCHES = {"pull": pull}
