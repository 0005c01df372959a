"""Images into files that other tools read: archives of Docker's kind, and OCI's as archive or
folder. Digests stay what they are."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from sandlot.errors import ConfigError, ImageError
from sandlot.image.compression import Plain
from sandlot.image.manifest import MAX_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, parse_manifest
from sandlot.image.scratch import scratch
from sandlot.state.target import target_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

    Progress = Callable[[str, float | None], object]

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


def save_images(
    store: ImageStore, names: Sequence[str], target: Path | BinaryIO, *,
    format: str = "docker-archive", progress: Progress | None = None,
) -> None:  # fmt: skip
    """Write images into an archive, a stream, or (`oci-dir`) a new folder.

    `docker-archive` has the layers unpacked, as other tools expect it; the OCI forms have them as
    they came, so that manifests keep their digests. A file is there whole or not at all.

    Raises ImageNotFound, ImageError when a part of an image is gone, ConfigError for an unknown
    format, and ResourceError when the disk is full.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format[:40]!r} is not known", hint=f"use {', '.join(FORMATS)}")
    images = list({image.name: image for image in map(store.get, names)}.values())
    if not images:
        raise ConfigError("no image is named")
    saver = _Saver(store, images, progress or (lambda stage, fraction: None))
    with store.working(keep=True):
        for image in images:
            saver.check(image)
        if isinstance(target, Path):
            with target_faults(target), _beside(target) as part:
                if format == "oci-dir":
                    part.mkdir()
                    saver.oci(_FolderSink(part))
                else:
                    with part.open("wb") as file:
                        saver.archive(file, format)
        elif format == "oci-dir":
            raise ConfigError("oci-dir is a folder, which no stream can be", hint="name it with -o")
        else:
            saver.archive(target, format)


class _Sink(Protocol):
    def add(self, name: str, stream: BinaryIO, size: int) -> None: ...


class _Saver:
    def __init__(self, store: ImageStore, images: Sequence[Image], progress: Progress) -> None:
        self._store = store
        self._images = images
        self._progress = progress
        self._total = sum(
            store.blobs.size(blob)
            for blob in {blob for image in images for blob in image.blobs}
            if store.blobs.exists(blob)
        )
        self._done = 0

    def check(self, image: Image) -> None:
        """Whether everything is here."""
        for digest in (image.id, image.manifest, *image.blobs):
            if not self._store.blobs.exists(digest):
                raise ImageError(
                    f"image `{image.name}` cannot be saved: {digest} is not in the store any more",
                    hint="fetch, load or build it again",
                )

    def archive(self, file: BinaryIO, format: str) -> None:
        with tarfile.open(fileobj=file, mode="w|", bufsize=1 << 20) as tar:
            sink = _TarSink(tar)
            if format == "docker-archive":
                self._docker(sink)
            else:
                self.oci(sink)
        file.flush()

    def oci(self, sink: _Sink) -> None:
        """OCI's image layout."""
        _document(sink, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        written: set[str] = set()
        entries = []
        for image in self._images:
            for digest in (*image.blobs, image.id, image.manifest):
                if digest not in written:
                    written.add(digest)
                    self._blob(sink, f"blobs/sha256/{digest[7:]}", digest)
            manifest = self._store.blobs.read(image.manifest, MAX_MANIFEST)
            kind = parse_manifest(manifest, name=image.name).media_type
            descriptor = Descriptor(
                media_type=kind or OCI_MANIFEST, digest=image.manifest, size=len(manifest),
                platform=image.platform,
                annotations={
                    "io.containerd.image.name": str(image.reference),
                    "org.opencontainers.image.ref.name": image.name,
                },
            )  # fmt: skip
            entries.append(descriptor.to_json())
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        _document(sink, "index.json", index)

    def _docker(self, sink: _Sink) -> None:
        written: set[str] = set()
        entries: dict[tuple[str, str], dict[str, Any]] = {}
        for image in self._images:
            layers = []
            for diff_id, blob in zip(image.diff_ids, image.blobs, strict=True):
                layers.append(f"{diff_id[7:]}.tar")
                if diff_id not in written:
                    written.add(diff_id)
                    self._layer(sink, layers[-1], diff_id, blob)
            config = f"{image.id[7:]}.json"
            if config not in written:
                written.add(config)
                self._blob(sink, config, image.id)
            entry = entries.setdefault(
                (image.id, image.manifest), {"Config": config, "RepoTags": [], "Layers": layers}
            )
            if image.reference.tag:
                entry["RepoTags"].append(_tagged(image))
        _document(sink, "manifest.json", list(entries.values()))

    def _blob(self, sink: _Sink, name: str, digest: str) -> None:
        with self._store.blobs.open(digest) as blob:
            sink.add(name, blob, self._store.blobs.size(digest))
        self._advance(digest)

    def _layer(self, sink: _Sink, name: str, diff_id: str, digest: str) -> None:
        """A layer unpacked. Its length must be known first, so it goes through a file."""
        blobs = self._store.blobs
        if diff_id == digest:
            self._blob(sink, name, digest)
            return
        with scratch(self._store.scratch_folder) as place, place.file.open("w+b") as file:
            with blobs.open(digest) as blob, Plain(blob) as plain:
                while data := plain.read(1 << 20):
                    file.write(data)
                found = f"sha256:{plain.hexdigest()}"
            if found != diff_id:
                raise ImageError(f"layer {digest} is damaged", hint="fetch or load the image again")
            size = file.tell()
            file.seek(0)
            sink.add(name, file, size)
        self._advance(digest)

    def _advance(self, digest: str) -> None:
        self._done += self._store.blobs.size(digest)
        self._progress("save", min(1.0, self._done / (self._total or 1)))


class _TarSink:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, stream: BinaryIO, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        info.mode = 0o644
        self._tar.addfile(info, cast("Any", stream))


class _FolderSink:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, stream: BinaryIO, size: int) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)


def _document(sink: _Sink, name: str, value: object) -> None:
    data = json.dumps(value, separators=(",", ":")).encode()
    sink.add(name, io.BytesIO(data), len(data))


def _tagged(image: Image) -> str:
    """Registry, repository and tag; Docker's kind of archive has no place for a digest."""
    return image.name.partition("@")[0]


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A place next to the target, which becomes it at the end of the block."""
    if target.is_dir():
        raise ConfigError(f"{target} is there already, and is a folder", hint="name a new one")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.rename(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
