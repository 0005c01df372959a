"""Images in files: archives of Docker's kind, archives and folders of OCI's, and bare root file
systems. Read as a stream, so that a pipe will do; nothing is ever extracted.

Source: the OCI image specification, `image-layout.md`; for Docker's kind, the "Combined Image
JSON + Filesystem Changeset Format" of the Moby project.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from sandlot.errors import ConfigError, ImageError
from sandlot.image.blobs import BlobStore
from sandlot.image.compression import Plain, compression_of
from sandlot.image.config import ImageConfig
from sandlot.image.digest import is_digest
from sandlot.image.manifest import (
    INDEX_TYPES,
    MAX_CONFIG,
    MAX_LAYERS,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_LAYER,
    Descriptor,
    Index,
    Platform,
    make_manifest,
    parse_manifest,
)
from sandlot.image.packing import PackedLayer, add_image
from sandlot.image.reference import Reference
from sandlot.image.tar import read_tar
from sandlot.image.tree import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sandlot.image.contents import Reader
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore
    from sandlot.image.tar import Member

    Progress = Callable[[str, float | None], object]

MAX_FILES = 20_000  # in one archive
MAX_IMAGES = 1000
MAX_NESTED = 3  # indexes in indexes

_DOCUMENTS = ("manifest.json", "index.json", "oci-layout")
_LEGACY = ("/json", "/VERSION", "repositories")  # of the time before 2016; nobody reads them now
_TITLE = "io.containerd.image.name"
_REF = "org.opencontainers.image.ref.name"


def load_images(
    store: ImageStore, source: Path | BinaryIO, *, name: str = "", platform: str | None = None,
    progress: Progress | None = None,
) -> list[Image]:  # fmt: skip
    """Store the images of an archive, of a folder in OCI's layout, or of a stream.

    Every blob is verified. `name` is for an image that has none in the archive, or another one;
    `platform` chooses among several, the host's when None. When it raises, no image has changed.

    Raises:
        ImageError: it is no such archive, is damaged or hostile, or has no image for the platform.
        ConfigError: a name or the platform is malformed, or `name` is for several images.
        ResourceError: the disk is full.

        load_images(store, Path("demo.tar"))
    """
    tell = progress or (lambda stage, fraction: None)
    wanted = Platform.parse(platform) if platform else None
    named = Reference.parse(name) if name else None
    with store.working(), telling(source):
        found: _Archive
        if not isinstance(source, PurePath):
            found = _read_stream(store.blobs, source, tell)
        elif source.is_dir():
            found = _Folder(store.blobs, source)
        else:
            with _open(source) as file:
                found = _read_stream(store.blobs, file, tell, source.stat().st_size)
        images = list(_images(found, named, wanted))
        if named is not None and len(images) > 1:
            raise ConfigError(
                f"there are {len(images)} images in it, and one name for them",
                hint="load it without --name",
            )
        # Everything is looked at before the first name changes.
        made = [
            store.add_oci(
                each.name, each.manifest, digest=each.digest, platform=wanted,
                source=f"archive:{each.name}", progress=progress,
            )
            for each in images
        ]  # fmt: skip
        store.forget_unused()
    return made


def import_root(
    store: ImageStore, source: BinaryIO, name: str, config: ImageConfig | None = None, *,
    progress: Progress | None = None,
) -> Image:  # fmt: skip
    """Store a root file system's tar stream, compressed or not, as an image of one layer."""
    ref = Reference.parse(name)
    with store.working():
        digest = store.blobs.put_stream(_counted(source, progress, None))
        with store.blobs.open(digest) as blob:
            layer = Descriptor(
                media_type=OCI_LAYER + _suffix(blob), digest=digest, size=store.blobs.size(digest)
            )
            blob.seek(0)
            with Plain(blob) as plain:
                while plain.read(1 << 20):
                    pass
                diff_id = f"sha256:{plain.hexdigest()}"
        packed = PackedLayer(layer, diff_id)
        return add_image(store, ref, config or ImageConfig(), [packed], source="imported")


@dataclass(frozen=True)
class _Found:
    """One image of an archive: its name there, its manifest's digest, and what it was known by."""

    name: Reference
    manifest: str
    digest: str


@dataclass
class _Archive:
    """What an archive holds: documents, and all other files as blobs."""

    blobs: BlobStore
    documents: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # name to digest
    links: dict[str, str] = field(default_factory=dict)

    def document(self, name: str) -> Any:
        return _json(self.documents[name], name) if name in self.documents else None

    def read(self, digest: str, limit: int) -> bytes:
        return self.blobs.read(digest, limit)

    def have(self, descriptor: Descriptor) -> None:
        if not self.blobs.exists(descriptor.digest, descriptor.size):
            raise ImageError(
                f"the archive lacks the blob {descriptor.digest}",
                hint="it may be cut off, or of an image for another platform",
            )

    def file(self, name: str) -> str:
        for _ in range(3):
            name = self.links.get(name, name)
        if name not in self.files:
            raise ImageError(f"the archive lacks the file {name[:200]!r}", hint="it may be cut off")
        return self.files[name]


class _Folder(_Archive):
    """A folder in OCI's layout: blobs are taken when they are needed."""

    def __init__(self, blobs: BlobStore, path: Path) -> None:
        super().__init__(blobs)
        self._path = path
        for name in _DOCUMENTS:
            if (path / name).is_file():
                with _open(path / name) as file:
                    self.documents[name] = _small(file, name)

    def read(self, digest: str, limit: int) -> bytes:
        self._take(digest, None)
        return super().read(digest, limit)

    def have(self, descriptor: Descriptor) -> None:
        self._take(descriptor.digest, descriptor.size)

    def _take(self, digest: str, size: int | None) -> None:
        if not self.blobs.exists(digest, size):
            path = self._path / "blobs" / "sha256" / digest.removeprefix("sha256:")
            if not path.is_file():
                raise ImageError(f"{self._path} lacks the blob {digest}")
            with _open(path) as file:
                self.blobs.put_stream(file, digest, size)

    def file(self, name: str) -> str:
        raise ImageError(f"{self._path} is no folder in OCI's layout", hint="index.json is missing")


def _read_stream(
    blobs: BlobStore, stream: BinaryIO, progress: Progress, size: int | None = None
) -> _Archive:
    """Take everything in; only what an image needs stays."""
    archive = _Archive(blobs)
    with Plain(_counted(stream, progress, size)) as plain:
        for number, member in enumerate(_members(plain)):
            if number >= MAX_FILES:
                raise ImageError(f"the archive has more than {MAX_FILES} files (MAX_FILES)")
            parent, base = split(member.path)
            name = (parent + b"/" + base if parent else base).decode("utf-8", "surrogateescape")
            if member.node is None or member.node.is_symlink:
                target = member.link if member.node is None else member.node.target
                archive.links[name] = _target(name, target or b"", hard=member.node is None)
            elif member.node.is_file and name in _DOCUMENTS:
                archive.documents[name] = _small(member.content, name)
            elif member.node.is_file and not name.endswith(_LEGACY):
                promised = f"sha256:{name[13:]}" if name.startswith("blobs/sha256/") else ""
                if promised and not is_digest(promised):
                    continue
                archive.files[name] = blobs.put_stream(
                    member.content, promised or None, member.node.size
                )
    return archive


def _members(plain: Reader) -> Iterator[Member]:
    """As `read_tar`; what is no tar stream at all is told in the words of whoever named it."""
    members = read_tar(plain)
    try:
        first = next(members, None)
    except ImageError as error:
        hint = error.hint or "archives are made by `docker save`, `skopeo` or `sandlot image save`"
        raise ImageError(f"this is no archive of images: {error.message}", hint=hint) from None
    if first is not None:
        yield first
        yield from members


def _images(
    archive: _Archive, named: Reference | None, platform: Platform | None
) -> Iterator[_Found]:
    index, docker = archive.document("index.json"), archive.document("manifest.json")
    titled = index is not None and b'"io.containerd.image.name"' in archive.documents["index.json"]
    if docker is not None and not titled:
        yield from _of_docker(archive, docker, named)
    elif index is not None:
        yield from _of_index(archive, named, platform)
    else:
        raise ImageError(
            "this is no archive of images: it has neither manifest.json nor index.json",
            hint="a root file system is taken by `sandlot image import`",
        )


def _of_docker(archive: _Archive, top: Any, named: Reference | None) -> Iterator[_Found]:
    if not isinstance(top, list) or len(top) > MAX_IMAGES:
        raise ImageError("manifest.json of the archive is damaged")
    for entry in top:
        if not isinstance(entry, Mapping):
            raise ImageError("manifest.json of the archive is damaged")
        config = archive.file(str(entry.get("Config")))
        stem = str(entry.get("Config")).removesuffix(".json").removeprefix("blobs/sha256/")
        if is_digest(f"sha256:{stem}") and config != f"sha256:{stem}":
            raise ImageError(f"the configuration {stem} of the archive is damaged")
        layers = entry.get("Layers") or []
        if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
            raise ImageError("manifest.json of the archive is damaged: Layers")
        descriptors = []
        for layer in layers:
            digest = archive.file(str(layer))
            with archive.blobs.open(digest) as blob:
                kind = OCI_LAYER + _suffix(blob)
            descriptors.append(
                Descriptor(media_type=kind, digest=digest, size=archive.blobs.size(digest))
            )
        data = make_manifest(archive.read(config, MAX_CONFIG), tuple(descriptors))
        manifest = archive.blobs.put(data)
        tags = entry.get("RepoTags") or []
        names = [named] if named else [Reference.parse(str(tag)) for tag in tags]
        if not names:
            raise _nameless()
        for name in names:
            yield _Found(name, manifest, manifest)


def _of_index(
    archive: _Archive, named: Reference | None, platform: Platform | None
) -> Iterator[_Found]:
    top = parse_manifest(archive.documents["index.json"], OCI_INDEX, name="the archive")
    if not isinstance(top, Index) or len(top.manifests) > MAX_IMAGES:
        raise ImageError("index.json of the archive is damaged")
    entries: Sequence[Descriptor] = top.manifests
    titles = [each.annotations.get(_TITLE) or each.annotations.get(_REF) or "" for each in entries]
    if len(entries) > 1 and len(set(titles)) == 1 and all(each.platform for each in entries):
        entries = [top.choose(platform or Platform.host(), titles[0] or "the archive")]
    for entry, title in zip(entries, titles, strict=False):
        if not title and not named:
            raise _nameless()
        yield _resolve(archive, entry, named or Reference.parse(title), platform)


def _resolve(
    archive: _Archive, entry: Descriptor, name: Reference, platform: Platform | None
) -> _Found:
    """From an entry of the top index to the manifest for the platform, with all its blobs."""
    digest = entry.digest
    for _ in range(MAX_NESTED):
        parsed = parse_manifest(
            archive.read(entry.digest, MAX_MANIFEST), entry.media_type, name=name.familiar
        )
        if not isinstance(parsed, Index):
            archive.have(parsed.config)
            for layer in parsed.layers:
                archive.have(layer)
            return _Found(name, parsed.digest, digest)
        assert parsed.media_type in INDEX_TYPES
        entry = parsed.choose(platform or Platform.host(), name.familiar)
    raise ImageError(f"{name.familiar} is an index of indexes of indexes")


# Section: small things


@contextlib.contextmanager
def telling(source: object) -> Iterator[None]:
    """What is wrong with an archive is told with its file, if it is one, and the remedy."""
    try:
        yield
    except ImageError as error:
        if "ends in the middle" in error.message:
            error.message = f"it is cut off: {error.message}"
            error.hint = error.hint or "fetch or save it again, whole"
        where = str(source) if isinstance(source, PurePath) else "the archive"
        if not error.message.startswith((where, "the archive")):
            error.message = f"{where}: {error.message}"
        error.args = (error.message,)
        raise


def _nameless() -> ImageError:
    return ImageError("the archive does not say what its image is called", hint="give it a --name")


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ImageError(f"{name} of the archive is damaged: it is not JSON") from None


def _small(stream: Reader, name: str) -> bytes:
    data = b""
    while piece := stream.read(MAX_MANIFEST + 1 - len(data)):
        data += piece
    if len(data) > MAX_MANIFEST:
        raise ImageError(f"{name} of the archive is larger than {MAX_MANIFEST} bytes")
    return data


def _suffix(blob: BinaryIO) -> str:
    """The end of a layer's media type, by its first bytes."""
    kind = compression_of(blob.read(6))
    return f"+{kind}" if kind in ("gzip", "zstd") else ""


def _target(name: str, target: bytes, *, hard: bool) -> str:
    """Where a link in an archive points to; older tools write layers that are equal so."""
    text = target.decode("utf-8", "surrogateescape")
    parts = [] if hard or text.startswith("/") else name.split("/")[:-1]
    for part in text.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None


def _counted(stream: BinaryIO, progress: Progress | None, size: int | None) -> Reader:
    return _Watched(stream, progress or (lambda stage, fraction: None), size)


class _Watched:
    """A stream whose progress is told; its faults are the archive's, not the store's."""

    def __init__(self, stream: BinaryIO, progress: Progress, size: int | None) -> None:
        self._stream = stream
        self._progress = progress
        self._size = size
        self._done = 0

    def read(self, size: int, /) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise ImageError(f"the archive cannot be read: {error.strerror}") from None
        self._done += len(data)
        self._progress("load", self._done / self._size if self._size else None)
        return data
