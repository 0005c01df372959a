"""Images from files, without a machine: loading, the same again, a changed last layer."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.framework.images import entry, layer, put_packed

from bench.measure import Row, row
from bench.pull import filler
from sandlot.image.archive import load_images
from sandlot.image.digest import digest_of
from sandlot.image.saving import save_images
from sandlot.image.store import ImageStore

TIMES = 3
HALF = 100_000_000  # bytes of each of the two large layers


class _Rounds:
    """The same work several times, each time in a new store."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._values: dict[str, list[float]] = {}
        self._layers = [filler(1, HALF), filler(2, HALF)]
        self._packed = []
        for number, data in enumerate(self._layers):
            self._packed.append(place / f"{number}.tar.gz")
            self._packed[-1].write_bytes(gzip.compress(data, 1, mtime=0))
        store = self._store()
        with store.working():
            store.add_oci("one", self._put(store))
        self._archive = place / "one.tar"
        save_images(store, ["one"], self._archive, format="oci-archive")

    def _store(self) -> ImageStore:
        root = self._place / "store"
        shutil.rmtree(root, ignore_errors=True)
        return ImageStore(root)

    def _put(self, store: ImageStore, *more: bytes) -> str:
        """The blobs of an image of the two layers and more; returns its manifest's digest."""
        layers = [*zip(self._layers, (path.read_bytes() for path in self._packed), strict=True)]
        layers += [(each, each) for each in more]
        return put_packed(store, layers)

    def _note(self, what: str, work: Callable[[], object]) -> None:
        os.sync()
        began, before = time.perf_counter(), os.times()
        work()
        after = os.times()
        self._values.setdefault(what, []).append((time.perf_counter() - began) * 1e3)
        spent = (sum(after[:4]) - sum(before[:4])) * 1e3
        self._values.setdefault(f"{what}, processor time", []).append(spent)

    def _untar(self) -> None:
        for path in self._packed:
            subprocess.run(["tar", "xzf", path, "-C", self._place / "tree"], check=True)

    def _one_after_the_other(self, store: ImageStore) -> None:
        for data, path in zip(self._layers, self._packed, strict=True):
            store.unpack(digest_of(data), digest_of(path.read_bytes()))

    def once(self) -> None:
        """One round."""
        (self._place / "tree").mkdir()
        self._note("`tar xzf` of two layers of 100 MB", self._untar)
        shutil.rmtree(self._place / "tree")
        store = self._store()
        self._note(
            "`image load` of an archive with them", lambda: load_images(store, self._archive)
        )
        store = self._store()
        with store.working():
            manifest = self._put(store)
            changed = self._put(store, layer(entry("last", b"2")))
            self._note("unpack both at a time", lambda: store.add_oci("both", manifest))
            self._note("a known image", lambda: store.add_oci("again", manifest))
            self._note("another last layer", lambda: store.add_oci("other", changed))
        store = self._store()
        with store.working():
            self._put(store)
            self._note("unpack one after the other", lambda: self._one_after_the_other(store))

    def rows(self) -> list[Row]:
        """The figures."""
        return [row(what, "", values, "ms") for what, values in self._values.items()]


def _measure(place: Path) -> list[Row]:
    rounds = _Rounds(place)
    for _ in range(TIMES):
        rounds.once()
    return rounds.rows()


async def images() -> list[Row]:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        return await asyncio.to_thread(_measure, Path(folder))


BENCHES = {"images": images}
