"""Unpacked layers and the metadata of stacks of them, each made once and shared by all images.

<root>/layers/<hex>.data      the contents of a layer's files; named by its diff id
<root>/layers/<hex>.index     what it does to the tree below; the layer is there when this is
<root>/stacks/<hex>.erofs     the metadata of one stack of layers
<root>/stacks/<hex>.json      its layout; the stack is there when this is
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING

from sandlot.errors import ImageError, ResourceError
from sandlot.image.compression import Plain
from sandlot.image.contents import ContentsWriter
from sandlot.image.device import MAX_CONTENTS, Layout, check_room
from sandlot.image.digest import check_digest, is_digest
from sandlot.image.erofs import ErofsWriter
from sandlot.image.faults import disk_faults, sync_folder, unlink
from sandlot.image.layer import LayerIndex
from sandlot.image.mountpoints import add_mount_points
from sandlot.image.ondisk import BLOCK
from sandlot.image.scratch import scratch
from sandlot.image.tar import read_tar
from sandlot.image.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sandlot.image.contents import Reader

_FORMAT = 1  # counts up when the same layers give other metadata
SPARE_DISK = 64 << 20  # bytes that unpacking leaves free
_LOOK_EVERY = (64 << 20) // BLOCK  # blocks


class LayerStore:
    """The layers and stacks under `root`, which is an image store's folder. Safe between
    processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._layers = root / "layers"
        self._stacks = root / "stacks"
        self._brought: set[str] = set()

    # Section: layers

    def data(self, diff_id: str) -> Path:
        """The contents of a layer that is here."""
        return self._layers / f"{check_digest(diff_id)[7:]}.data"

    def has(self, diff_id: str) -> bool:
        """Whether a layer is unpacked."""
        return self._index(diff_id).exists()

    def unpack(self, diff_id: str, stream: Reader) -> None:
        """Unpack a layer from its tar stream, compressed or not, unless it is here already.

        The stream is read to its end, and verified against `diff_id`. When another program
        unpacks the same layer, wait for it. Raises ImageError when it is damaged or hostile, and
        keeps nothing then.
        """
        with self._once(self._index(diff_id)) as missing:
            if missing:
                self._unpack(diff_id, stream)

    def _unpack(self, diff_id: str, stream: Reader) -> None:
        index = LayerIndex()
        with scratch(self.root / "tmp") as place:
            with place.file.open("x+b") as file, Plain(stream) as plain:
                contents = ContentsWriter(file.fileno(), limit=MAX_CONTENTS)
                watch = _SpaceWatch(self.root)
                for member in read_tar(plain):
                    index.add(member, contents)
                    watch.look(contents.blocks)
                found = f"sha256:{plain.hexdigest()}"
                if found != diff_id:
                    raise ImageError(
                        f"layer {diff_id} is damaged: its contents have the digest {found}",
                        hint="fetch or load the image again",
                    )
                contents.close()
                index.blocks = contents.blocks
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            self._layers.mkdir(parents=True, exist_ok=True)
            place.file.rename(self.data(diff_id))
        self._write(self._index(diff_id), index.encode())
        self._brought.add(diff_id)

    def load(self, diff_id: str) -> LayerIndex:
        """A layer's index. Raises ImageError when it is damaged or missing; then it is removed,
        so that it can be unpacked again."""
        try:
            index = LayerIndex.decode(self._index(diff_id).read_bytes())
            if self.data(diff_id).stat().st_size != index.blocks * BLOCK:
                raise ImageError(f"the contents of layer {diff_id} are damaged")
        except FileNotFoundError:
            raise ImageError(f"layer {diff_id} is not unpacked") from None
        except ImageError:
            self._index(diff_id).unlink(missing_ok=True)
            raise
        return index

    def _index(self, diff_id: str) -> Path:
        return self._layers / f"{check_digest(diff_id)[7:]}.index"

    # Section: stacks

    @staticmethod
    def key(diff_ids: Sequence[str], folders: Sequence[str] = ()) -> str:
        """The name of a stack of layers, lowest first: 64 hexadecimal digits."""
        recipe = [_FORMAT, list(diff_ids), sorted(set(folders) - {"", "/"})]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()

    def metadata(self, key: str) -> Path:
        """The metadata of a stack that is here."""
        return self._stacks / f"{key}.erofs"

    def layout(self, key: str) -> Layout | None:
        """What the device of a stack looks like, or None when it is not here or damaged."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            layout = Layout.from_json(json.loads(self._json(key).read_bytes()))
            if self.metadata(key).exists() and all(
                self.data(layer).exists() for layer, _ in layout.layers
            ):
                return layout
        return None

    def stack(self, diff_ids: Sequence[str], folders: Sequence[str] = ()) -> Layout:
        """Lay layers over each other, lowest first, unless it is done already. All must be
        unpacked. `folders` are made where they are missing: to make them in a guest would cost
        it a write to a cold disk. Raises ImageError when the layers do not go together."""
        key = self.key(diff_ids, folders)
        with self._once(self._json(key), lambda: self.layout(key) is None) as missing:
            if missing:
                self._stack(key, diff_ids, folders)
        layout = self.layout(key)
        assert layout is not None
        return layout

    def _stack(self, key: str, diff_ids: Sequence[str], folders: Sequence[str]) -> None:
        indexes = [self.load(diff_id) for diff_id in diff_ids]
        sizes = [index.blocks * BLOCK for index in indexes]
        check_room(sizes)
        tree = Tree()
        for index in indexes:
            index.replay(tree)
        add_mount_points(tree)
        for folder in sorted(folders):
            with contextlib.suppress(ImageError):  # what can be no path is told when it is used
                tree.add_folder(folder.encode("utf-8", "surrogateescape"))
        # Layer 0 is what no layer brought: directories that the tree had to invent.
        with scratch(self.root / "tmp") as place:
            with place.file.open("x+b") as file:
                writer = ErofsWriter([0, *(index.blocks for index in indexes)])
                length = writer.finish(tree, file.fileno())
                layout = Layout(tuple(zip(diff_ids, sizes, strict=True)), length)
                if length > layout.metadata_length:
                    raise ImageError("the image has too many files for a device")
                os.ftruncate(file.fileno(), layout.metadata_length)
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            self._stacks.mkdir(parents=True, exist_ok=True)
            place.file.rename(self.metadata(key))
        self._write(self._json(key), json.dumps(layout.to_json()).encode())
        self._brought.add(key)

    def _json(self, key: str) -> Path:
        return self._stacks / f"{key}.json"

    # Section: upkeep

    def remove(self, layers: set[str], stacks: set[str]) -> int:
        """Remove these, by diff id and by key; returns bytes. Missing is fine."""
        paths = [self._json(key) for key in stacks] + [self._index(layer) for layer in layers]
        paths += [self.metadata(key) for key in stacks]
        paths += [self.data(layer) for layer in layers]
        return sum(unlink(path) for path in paths)

    def forget(self, layers: set[str], stacks: set[str]) -> int:
        """Remove what this object has brought and what is in neither set; returns bytes."""
        brought, self._brought = self._brought - layers - stacks, set()
        new = {each for each in brought if is_digest(each)}
        return self.remove(new, brought - new)

    def clean(self, layers: set[str], stacks: set[str], *, older: float) -> int:
        """Remove what is in neither set and was not touched for `older` seconds; returns bytes.
        The caller sees to it that nobody relies on it meanwhile."""
        return sum(unlink(path) for path in self.unused(layers, stacks, older=older))

    def unused(self, layers: set[str], stacks: set[str], *, older: float) -> Iterator[Path]:
        """What `clean` removes, in that order."""
        limit = time.time() - older
        used = {diff_id[7:] for diff_id in layers} | stacks
        for folder, first in ((self._stacks, ".json"), (self._layers, ".index")):
            with contextlib.suppress(FileNotFoundError):
                # What says that the rest is there goes first.
                for path in sorted(folder.iterdir(), key=lambda p: p.suffix != first):
                    if path.stem not in used and path.stat().st_mtime <= limit:
                        yield path

    @contextlib.contextmanager
    def _once(
        self, mark: Path, missing: Callable[[], bool] | None = None
    ) -> Iterator[bool]:  # fmt: skip
        """Whether this program must make what `mark` tells the presence of; others wait."""
        look = missing or (lambda: not mark.exists())
        if not look():
            yield False
            return
        with disk_faults(self.root):
            # With one lock for all, different layers would wait for each other.
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            fd = os.open(locks / mark.stem[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield look()
            finally:
                os.close(fd)

    def _write(self, path: Path, data: bytes) -> None:
        with scratch(self.root / "tmp") as place:
            with place.file.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            place.file.rename(path)
        sync_folder(path.parent)


class _SpaceWatch:
    """Ends an unpacking that is about to fill the disk, which others need too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._next = 0

    def look(self, blocks: int) -> None:
        if blocks < self._next:
            return
        self._next = blocks + _LOOK_EVERY
        if shutil.disk_usage(self._root).free < SPARE_DISK:
            raise ResourceError(
                f"no room for the image under {self._root}: less than {SPARE_DISK >> 20}M are left",
                hint="free some space, for example with `sandlot image rm`",
            )
