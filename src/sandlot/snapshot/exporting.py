"""Writing a snapshot into one file: an OCI image layout in a tar archive."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import tarfile
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from sandlot.errors import SnapshotDamaged, SnapshotNotFound
from sandlot.image.compression import ZSTD
from sandlot.image.digest import digest_of
from sandlot.snapshot.integrity import SparseDigest, sparse_pieces
from sandlot.snapshot.layout import LAYOUT, Documents, Part, blob_name, make_documents
from sandlot.snapshot.sparse import end, head, piece_head

LEVELS = range(1, 20)
_RECORD = 512
Tell = Callable[[str, float | None], object]


class ArchiveWriter:
    """Writes one archive into an empty file that can be sought in.

    The manifest comes first, so that who imports knows what comes; its place is left free until
    the files were written. `check` is called now and then, and ends the work by raising.
    """

    def __init__(
        self, file: BinaryIO, name: str, config: bytes, *, level: int, tell: Tell,
        check: Callable[[], None],
    ) -> None:  # fmt: skip
        self._file = file
        self._name = name
        self._config = config
        self._level = level
        self._tell = tell
        self._check = check
        self._done = 0
        self._total = 1
        self._written: set[str] = set()

    def write(self, folder: int, paths: Sequence[str], digests: dict[str, str]) -> None:
        """Write these files of an open folder; `digests` are those that are known of them.

        Raises:
            SnapshotDamaged: a file is not what it was.
            SnapshotNotFound: they are being removed.
        """
        import json

        blank = [Part(path, 0, 0, "0" * 64, "sha256:" + "0" * 64, 0) for path in paths]
        self._total = max(1, sum(_taken(folder, path) for path in paths))
        self._member("oci-layout", json.dumps(LAYOUT).encode())
        room = self._file.tell()
        self._documents(make_documents(self._name, self._config, blank))
        self._member(blob_name(digest_of(self._config)), self._config)
        parts = [self._part(folder, path, digests.get(path, "")) for path in paths]
        self._file.write(bytes(2 * _RECORD))
        self._file.seek(room)
        self._documents(make_documents(self._name, self._config, parts))
        self._file.seek(0, os.SEEK_END)
        self._file.flush()

    def _documents(self, documents: Documents) -> None:
        self._member("index.json", documents.index)
        self._member(documents.manifest_name, documents.manifest)

    def _member(self, name: str, data: bytes) -> None:
        self._file.write(_header(name, len(data)))
        self._file.write(data + bytes(-len(data) % _RECORD))

    def _part(self, folder: int, path: str, known: str) -> Part:
        began = self._file.tell()
        self._file.write(bytes(_RECORD))
        with _opened(folder, path) as descriptor:
            size = os.fstat(descriptor).st_size
            blob = _Blob(self._file, self._level)
            contents, data = SparseDigest(), 0
            blob.add(head(size))
            for at, piece in sparse_pieces(descriptor):
                self._check()
                blob.add(piece_head(at, len(piece)))
                blob.add(piece)
                contents.add(at, piece)
                data += len(piece)
                self._done += len(piece)
                self._tell("export", min(1.0, self._done / self._total))
            blob.add(end(size))
        blob.finish()
        found = contents.hexdigest(size)
        if known and found != known:
            raise SnapshotDamaged(
                f"snapshot {self._name!r} is damaged: {path}: it was changed or cut off",
                hint="nothing was exported; remove the snapshot, and make it again",
            )
        part = Part(path, size, data, found, blob.digest, blob.length)
        if part.blob in self._written:  # another file has the same contents
            self._file.seek(began)
            self._file.truncate()
            return part
        self._written.add(part.blob)
        self._file.write(bytes(-part.length % _RECORD))
        after = self._file.tell()
        self._file.seek(began)
        self._file.write(_header(blob_name(part.blob), part.length))
        self._file.seek(after)
        return part


class _Blob:
    """Compresses into the archive, and counts what comes out."""

    def __init__(self, file: BinaryIO, level: int) -> None:
        self._file = file
        self._packer: Any = importlib.import_module(ZSTD).ZstdCompressor(level=level)
        self._hash = hashlib.sha256()
        self.length = 0

    def add(self, data: bytes) -> None:
        self._put(self._packer.compress(data))

    def finish(self) -> None:
        self._put(self._packer.flush())

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._hash.update(data)
            self.length += len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member.tobuf(tarfile.GNU_FORMAT)


def _taken(folder: int, path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path, dir_fd=folder).st_blocks * 512
    return 0


@contextlib.contextmanager
def _opened(folder: int, path: str) -> Any:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise SnapshotNotFound("the snapshot was removed at this moment") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
