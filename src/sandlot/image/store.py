"""The images on this machine: names, and the shared parts that they point to.

    <root>/images/<name>.json   a record: what the name stands for
    <root>/blobs/               manifests, configurations and packed layers (blobs.py)
    <root>/layers/, stacks/     unpacked layers, and file systems made of them (layers.py)
    <root>/tmp/                 work under way
    <root>/lock                 held while records change
    <root>/work.lock            held, shared, by whoever relies on parts that no record names yet

A record is written after its parts and removed before them, so whoever finds a name finds the
parts too. Parts that no record names are removed when nobody is at work; those that an interrupted
program has brought wait a day to be used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
import urllib.parse
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, ImageError, ImageNotFound, SandboxError
from sandlot.image.blobs import KEPT_FOR, BlobStore
from sandlot.image.digest import digest_of_file
from sandlot.image.faults import disk_faults, space, sync_folder, unlink
from sandlot.image.layers import LayerStore
from sandlot.image.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Manifest,
    Platform,
    check_fit,
    parse_config,
    parse_manifest,
)
from sandlot.image.records import Image
from sandlot.image.reference import Reference, nearest
from sandlot.image.scratch import reap, scratch
from sandlot.image.steps import is_internal, is_step
from sandlot.image.tally import Tally
from sandlot.settings import Settings
from sandlot.state.paths import StatePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Progress = Callable[[str, float | None], object]
    """Called with a stage and the fraction done; what it raises ends the work."""

_MAX_FILE_NAME = 200
_SHORT_ID = re.compile("(?:sha256:)?([0-9a-f]{4,64})")


class ImageStore:
    """The images under one folder, which is created when needed. Safe between processes.

    Without a folder they are those that `Sandbox.create` and the command line use.

        store = ImageStore()
        image = await store.pull("python:3.12")
        store.get("demo").config.cmd

    An `Image` is what a name stood for when it was asked for: data, without calls of its own.
    """

    def __init__(self, root: Path | None = None) -> None:
        if root is None:
            root = StatePaths.of(Settings.read()).images
        self.root = root
        self.blobs = BlobStore(root)
        self.layers = LayerStore(root)
        self._records = root / "images"
        self._dropped: list[Image] = []  # whose parts could not be removed yet
        self._forget = False  # whether to remove what this object has brought

    @property
    def scratch_folder(self) -> Path:
        """Where builds may have temporary files, on the file system of the blobs."""
        return self.root / "tmp"

    # Section: finding

    def get(self, name: str) -> Image:
        """The image of this name, digest or id; the beginning of an id is enough.

        Raises ImageNotFound, whose hint tells similar names, and ConfigError for what can be no
        name.
        """
        with self._lock(fcntl.LOCK_SH):
            image = self._find(name)
            if image is not None:
                return image
            others = [other.reference for other in self._all() if not is_internal(other.name)]
        near = nearest(Reference.parse(name), others)
        see = (
            "`sandlot image ls` lists them; make one with `sandlot build` or `sandlot image build`"
        )
        hint = f"did you mean `{near.familiar}`? {see}" if near else see
        raise ImageNotFound(f"there is no image `{name}`", hint=hint)

    def list(self, *, steps: bool = False) -> list[Image]:
        """All images, by name. Unreadable records are left out.

        With `steps`, those too that stand for the steps of builds, which are kept to be used again.
        """
        with self._lock(fcntl.LOCK_SH):
            found = [image for image in self._all() if steps or not is_step(image.name)]
        return sorted(found, key=lambda image: image.name)

    def find_key(self, key: str) -> Image | None:
        """An image that was built with this key, which is not empty."""
        return next((image for image in self.list(steps=True) if key and image.key == key), None)

    def device(self, image: Image) -> Sequence[tuple[Path, int, int]]:
        """The block device of an image: (file, offset, length) in bytes, one behind the other.

        The files are read-only. Another program may remove them at any time: make a hard link to
        each, to keep it. Raises ImageError when parts are gone.
        """
        layout = self.layers.layout(image.stack)
        if layout is None:
            raise ImageError(
                f"image `{image.name}` was removed, or is damaged", hint="fetch or load it again"
            )
        metadata = self.layers.metadata(image.stack)
        return [
            (self.layers.data(layer) if layer else metadata, offset, length)
            for layer, offset, length in layout.pieces()
        ]

    def _find(self, name: str) -> Image | None:
        found: Image | None = None
        with contextlib.suppress(ConfigError):
            wanted = Reference.parse(name)
            found = self._read(self._record(wanted))
            if found is None and wanted.digest:
                found = next(
                    (
                        image for image in self._all()
                        if image.reference.name == wanted.name
                        and wanted.digest in (image.digest, image.manifest)
                    ), None,
                )  # fmt: skip
        id_ = _SHORT_ID.fullmatch(name)
        if found is None and id_ is not None:
            same = [image for image in self._all() if image.id[7:].startswith(id_[1])]
            if len({image.id for image in same}) > 1:
                raise ImageError(
                    f"several images have an id that begins with {name}",
                    hint="write more of it, or a name",
                )
            found = same[0] if same else None
        if found is None and id_ is None:
            Reference.parse(name)  # says what is wrong with it
        return found

    # Section: making

    @contextlib.contextmanager
    def working(self, *, keep: bool = False) -> Iterator[None]:
        """While inside, nobody removes blobs and layers that no image needs yet. May be nested.

        What was brought by a block that raises is removed, unless `keep`: then it waits a day for
        another try.
        """
        with disk_faults(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.root / "work.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        except BaseException:
            self._forget = not keep
            raise
        finally:
            os.close(fd)
            if self._dropped or self._forget:
                self.clean()

    def add_oci(
        self, name: str | Reference, manifest: str, *, digest: str = "",
        platform: Platform | None = None, source: str = "", key: str = "",
        progress: Progress | None = None,
    ) -> Image:  # fmt: skip
        """Make an image from what lies in `blobs`: manifest, configuration and layers. The name
        then no longer means what it meant before.

        `manifest` is the digest of the chosen platform's manifest; `digest` that which the name
        stands for at its source, which may be an index's. `platform` is what the user asked for,
        the host's when None. Layers that are unpacked already are not read. Everything is
        verified. Blocks for as long as unpacking takes: call it in a thread, and inside
        `working`, lest the blobs be cleaned away before. When it raises, no image has changed.

        Raises:
            ImageError: a blob is missing or damaged, a layer is hostile, or the platform is wrong.
            ResourceError: the disk is full.
        """
        ref = name if isinstance(name, Reference) else Reference.parse(name)
        label = ref.familiar
        with self.working():
            parsed = parse_manifest(self.blobs.read(manifest, MAX_MANIFEST), name=label)
            if not isinstance(parsed, Manifest):
                raise ImageError(f"{label} is an index; choose a manifest in it first")
            config = parse_config(self.blobs.read(parsed.config.digest, MAX_CONFIG), name=label)
            check_fit(parsed, config, platform, label)
            blobs = tuple(layer.digest for layer in parsed.layers)
            self._unpack(dict(zip(config.diff_ids, blobs, strict=True)), progress)
            folders = (config.config.working_dir, *config.config.volumes)
            layout = self.layers.stack(config.diff_ids, folders)
            image = Image(
                name=label, id=config.digest, manifest=parsed.digest,
                digest=digest or parsed.digest, diff_ids=config.diff_ids, blobs=blobs,
                stack=self.layers.key(config.diff_ids, folders), size=layout.size,
                platform=config.platform, config=config.config, created=time.time(),
                source=source or str(ref), key=key or parsed.digest,
            )  # fmt: skip
            self._publish(image)
        return image

    def unpack(self, diff_id: str, blob: str, tally: Tally | None = None) -> None:
        """Unpack one layer of an image, from a blob that is here, unless it was done before.

        May be called for several layers at a time, while others are still on their way. `tally`
        counts the bytes of the blob that were read, and can end the work.
        """
        if self.layers.has(diff_id):
            return
        with self.blobs.open(blob) as stream:
            try:
                self.layers.unpack(diff_id, tally.counted(stream) if tally else stream)
            except ImageError:
                if digest_of_file(stream) != blob:
                    self.blobs.remove(blob)  # so that the next try fetches it anew
                raise

    async def pull(
        self, name: str, *, platform: str | None = None, insecure: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Image:  # fmt: skip
        """Fetch an image from its registry, only what is missing of it, and store it.

        Credentials are those of Docker and Podman; mirrors, certificates and more are set by the
        environment and by `registries.toml` (docs/guides/images-from-registries.md).

            image = await ImageStore().pull("registry.example.com/team/app:1.0")

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

    def alias(self, image: Image, name: str, *, digest: str = "") -> Image:
        """Give an image another name, which stands for `digest` at its source, if that is known.

        Raises ImageNotFound when the image was removed meanwhile.
        """
        other = replace(
            image, name=Reference.parse(name).familiar, created=time.time(),
            digest=digest or image.digest,
        )  # fmt: skip
        with self.working():
            if self.layers.layout(image.stack) is None:
                raise ImageNotFound(f"image `{image.name}` was removed")
            self._publish(other)
        return other

    def remove(self, name: str) -> Image:
        """Forget a name, and the parts that no other name needs; returns what it stood for."""
        image = self.get(name)
        with self._lock(fcntl.LOCK_EX):
            self._record(image.reference).unlink(missing_ok=True)
        self._dropped.append(image)
        self.clean()
        return image

    def clean(self, *, older: float = KEPT_FOR) -> int:
        """Remove what dead programs have left, and parts that no image needs; returns bytes.

        Parts of images that this object has removed or replaced go at once, others when nobody
        has touched them for `older` seconds. Nothing is removed while somebody is at work.
        """
        reap(self.scratch_folder)
        with self._alone() as alone, self._lock(fcntl.LOCK_SH):
            if not alone:
                return 0
            freed = self._drop_older_kinds()
            if self._damaged():
                return freed  # a damaged record may need what looks unused
            blobs, layers, stacks = self._used()
            with disk_faults(self.root):
                dropped, self._dropped = self._dropped, []
                for image in dropped:
                    for digest in image.all_blobs() - blobs:
                        self.blobs.remove(digest)
                    freed += self.layers.remove(
                        set(image.diff_ids) - layers, {image.stack} - stacks
                    )
                if self._forget:
                    freed += self.blobs.forget(blobs) + self.layers.forget(layers, stacks)
                    self._forget = False
                freed += self.blobs.clean(blobs, older=older)
                freed += self.layers.clean(layers, stacks, older=older)
            return freed

    def unused(self, *, older: float = KEPT_FOR) -> int:
        """The bytes of parts that no image needs, of which `clean` would give back as many."""
        with self._alone() as alone, self._lock(fcntl.LOCK_SH):
            if not alone or self._damaged():
                return 0
            blobs, layers, stacks = self._used()
            with disk_faults(self.root):
                going = [*self.blobs.unused(blobs, older=older)]
                going += self.layers.unused(layers, stacks, older=older)
                return sum(space(path) for path in going)

    def _used(self) -> tuple[set[str], set[str], set[str]]:
        """The blobs, layers and stacks of all images."""
        images = list(self._all())
        return (
            {digest for image in images for digest in image.all_blobs()},
            {diff_id for image in images for diff_id in image.diff_ids},
            {image.stack for image in images},
        )

    def forget_unused(self) -> None:
        """At the end of `working`, remove what this object has brought and no image needs."""
        self._forget = True

    def _drop_older_kinds(self) -> int:
        """Remove images of the time when each was one file; nothing can read them any more."""
        old = [file for file in self._files() if "%2F" not in file.name]
        old += (self.root / "blobs" / "sha256").glob("*.erofs")
        return sum(unlink(file) for file in old)

    def _unpack(self, layers: dict[str, str], progress: Progress | None) -> None:
        """Layers, by diff id, from their blobs; as many at a time as there are processors."""
        missing = {d: b for d, b in layers.items() if not self.layers.has(d)}
        if not missing:
            return
        sizes = {diff_id: self.blobs.size(blob) for diff_id, blob in missing.items()}
        tally = Tally()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # Large ones first: the last to end is then a small one.
            order = sorted(missing, key=lambda diff_id: -sizes[diff_id])
            work = {pool.submit(self.unpack, d, missing[d], tally) for d in order}
            try:
                while work:
                    if progress is not None:
                        progress("unpack", tally.count / (sum(sizes.values()) or 1))
                    done, work = wait(work, 0.1, FIRST_COMPLETED)
                    for each in done:
                        each.result()
            except BaseException:
                tally.stopped = True
                pool.shutdown(cancel_futures=True)
                raise

    # Section: records

    def _publish(self, image: Image) -> None:
        """Write a record."""
        with disk_faults(self.root), self._lock(fcntl.LOCK_EX):
            old = None
            with contextlib.suppress(ImageError):
                old = self._read(self._record(image.reference))
            self._write(image)
        if old is not None:
            self._dropped.append(old)

    def _record(self, name: Reference) -> Path:
        quoted = urllib.parse.quote(str(name), safe="")
        if len(quoted) > _MAX_FILE_NAME:
            quoted = f"{quoted[:100]}~{hashlib.sha256(quoted.encode()).hexdigest()}"
        return self._records / f"{quoted}.json"

    def _read(self, file: Path) -> Image | None:
        try:
            return Image.from_json(json.loads(file.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, SandboxError) as error:
            name = urllib.parse.unquote(file.stem)
            raise ImageError(
                f"the record of image `{name}` is damaged: {error}", hint=f"delete {file}"
            ) from error

    def _all(self) -> Iterator[Image]:
        for file in self._files():
            with contextlib.suppress(ImageError):
                image = self._read(file)
                if image is not None:
                    yield image

    def _files(self) -> Sequence[Path]:
        return sorted(self._records.glob("*.json"))

    def _damaged(self) -> bool:
        """Whether there is a record that cannot be read."""
        try:
            for file in self._files():
                self._read(file)
        except ImageError:
            return True
        return False

    def _write(self, image: Image) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        with scratch(self.scratch_folder) as place:
            with place.file.open("x") as file:
                json.dump(image.to_json(), file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            place.file.rename(self._record(image.reference))
        sync_folder(self._records)

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        with disk_faults(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody is at work; while inside, nobody begins."""
        with disk_faults(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.root / "work.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                alone = False
            yield alone
        finally:
            os.close(fd)
