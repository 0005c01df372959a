"""Content-addressed files: what a registry or an archive brings, byte for byte.

    <root>/blobs/sha256/<hex>     whole and verified; read-only
    <root>/blobs/partial/<hex>    begun and not finished; can be resumed

A blob is written elsewhere and renamed into its place, so whoever sees one sees it whole. Who
writes a partial file holds a flock on it; two programs that fetch the same blob see each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import time
from typing import TYPE_CHECKING, BinaryIO

from sandlot.errors import ImageError
from sandlot.image.digest import check_digest, digest_of
from sandlot.image.faults import disk_faults, sync_folder, unlink
from sandlot.image.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sandlot.image.contents import Reader

CHUNK = 1 << 20  # bytes that are copied at once
KEPT_FOR = 24 * 3600.0  # seconds that an unfinished download waits to be resumed


class BlobStore:
    """The blobs under `root`, which is an image store's folder. Safe between processes.

    blobs = BlobStore(root)
    digest = blobs.put(manifest)
    with blobs.partial(layer.digest, layer.size) as part:
        for data in download(layer.digest, since=part.offset):
            part.write(data)
        part.commit()
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._partial = root / "blobs" / "partial"
        self._brought: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self._blobs / check_digest(digest)[7:]

    def exists(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here; one of another size (bytes) than `size` is not."""
        try:
            return size in (None, self.path(digest).stat().st_size)
        except FileNotFoundError:
            return False

    def size(self, digest: str) -> int:
        """Bytes. Raises ImageError when the blob is missing."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise self._missing(digest) from None

    def open(self, digest: str) -> BinaryIO:
        """The blob, to be read. Raises ImageError when it is missing."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise self._missing(digest) from None

    def read(self, digest: str, limit: int) -> bytes:
        """A small blob's bytes, verified. Raises ImageError when it is missing, damaged or
        larger than `limit` bytes."""
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise ImageError(f"{digest} is larger than {limit} bytes")
        if digest_of(data) != digest:
            self.remove(digest)
            raise ImageError(f"blob {digest} is damaged", hint="fetch the image again")
        return data

    def put(self, data: bytes) -> str:
        """Keep some bytes; returns their digest."""
        digest = digest_of(data)
        if not self.exists(digest, len(data)):
            with self.writer() as out:
                out.write(data)
                out.commit(digest)
        return digest

    def put_stream(
        self, stream: Reader, digest: str | None = None, size: int | None = None
    ) -> str:  # fmt: skip
        """Keep all of a stream; returns its digest.

        Raises ImageError, and keeps nothing, when it has not the digest or the size (bytes) that
        were promised.
        """
        with self.writer() as out:
            while data := stream.read(CHUNK):
                out.write(data)
                if size is not None and out.offset > size:
                    break
            if size is not None and out.offset != size:
                more = "more" if out.offset > size else "less"
                raise ImageError(f"blob {digest or ''} has {more} than the {size} bytes promised")
            return out.commit(digest)

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Write a blob whose digest may not be known yet; what is not committed is gone."""
        with contextlib.ExitStack() as stack:
            with disk_faults(self.root):
                place = stack.enter_context(scratch(self.root / "tmp"))
                file = stack.enter_context(place.file.open("x+b", buffering=0))
            yield BlobWriter(self, place.file, file)

    def partial(self, digest: str, size: int | None = None, *, wait: bool = True) -> Partial:
        """Begin a blob or go on with it, in a `with` block.

        `size` is in bytes, where it is known. When another program has it in hands, wait for it;
        without `wait`, raise `BlobBusy`. Whoever waited should look whether the blob `exists` now.
        """
        with disk_faults(self.root):
            self._partial.mkdir(parents=True, exist_ok=True)
            path = self._partial / check_digest(digest)[7:]
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                    if _is_at(fd, path):
                        return Partial(self, digest, size, path, os.fdopen(fd, "r+b"))
                except BlockingIOError:
                    os.close(fd)
                    raise BlobBusy(digest) from None
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)

    def remove(self, digest: str) -> None:
        """Forget a blob. Missing is fine."""
        with disk_faults(self.root):
            self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """All whole blobs."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._blobs.iterdir()):
                if len(path.name) == 64:
                    yield f"sha256:{path.name}"

    def clean(self, used: set[str], *, older: float = KEPT_FOR) -> int:
        """Remove blobs that are not in `used` and unfinished ones; returns bytes.

        Spared is what was touched in the last `older` seconds and what somebody writes now. The
        caller sees to it that nobody relies on an unused blob meanwhile.
        """
        with disk_faults(self.root):
            return sum(unlink(path) for path in self.unused(used, older=older))

    def unused(self, used: set[str], *, older: float) -> Iterator[Path]:
        """What `clean` removes; nobody writes an unfinished one before the next is asked for."""
        limit = time.time() - older
        for digest in self.digests():
            if digest not in used and _older(self.path(digest), limit):
                yield self.path(digest)
        for path in self._partial.iterdir() if self._partial.exists() else ():
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _older(path, limit):
                    yield path

    def forget(self, used: set[str]) -> int:
        """Remove the blobs that this object has brought and that are not in `used`; returns
        bytes."""
        brought, self._brought = self._brought - used, set()
        return sum(unlink(self.path(digest)) for digest in brought)

    def _adopt(self, path: Path, file: BinaryIO | io.FileIO, digest: str) -> None:
        """A finished file becomes the blob."""
        file.flush()
        os.fsync(file.fileno())
        self._blobs.mkdir(parents=True, exist_ok=True)
        path.rename(self.path(digest))
        # Not before: who waits for the unfinished file must be able to open it, root or not.
        os.fchmod(file.fileno(), 0o444)
        sync_folder(self._blobs)
        self._brought.add(digest)

    @staticmethod
    def _missing(digest: str) -> ImageError:
        return ImageError(
            f"blob {digest} is not in the image store", hint="fetch or load the image again"
        )


class BlobBusy(ImageError):
    """Another program fetches this blob at this moment."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"another program fetches {digest}", hint="try again in a moment")


class BlobWriter:
    """A blob that is being written. Made by `BlobStore.writer`."""

    def __init__(self, store: BlobStore, path: Path, file: io.FileIO) -> None:
        self._store = store
        self._path = path
        self._file = file
        self._hash = hashlib.sha256()
        self.offset = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes. Raises ResourceError when the disk is full."""
        self._hash.update(data)
        with disk_faults(self._store.root):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        self.offset += len(data)
        return len(data)

    def commit(self, digest: str | None = None) -> str:
        """Make it a blob and return its digest. Raises ImageError when it is another one."""
        found = f"sha256:{self._hash.hexdigest()}"
        if digest not in (None, found):
            raise _mismatch(str(digest), found)
        with disk_faults(self._store.root):
            self._store._adopt(self._path, self._file, found)
        return found


class Partial:
    """An unfinished blob in the hands of this program. Made by `BlobStore.partial`.

    Left without `commit`, its file stays, so that the next one can go on at `offset`; an empty
    one is removed.
    """

    def __init__(
        self, store: BlobStore, digest: str, size: int | None, path: Path, file: BinaryIO
    ) -> None:
        self._store = store
        self._path = path
        self._file = file
        self.digest = digest
        self.size = size
        self._hash = hashlib.sha256()
        self.offset = 0  # bytes that are there already
        while data := file.read(CHUNK):
            self._hash.update(data)
            self.offset += len(data)
        if size is not None and self.offset > size:
            self.restart()

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes. Raises ImageError, and forgets all, when they are more than promised;
        ResourceError when the disk is full."""
        if self.size is not None and self.offset + len(data) > self.size:
            self.discard()
            raise ImageError(f"blob {self.digest} has more than the {self.size} bytes promised")
        with disk_faults(self._store.root):
            self._file.write(data)
        self._hash.update(data)
        self.offset += len(data)
        return len(data)

    def restart(self) -> None:
        """Begin from nothing, as when a server cannot send the rest alone."""
        with disk_faults(self._store.root):
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.offset = 0

    def commit(self) -> None:
        """Make it a blob. Raises ImageError, and forgets all, when it is not what was promised."""
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self.digest:
            self.discard()
            raise _mismatch(self.digest, found)
        with disk_faults(self._store.root):
            self._store._adopt(self._path, self._file, self.digest)
        self.close()

    def discard(self) -> None:
        """Remove what was written."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let others have it. Closing twice is allowed."""
        if self._file.closed:
            return
        try:
            with disk_faults(self._store.root):
                self._file.flush()
        finally:
            if not self.offset:
                self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a full disk was told by `write` or above
                self._file.close()


def _mismatch(expected: str, found: str) -> ImageError:
    return ImageError(
        f"blob {expected} is damaged: its contents have the digest {found}",
        hint="fetch it again; when that does not help, its source is damaged",
    )


def _is_at(fd: int, path: Path) -> bool:
    """Whether `path` is still the open file: it may have been renamed or removed."""
    with contextlib.suppress(FileNotFoundError):
        there, here = path.stat(), os.fstat(fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    return False


def _older(path: Path, limit: float) -> bool:
    """Whether a file is there and was last changed before `limit`."""
    try:
        return path.stat().st_mtime <= limit
    except FileNotFoundError:
        return False
