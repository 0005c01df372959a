"""The images on this machine: names, and the content-addressed files that they point to.

    <root>/images/<name>.json          a record: digest, configuration, where it came from
    <root>/blobs/sha256/<hex>.erofs    a read-only image, DEVICE_SIZE long
    <root>/tmp/                        builds under way
    <root>/lock                        held while records and blobs change

An image is built in `tmp` without the lock, then renamed into its place with it. A record is
written after its blob and removed before it, so whoever finds a name finds the blob too. The
next call removes what a dead process has left.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import time
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sandlot.errors import ConfigError, ImageError, ImageNotFound, ResourceError, StateError
from sandlot.image.blobs import BlobStore
from sandlot.image.config import ImageConfig
from sandlot.image.erofs import ErofsWriter
from sandlot.image.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Manifest,
    Platform,
    check_fit,
    parse_config,
    parse_manifest,
)
from sandlot.image.reference import Reference
from sandlot.image.scratch import reap, scratch
from sandlot.image.tar import read_tar
from sandlot.image.tree import Tree, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[str, float | None], object]
    """Called with a stage and the fraction done; what it raises ends the work."""

DEVICE_SIZE = 64 << 30
"""Bytes: the apparent length of every blob. A virtual machine that was snapshotted with one
image's device gets another's, so all devices must have the same length."""

MAX_NAME = 200
_NAME = re.compile(r"[a-z0-9A-Z][a-zA-Z0-9._/:@+-]*")
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Image:
    """One name in the store, as it was when it was asked for.

    `size` is in bytes without the sparse rest; `created` is in seconds since 1970; `source`
    says for people where it came from; `key` tells builds apart and is empty for imports.
    `path` is read-only. Another process may remove it at any time: open it, or make a hard
    link to it, to keep it.
    """

    name: str
    digest: str
    path: Path
    size: int
    config: ImageConfig
    created: float
    source: str
    key: str = ""


def validate_name(name: str) -> str:
    """`name` itself when it may name an image, as `demo`, `demo:latest` or `ghcr.io/a/b@…`.

    Raises ConfigError otherwise.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or len(_file_name(name)) > 255:
        raise ConfigError(
            f"{name[:80]!r} cannot name an image",
            hint="use letters, digits and . _ / : @ + -, with a letter or digit in front",
        )
    return name


class ImageStore:
    """The images under one folder, which is created when needed. Safe between processes.

    store = ImageStore(Path("/var/lib/sandlot/images"))
    image = store.add("demo", ImageConfig(), write)   # write(file) makes the EROFS image
    store.get("demo").path
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records = root / "images"
        self._blobs = root / "blobs" / "sha256"
        self.blobs = BlobStore(root)

    @property
    def scratch_folder(self) -> Path:
        """Where builds may have temporary files, on the file system of the blobs."""
        return self.root / "tmp"

    def get(self, name: str) -> Image:
        """The image of this name. Raises ImageNotFound, whose hint tells similar names."""
        validate_name(name)
        with self._lock(fcntl.LOCK_SH):
            image = self._read(name)
            if image is not None and image.path.exists():
                return image
            names = [other.name for other in self._all()]
        near = difflib.get_close_matches(name, names, 1)
        see = "see `sandlot image ls`"
        hint = f"did you mean `{near[0]}`? {see}" if near else see
        raise ImageNotFound(f"there is no image `{name}`", hint=hint)

    def list(self) -> list[Image]:
        """All images, by name. Unreadable records are left out."""
        with self._lock(fcntl.LOCK_SH):
            return sorted(self._all(), key=lambda image: image.name)

    def add(
        self, name: str, config: ImageConfig, content: Callable[[BinaryIO], object] | Path, *,
        source: str = "", key: str = "",
    ) -> Image:  # fmt: skip
        """Store an image under a name, which then no longer means what it meant before.

        `content` writes the EROFS image into the empty file that it is given, or is a file in
        `scratch_folder` that becomes the store's. When it raises, nothing has changed. Raises
        ResourceError when the disk is full.
        """
        validate_name(name)
        with self._errors(), contextlib.ExitStack() as stack:
            self._clean()
            if isinstance(content, Path):
                path = content
            else:
                path = stack.enter_context(scratch(self.scratch_folder)).file
                with path.open("x+b") as file:
                    content(file)
            size, digest = _seal(path)
            image = Image(
                name=name, digest=f"sha256:{digest}", path=self._blobs / f"{digest}.erofs",
                size=size, config=config, created=time.time(), source=source, key=key,
            )  # fmt: skip
            with self._lock(fcntl.LOCK_EX):
                old = self._read(name)
                self._blobs.mkdir(parents=True, exist_ok=True)
                if image.path.exists():
                    path.unlink()
                else:
                    path.rename(image.path)
                    _sync(self._blobs)
                self._write(image)
                if old is not None:
                    self._drop(old.path)
        return image

    def add_oci(
        self, name: str | Reference, manifest: str, *, digest: str = "",
        platform: Platform | None = None, source: str = "", progress: Progress | None = None,
    ) -> Image:  # fmt: skip
        """Make an image from what lies in `blobs`: manifest, configuration and layers.

        `manifest` is the digest of the chosen platform's manifest; `digest` that which the name
        stands for at its source, which may be an index's. `platform` is what the user asked for,
        the host's when None. Everything is verified. Blocks for as long as unpacking takes: call
        it in a thread. When it raises, no image has changed.

        Raises:
            ImageError: a blob is missing or damaged, a layer is hostile, or the platform is wrong.
            ResourceError: the disk is full.
        """
        label = name.familiar if isinstance(name, Reference) else name
        parsed = parse_manifest(self.blobs.read(manifest, MAX_MANIFEST), name=label)
        if not isinstance(parsed, Manifest):
            raise ImageError(f"{label} is an index; choose a manifest in it first")
        config = parse_config(self.blobs.read(parsed.config.digest, MAX_CONFIG), name=label)
        check_fit(parsed, config, platform, label)

        def write(file: BinaryIO) -> None:
            writer, tree = ErofsWriter(file.fileno()), Tree()
            for index, layer in enumerate(parsed.layers):
                if progress is not None:
                    progress("unpack", index / len(parsed.layers))
                tree.begin_layer()
                with self.blobs.open(layer.digest) as stream:
                    _apply(stream, writer, tree)
            file.truncate(writer.finish(tree))

        return self.add(label, config.config, write, source=source or label, key=manifest)

    async def pull(
        self, name: str, *, platform: str | None = None, insecure: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Image:  # fmt: skip
        """Fetch an image from its registry, only what is missing of it, and store it.

        Credentials are those of Docker and Podman; mirrors, certificates and more are set by the
        environment and by `registries.toml` (docs/guides/images-from-registries.md).

            image = await store.pull("registry.example.com/team/app:1.0")

        Args:
            name: as Docker reads it: `python:3.12`, `registry.example.com/team/app@sha256:…`.
            platform: such as `linux/arm64`; the host's when None.
            insecure: registries that may be spoken to without encryption.
            progress: called, also from threads, with a stage and the fraction done.

        Raises:
            ImageNotFound: the registry has no such repository or tag.
            RegistryError: it cannot be reached, refuses, or allows no more pulls for now.
            ImageError: what it sent is damaged, or for another platform.
            ResourceError: the disk is full.
            ConfigError: the name, a setting or a file of credentials is malformed.
        """
        from sandlot.image.registry.pull import pull_image

        return await pull_image(self, name, platform=platform, insecure=insecure, progress=progress)

    def alias(self, image: Image, name: str) -> Image:
        """Give an image another name. Raises ImageNotFound when it was removed meanwhile."""
        validate_name(name)
        other = replace(image, name=name)
        with self._errors(), self._lock(fcntl.LOCK_EX):
            if not image.path.exists():
                raise ImageNotFound(f"image `{image.name}` was removed")
            old = self._read(name)
            self._write(other)
            if old is not None:
                self._drop(old.path)
        return other

    def remove(self, name: str) -> None:
        """Forget a name, and the blob too when no other name points to it."""
        image = self.get(name)
        with self._errors():
            self._clean()
            with self._lock(fcntl.LOCK_EX):
                image = self._read(name) or image
                self._record(name).unlink(missing_ok=True)
                self._drop(image.path)

    def find_key(self, key: str) -> Image | None:
        """An image that was built with this key, which is not empty."""
        return next((image for image in self.list() if key and image.key == key), None)

    # Section: files

    def _record(self, name: str) -> Path:
        return self._records / _file_name(name)

    def _read(self, name: str) -> Image | None:
        try:
            return self._parse(json.loads(self._record(name).read_bytes()), name)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, ImageError) as error:
            raise ImageError(
                f"the record of image `{name}` is damaged: {error}",
                hint=f"delete {self._record(name)}",
            ) from error

    def _parse(self, data: Mapping[str, Any], name: str) -> Image:
        digest = str(data["digest"])
        if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
            raise ValueError("digest")
        return Image(
            name=name, digest=digest, path=self._blobs / f"{digest[7:]}.erofs",
            size=int(data["size"]), config=ImageConfig.from_json(data["config"]),
            created=float(data["created"]), source=str(data["source"]), key=str(data["key"]),
        )  # fmt: skip

    def _all(self) -> Iterator[Image]:
        try:
            files = sorted(self._records.glob("*.json"))
        except FileNotFoundError:
            return
        for file in files:
            name = urllib.parse.unquote(file.stem)
            with contextlib.suppress(ImageError):
                image = self._read(name)
                if image is not None:
                    yield image

    def _write(self, image: Image) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        data = {
            "version": _VERSION, "name": image.name, "digest": image.digest, "size": image.size,
            "created": image.created, "source": image.source, "key": image.key,
            "config": image.config.to_json(),
        }  # fmt: skip
        with scratch(self.scratch_folder) as place:
            with place.file.open("x") as file:
                json.dump(data, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            place.file.rename(self._record(image.name))
        _sync(self._records)

    def _drop(self, blob: Path) -> None:
        """Remove a blob that no record points to. The lock is held."""
        if not any(image.path == blob for image in self._all()):
            blob.unlink(missing_ok=True)

    def _clean(self) -> None:
        """Remove what dead builds have left, and blobs whose record was never written."""
        reap(self.scratch_folder)
        with self._lock(fcntl.LOCK_EX):
            used = {image.path for image in self._all()}
            damaged = len(used) < len(list(self._records.glob("*.json")))
            if damaged and any(self._unreadable()):
                return  # a damaged record may point to what looks unused
            for blob in self._blobs.glob("*.erofs"):
                if blob not in used:
                    blob.unlink(missing_ok=True)

    def _unreadable(self) -> Iterator[Path]:
        for file in self._records.glob("*.json"):
            try:
                self._read(urllib.parse.unquote(file.stem))
            except ImageError:
                yield file

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        with self._errors():
            self.root.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise ResourceError(
                    f"no room for the image under {self.root}: {error.strerror}",
                    hint="free some space, for example with `sandlot image rm`",
                ) from error
            raise StateError(f"the image store {self.root} cannot be used: {error}") from error


def _apply(stream: BinaryIO, writer: ErofsWriter, tree: Tree) -> None:
    """One layer over those below it."""
    for member in read_tar(stream):
        parent, base = split(member.path)
        if base == b".wh..wh..opq":
            tree.opaque(parent)
        elif base.startswith(b".wh."):
            if not base.startswith(b".wh..wh."):
                tree.whiteout(parent + b"/" + base[4:] if parent else base[4:])
        elif member.node is None:
            tree.link(member.path, member.link or b"")
        else:
            if stat.S_ISREG(member.node.mode):
                writer.store(member.node, member.content, member.extents)
            tree.add(member.path, member.node)


def _file_name(name: str) -> str:
    return urllib.parse.quote(name, safe="") + ".json"


def _seal(path: Path) -> tuple[int, str]:
    """Give a finished image its final length and mode; returns its own size and digest."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ImageError("the image is empty")
        if size > DEVICE_SIZE:
            raise ImageError(
                f"the image has {size >> 30} GiB, which is more than {DEVICE_SIZE >> 30} GiB"
            )
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.ftruncate(file.fileno(), DEVICE_SIZE)
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    return size, digest


def _sync(folder: Path) -> None:
    """A rename is only on the disk when its folder is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
