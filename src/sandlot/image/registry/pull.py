"""Pulling an image: manifest, configuration, layers in parallel, then the image itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sandlot.errors import HostError, ImageError, ResourceError
from sandlot.image.digest import is_digest
from sandlot.image.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    OciConfig,
    Platform,
    check_fit,
    parse_config,
    parse_manifest,
)
from sandlot.image.reference import Reference
from sandlot.image.registry.certificates import certificate_folders, make_context
from sandlot.image.registry.client import Fetched, RepositoryClient, Retry
from sandlot.image.registry.credentials import AuthFiles
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.registries import Registries
from sandlot.image.registry.transport import Transport
from sandlot.image.tally import Tally
from sandlot.state.lock import locked

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

Progress = Callable[[str, float | None], object]
T = TypeVar("T")

PARALLEL = 3
MAX_NESTED = 3
SPARE_DISK = 64 << 20


async def pull_image(
    store: ImageStore, name: str, *, platform: str | None = None, insecure: Sequence[str] = (),
    progress: Progress | None = None, retry: Retry | None = None,
) -> Image:  # fmt: skip
    """See `ImageStore.pull`. `retry` is how patient to be with a registry that fails."""
    reference = Reference.parse(name)
    wanted = Platform.parse(platform) if platform else None
    registries = Registries.read(os.environ, insecure)
    keychain = Keychain(AuthFiles.read(os.environ))

    def context(host: str) -> ssl.SSLContext:
        return make_context(registries.authorities(host), certificate_folders(os.environ, host))

    async with Transport(context) as transport:
        client = RepositoryClient(
            transport, registries, keychain, reference.registry, reference.repository,
            retry=retry,
        )  # fmt: skip
        return await _Pull(store, client, reference, wanted, progress).run()


class _Pull:
    """One image on its way into the store."""

    def __init__(
        self, store: ImageStore, client: RepositoryClient, reference: Reference,
        platform: Platform | None, progress: Progress | None,
    ) -> None:  # fmt: skip
        self._store = store
        self._client = client
        self._reference = reference
        self._name = reference.familiar
        self._platform = platform
        self._progress = progress or (lambda stage, fraction: None)

    async def run(self) -> Image:
        """Fetch what is missing, then make the image. What was fetched stays for another try."""
        if any((self._store.root / "blobs/partial").glob("*")):
            await asyncio.to_thread(self._store.clean)  # what nobody has gone on with for a day
        with self._store.working(keep=True):
            return await self._run()

    async def _run(self) -> Image:
        self._progress(f"pulling {self._name}", None)
        top, manifest = await self._manifest()
        # Two programs that pull the same image share the work: the second one finds it done.
        lock = _lock_path(self._store.root, manifest.digest)
        async with locked(lock):
            try:
                found = await asyncio.to_thread(self._store.find_key, manifest.digest)
                if found is not None:
                    await self._config(manifest)
                    return await asyncio.to_thread(self._store.alias, found, self._name, digest=top)
                config = await self._config(manifest)
                await self._layers(manifest.layers, config.diff_ids)
                return await self._make(top, manifest)
            finally:
                lock.unlink(missing_ok=True)

    async def _manifest(self) -> tuple[str, Manifest]:
        """The digest that the name stands for, and the manifest for the platform."""
        wanted = self._reference.digest
        if not wanted and self._known():
            # Registries do not count this question as a pull.
            wanted = await self._client.head(self._reference.tag) or ""
        wanted, top = wanted or self._reference.tag, ""
        for _ in range(MAX_NESTED):
            fetched = await self._fetch(wanted)
            top = top or fetched.digest
            parsed = parse_manifest(fetched.data, fetched.media_type, name=self._name)
            if not isinstance(parsed, Index):
                return top, parsed
            wanted = parsed.choose(self._platform or Platform.host(), self._name).digest
        raise ImageError(f"{self._name} is an index of indexes of indexes")

    async def _fetch(self, wanted: str) -> Fetched:
        """A manifest, from here when it is here."""
        blobs = self._store.blobs
        if is_digest(wanted) and blobs.exists(wanted):
            with contextlib.suppress(ImageError):  # when it is damaged, it is fetched again
                data = await asyncio.to_thread(blobs.read, wanted, MAX_MANIFEST)
                return Fetched(data, "", wanted)
        fetched = await self._client.manifest(wanted)
        await asyncio.to_thread(blobs.put, fetched.data)
        return fetched

    def _known(self) -> bool:
        try:
            self._store.get(self._name)
        except ImageError:
            return False
        return True

    async def _config(self, manifest: Manifest) -> OciConfig:
        """The configuration; whether the image fits is known before its layers are fetched."""
        if manifest.config.size > MAX_CONFIG:
            raise ImageError(f"the configuration of {self._name} is larger than {MAX_CONFIG} bytes")
        await self._client.blob(self._store.blobs, manifest.config)
        data = await asyncio.to_thread(self._store.blobs.read, manifest.config.digest, MAX_CONFIG)
        config = parse_config(data, name=self._name)
        check_fit(manifest, config, self._platform, self._name)
        return config

    async def _layers(self, layers: Sequence[Descriptor], diff_ids: Sequence[str]) -> None:
        """Every layer that is not here, a few at a time; each is unpacked once it has come."""
        blobs = self._store.blobs
        names = {layer.digest: diff_id for layer, diff_id in zip(layers, diff_ids, strict=True)}
        missing = {
            layer.digest: layer for layer in layers if not blobs.exists(layer.digest, layer.size)
        }
        if not missing:
            return
        total = sum(layer.size for layer in missing.values())
        self._check_room(total)
        count = f"{len(missing)} layer{'s' if len(missing) > 1 else ''}"
        stage = f"pulling {self._name}: {count}, {_megabytes(total)}"
        self._progress(stage, 0.0)
        counter = threading.Lock()
        done = 0

        def moved(number: int) -> None:
            nonlocal done
            with counter:
                done += number
                self._progress(stage, done / total if total else 1.0)

        fetching = asyncio.Semaphore(PARALLEL)
        unpacking = asyncio.Semaphore(os.cpu_count() or 1)
        tally = Tally()

        async def one(layer: Descriptor) -> None:
            async with fetching:
                await self._client.blob(blobs, layer, moved)
            async with unpacking:
                await _in_thread(self._store.unpack, tally, names[layer.digest], layer.digest)

        try:
            async with asyncio.TaskGroup() as group:
                # Large ones first: the last to end is then a small one.
                for layer in sorted(missing.values(), key=lambda each: -each.size):
                    group.create_task(one(layer))
        except BaseExceptionGroup as errors:
            # The others were cancelled because of the first.
            if isinstance(errors.exceptions[0], ResourceError):
                await asyncio.to_thread(self._give_room, missing.values())
            raise errors.exceptions[0] from None

    def _give_room(self, layers: Iterable[Descriptor]) -> None:
        """On a full disk nothing is kept for another try."""
        for layer in layers:
            with contextlib.suppress(ImageError, HostError):
                self._store.blobs.partial(layer.digest, layer.size, wait=False).discard()

    def _check_room(self, total: int) -> None:
        free = shutil.disk_usage(self._store.root).free
        if total + SPARE_DISK > free:
            raise ResourceError(
                f"not enough disk for {self._name}: it needs {_megabytes(total)} and more, "
                f"{_megabytes(free)} are free in {self._store.root}",
                hint="free some space, for example with `sandlot image rm`",
            )

    async def _make(self, top: str, manifest: Manifest) -> Image:
        """The image, of layers of which most are unpacked."""
        stop = threading.Event()

        def tell(stage: str, fraction: float | None) -> None:
            if stop.is_set():
                raise ImageError(f"pulling {self._name} was given up")
            self._progress(stage, fraction)

        def add() -> Image:
            return self._store.add_oci(
                self._reference, manifest.digest, digest=top, platform=self._platform,
                source=str(self._reference), progress=tell,
            )  # fmt: skip

        work = asyncio.ensure_future(asyncio.to_thread(add))
        return await _ended(work, stop.set)


async def _in_thread(
    unpack: Callable[[str, str, Tally], None], tally: Tally, diff_id: str, blob: str
) -> None:
    """Unpack a layer. One that is cancelled ends all that share the tally."""
    work = asyncio.ensure_future(asyncio.to_thread(unpack, diff_id, blob, tally))

    def stop() -> None:
        tally.stopped = True

    await _ended(work, stop)


async def _ended(work: asyncio.Future[T], stop: Callable[[], object]) -> T:
    """The result of a thread; being cancelled stops it and waits for its end."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()
        raise


def _lock_path(root: Path, digest: str) -> Path:
    folder = root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"pull-{digest.removeprefix('sha256:')}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1_000_000 else f"{max(size, 0) / 1e3:.0f} kB"
