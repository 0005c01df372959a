"""Images for tests: made of small layers, and looked into without a machine."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

from sandlot.image.config import host_architecture
from sandlot.image.digest import digest_of
from sandlot.image.manifest import OCI_LAYER, Descriptor, make_manifest
from sandlot.image.records import Image
from sandlot.image.store import ImageStore
from tests.framework.erofs import ErofsReader, Inode


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a layer; `fields` are those of TarInfo."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def layer(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A layer's tar stream."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member, data in entries:
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def put_image(store: ImageStore, *layers: bytes, **config: object) -> str:
    """Everything of an image into the store's blobs; returns its manifest's digest."""
    return put_packed(store, [(each, gzip.compress(each, 1, mtime=0)) for each in layers], **config)


def put_packed(store: ImageStore, layers: list[tuple[bytes, bytes]], **config: object) -> str:
    """The same, of layers that are here plain and packed."""
    raw = {
        "os": "linux", "architecture": host_architecture(), "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(plain) for plain, _ in layers]},
    }  # fmt: skip
    blob = json.dumps(raw).encode()
    store.blobs.put(blob)
    descriptors = []
    for plain, packed in layers:
        kind = OCI_LAYER if packed == plain else OCI_LAYER + "+gzip"
        digest = store.blobs.put(packed)
        descriptors.append(Descriptor(media_type=kind, digest=digest, size=len(packed)))
    return store.blobs.put(make_manifest(blob, tuple(descriptors)))


def add_image(store: ImageStore, name: str, *layers: bytes, **config: object) -> Image:
    """An image of these layers."""
    with store.working():
        return store.add_oci(name, put_image(store, *layers, **config))


def device_file(store: ImageStore, image: Image, target: Path) -> Path:
    """What a guest would find on the image's device, as one sparse file."""
    with target.open("wb") as out:
        at = 0
        for path, offset, length in store.device(image):
            with path.open("rb") as file:
                file.seek(offset)
                out.seek(at)
                left = min(length, 64 << 20)
                while left and (data := file.read(min(left, 1 << 20))):
                    left -= len(data)
                    if data.strip(b"\0"):
                        out.write(data)
                    else:
                        out.seek(len(data), 1)
            at += length
        out.truncate(at)
    return target


def look(store: ImageStore, image: Image, target: Path) -> tuple[ErofsReader, dict[bytes, Inode]]:
    """The files of an image."""
    reader = ErofsReader(device_file(store, image, target))
    return reader, reader.walk()
