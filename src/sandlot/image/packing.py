"""Images that are made here: layers packed from files, and the documents around them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import stat
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sandlot.image.compression import ZSTD
from sandlot.image.manifest import OCI_LAYER, Descriptor, Platform, make_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandlot.image.blobs import BlobStore, BlobWriter
    from sandlot.image.config import ImageConfig
    from sandlot.image.contents import Reader
    from sandlot.image.records import Image
    from sandlot.image.reference import Reference
    from sandlot.image.store import ImageStore
    from sandlot.image.tar import Member

_LEVEL = 3
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
}  # fmt: skip


@dataclass(frozen=True)
class PackedLayer:
    """A layer in the blob store."""

    descriptor: Descriptor
    diff_id: str


class LayerPacker:
    """A layer that is being written, as a tar stream that is packed on the way.

    Made by `pack_layer`. `tar` is the standard library's writer, for files of the host; `add`
    takes what `read_tar` gives. `layer` is there after the `with` block.
    """

    layer: PackedLayer

    def __init__(self, blob: BlobWriter) -> None:
        self._sink = _Sink(blob)
        self.tar = tarfile.open(
            fileobj=cast("Any", self._sink), mode="w|", format=tarfile.PAX_FORMAT,
            encoding="utf-8", errors="surrogateescape", bufsize=1 << 20,
        )  # fmt: skip

    def add(self, member: Member) -> None:
        """Append an entry of another tar stream."""
        info = tarfile.TarInfo(_text(member.path))
        node = member.node
        if node is None:
            info.type = tarfile.LNKTYPE
            info.linkname = _text(member.link or b"")
            self.tar.addfile(info)
            return
        info.type = _TYPES[stat.S_IFMT(node.mode)]
        info.mode, info.uid, info.gid = stat.S_IMODE(node.mode), node.uid, node.gid
        info.mtime = node.mtime
        info.linkname = _text(node.target)
        info.devmajor, info.devminor = node.device
        info.pax_headers = {
            f"SCHILY.xattr.{_text(name)}": _text(value)
            for name, value in (node.xattrs or {}).items()
        }
        if node.mtime_ns:
            info.pax_headers["mtime"] = _decimal_time(node.mtime, node.mtime_ns)
        content: Reader = member.content
        if node.is_file:
            info.size = node.size
            if member.extents is not None:
                content = _Filled(content, member.extents, node.size)
        self.tar.addfile(info, cast("Any", content) if node.is_file else None)

    def _finish(self) -> None:
        self.tar.close()
        self.layer = self._sink.finish()


@contextlib.contextmanager
def pack_layer(blobs: BlobStore) -> Iterator[LayerPacker]:
    """Write a layer into the blob store; it is not there when the block raises.

    with pack_layer(store.blobs) as packer:
        packer.tar.add("bin", arcname="usr/local/bin")
    packer.layer.diff_id
    """
    with blobs.writer() as blob:
        packer = LayerPacker(blob)
        try:
            yield packer
            packer._finish()
        finally:
            packer._sink.ended = True


def add_image(
    store: ImageStore, name: str | Reference, config: ImageConfig,
    layers: Sequence[PackedLayer], *, history: Sequence[dict[str, Any]] = (), source: str = "",
    key: str = "",
) -> Image:  # fmt: skip
    """Make an image of layers that lie in the store's blobs, lowest first.

    To be called inside `store.working`. Errors are those of `ImageStore.add_oci`.
    """
    platform = Platform("linux", config.architecture)
    run = {k: v for k, v in config.to_json().items() if v and k != "architecture"}
    document: dict[str, Any] = {
        "architecture": platform.architecture, "os": platform.os, "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }  # fmt: skip
    if history:
        document["history"] = list(history)
    data = json.dumps(document, separators=(",", ":")).encode()
    store.blobs.put(data)
    manifest = store.blobs.put(make_manifest(data, tuple(layer.descriptor for layer in layers)))
    return store.add_oci(name, manifest, platform=platform, source=source, key=key)


class _Sink:
    """What the tar writer writes to: digest of the plain bytes, zstd, blob."""

    def __init__(self, blob: BlobWriter) -> None:
        self._blob = blob
        self._hash = hashlib.sha256()
        self.ended = False  # a tar writer that was given up wants to write its end all the same
        self._packer = importlib.import_module(ZSTD).ZstdCompressor(_LEVEL)

    def write(self, data: bytes) -> int:
        if self.ended:
            return len(data)
        self._hash.update(data)
        self._blob.write(self._packer.compress(data))
        return len(data)

    def finish(self) -> PackedLayer:
        self._blob.write(self._packer.flush())
        size = self._blob.offset
        digest = self._blob.commit()
        descriptor = Descriptor(media_type=OCI_LAYER + "+zstd", digest=digest, size=size)
        return PackedLayer(descriptor, f"sha256:{self._hash.hexdigest()}")


class _Filled(io.RawIOBase):
    """A sparse file's contents with its holes as zeros."""

    def __init__(self, content: Reader, extents: Sequence[tuple[int, int]], size: int) -> None:
        self._content = content
        self._pieces = self._all(extents, size)
        self._hole, self._left = False, 0

    def read(self, size: int = -1, /) -> bytes:
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._hole, self._left = piece
        count = min(size, self._left)
        data = bytes(count) if self._hole else self._content.read(count)
        self._left -= len(data)
        return data

    @staticmethod
    def _all(extents: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[bool, int]]:
        at = 0
        for offset, length in extents:
            yield True, offset - at
            yield False, length
            at = offset + length
        yield True, size - at


def _decimal_time(seconds: int, nanoseconds: int) -> str:
    """
    >>> _decimal_time(-3, 250_000_000)
    '-2.750000000'
    """
    if seconds < 0:
        return f"-{-seconds - 1}.{1_000_000_000 - nanoseconds:09d}"
    return f"{seconds}.{nanoseconds:09d}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
