"""Reading a snapshot out of an archive that may come from anybody.

Everything is checked on the way: the digest of each blob, how much comes out of it, and what that
is. Nothing has a name in the store before all of it is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from sandlot.errors import ImageError, SnapshotDamaged, SnapshotError
from sandlot.image.compression import ZSTD
from sandlot.image.contents import Reader
from sandlot.image.tar import Member, read_tar
from sandlot.snapshot.integrity import SparseDigest
from sandlot.snapshot.layout import (
    MAX_DOCUMENT,
    Config,
    Manifest,
    Part,
    blob_name,
    parse_config,
    parse_index,
    parse_manifest,
)
from sandlot.snapshot.sparse import SparseReader
from sandlot.state.sparse import link_or_copy

MAX_MEMBERS = 5000
MAX_KEPT = 64 << 20  # bytes of small blobs that come before it is known what they are
_CHUNK = 1 << 18
_PAGE = bytes(4096)
Tell = Callable[[str, float | None], object]


class ArchiveReader:
    """Reads one archive: first `open`, which goes through its documents, then `unpack`.

    A stream must have the documents before the files, as `ArchiveWriter` writes them; in a file
    they may be anywhere.
    """

    def __init__(self, source: BinaryIO, *, tell: Tell, check: Callable[[], None]) -> None:
        self._source = source
        self._tell = tell
        self._check = check
        self._seekable = source.seekable()
        self._begin = source.tell() if self._seekable else 0
        self._members: Iterator[tuple[str, Member]] = iter(())
        self._kept: dict[str, bytes] = {}
        self.name = ""
        self.manifest: Manifest
        self.config: Config

    def open(self) -> None:
        """Read what the archive says that it holds.

        Raises:
            SnapshotError: it is no archive of a snapshot.
            SnapshotDamaged: it is cut off, or was changed.
        """
        self._members = self._read()
        manifest: str | None = None
        while True:
            if manifest is None and "index.json" in self._kept:
                manifest, self.name = parse_index(self._kept["index.json"])
            if manifest is not None and blob_name(manifest) in self._kept:
                self.manifest = parse_manifest(self._kept[blob_name(manifest)])
                config = blob_name(self.manifest.config)
                if config in self._kept:
                    if len(self._kept[config]) != self.manifest.config_size:
                        raise SnapshotDamaged("the configuration has another size")
                    self.config = parse_config(self._kept[config])
                    break
            self._keep_next()
        if self._seekable:
            self._source.seek(self._begin)
            self._kept.clear()
            self._members = self._read()

    def _keep_next(self) -> None:
        self._check()
        name, member = next(self._members, ("", None))
        if member is None or member.node is None:
            if "index.json" in self._kept:
                raise SnapshotDamaged("the archive's manifest or configuration is missing")
            raise SnapshotError(
                "this is no archive of a snapshot: it has no index.json",
                hint="`sandlot snapshot export` makes one",
            )
        if member.node.size > MAX_DOCUMENT:
            if not self._seekable:
                raise SnapshotError(
                    "the archive's manifest comes after its files, which a stream cannot have",
                    hint="save it to a file, and import that",
                )
            return
        data = b"".join(_pieces(member.content, member.node.size))
        if name.startswith("blobs/") and hashlib.sha256(data).hexdigest() != name[-64:]:
            raise SnapshotDamaged(f"{name} in the archive is damaged")
        self._kept[name] = data
        if sum(map(len, self._kept.values())) > MAX_KEPT:
            raise SnapshotDamaged(f"the archive has more than {MAX_KEPT} bytes of documents")

    def _read(self) -> Iterator[tuple[str, Member]]:
        """The files of the archive by their names."""
        with _faults():
            for count, member in enumerate(read_tar(self._source)):
                if count > MAX_MEMBERS:
                    raise SnapshotDamaged(f"the archive has more than {MAX_MEMBERS} members")
                if member.node is not None and member.node.is_dir:
                    continue
                if member.node is None or not member.node.is_file or member.extents is not None:
                    raise SnapshotDamaged("the archive has something in it that is no file")
                yield member.path.decode(errors="replace").removeprefix("./"), member

    def unpack(self, folder: Path, wanted: dict[str, Part], shared: dict[str, Path]) -> None:
        """Put files into a folder, whose subfolders are there, under their paths; each is checked.

        Args:
            folder: where to.
            wanted: those to unpack, by path. The blobs of the others are checked only.
            shared: files that are here already, by path, which are linked.

        Raises:
            SnapshotDamaged: the archive is cut off, was changed, or says what is not true.
        """
        waiting: dict[str, list[Part]] = {}
        for part in self.manifest.parts:
            waiting.setdefault(blob_name(part.blob), []).append(part)
        total = max(1, sum(parts[0].length for parts in waiting.values()))
        done = 0

        def told(count: int) -> None:
            nonlocal done
            self._check()
            done += count
            self._tell("import", min(1.0, done / total))

        for path, here in shared.items():
            if path in wanted:
                link_or_copy(here, folder / path)
        missing = {path: part for path, part in wanted.items() if path not in shared}
        for name, size, content in self._blobs():
            if name not in waiting:
                continue
            parts = waiting.pop(name)
            if size != parts[0].length:
                raise SnapshotDamaged(f"{parts[0].path} in the archive has another size")
            made = [part for part in parts if part.path in missing]
            self._blob(content, size, parts[0], folder, made, told)
        if waiting:
            first = next(iter(waiting.values()))[0]
            raise SnapshotDamaged(f"{first.path} is missing in the archive")

    def _blobs(self) -> Iterator[tuple[str, int, Reader]]:
        import io

        for name, data in self._kept.items():
            yield name, len(data), io.BytesIO(data)
        self._kept = {}
        for name, member in self._members:
            assert member.node is not None
            yield name, member.node.size, member.content

    def _blob(
        self, content: Reader, size: int, part: Part, folder: Path, made: list[Part],
        told: Callable[[int], None],
    ) -> None:  # fmt: skip
        found = hashlib.sha256()

        def compressed() -> Iterator[bytes]:
            for data in _pieces(content, size):
                found.update(data)
                told(len(data))
                yield data

        if not made:
            for _ in compressed():
                pass
        else:
            _write(folder / made[0].path, made[0], compressed())
            for each in made[1:]:
                if (each.size, each.data, each.contents) != (part.size, part.data, part.contents):
                    raise SnapshotDamaged("the archive says two things about one blob")
                link_or_copy(folder / made[0].path, folder / each.path)
        if f"sha256:{found.hexdigest()}" != part.blob:
            raise SnapshotDamaged(
                f"{part.path} in the archive is damaged", hint="export or transfer it again"
            )


def _pieces(content: Reader, size: int) -> Iterator[bytes]:
    while size:
        with _faults():
            data = content.read(min(size, _CHUNK))
        if not data:
            raise SnapshotDamaged("the archive is cut off")
        size -= len(data)
        yield data


def _write(path: Path, part: Part, compressed: Iterator[bytes]) -> None:
    """Unpack a file, which must be what the manifest says."""
    module: Any = importlib.import_module(ZSTD)
    state = module.ZstdDecompressor()
    reader = SparseReader(part.size, part.data)
    contents = SparseDigest()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, part.size)
        for data in compressed:
            if state.eof:
                raise SnapshotDamaged(f"{part.path} in the archive has something behind its end")
            while not state.eof:
                try:
                    plain = state.decompress(data, 1 << 20)
                except module.ZstdError as error:
                    raise SnapshotDamaged(f"{part.path} cannot be unpacked: {error}") from None
                data = b""
                for at, piece in reader.feed(plain):
                    contents.add(at, piece)
                    put(descriptor, at, piece)
                if state.needs_input and len(plain) < 1 << 20:
                    break
            if state.eof and state.unused_data:
                raise SnapshotDamaged(f"{part.path} in the archive has something behind its end")
        reader.finish()
        if contents.hexdigest(part.size) != part.contents:
            raise SnapshotDamaged(f"{part.path} in the archive is not what it says")
    finally:
        os.close(descriptor)


def put(descriptor: int, at: int, piece: bytes) -> None:
    """Write a piece, but no pages of zeros."""
    if _PAGE not in piece:
        _write_all(descriptor, piece, at)
        return
    begin = 0
    for offset in range(0, len(piece) + len(_PAGE), len(_PAGE)):
        page = piece[offset : offset + len(_PAGE)]
        if not page or page == _PAGE[: len(page)]:
            if begin < offset:
                _write_all(descriptor, piece[begin:offset], at + begin)
            begin = offset + len(_PAGE)


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """What the reader of archives blames on an image is the snapshot's."""
    try:
        yield
    except ImageError as error:
        raise SnapshotDamaged(f"the archive cannot be read: {error.message}") from None
