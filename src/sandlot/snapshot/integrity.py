"""Whether files are still what was written down: digests, and marks that are cheap to look at."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PIECE = 1 << 16
"""Bytes of a piece of a sparse file."""
ZEROS = bytes(PIECE)
_READ = 1 << 20


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SparseDigest:
    """The digest of a file's contents and where they lie, told piece by piece in order. Pieces of
    zeros are left out, so that it does not matter where the file has holes."""

    def __init__(self) -> None:
        self._found = hashlib.sha256()

    def add(self, at: int, piece: bytes) -> None:
        """A piece as `sparse_pieces` gives them."""
        self._found.update(at.to_bytes(8, "big"))
        self._found.update(piece)

    def hexdigest(self, size: int) -> str:
        """Of a file of `size` bytes."""
        self._found.update(size.to_bytes(8, "big"))
        return self._found.hexdigest()


def sparse_pieces(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """What is in an open file besides zeros: (offset, bytes) in order. Offsets are multiples of
    PIECE, and so are lengths, but the last one's at the end of the file."""
    size, position = os.fstat(descriptor).st_size, 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % PIECE
        position = min(end + -end % PIECE, size)
        for at in range(start, position, _READ):
            data = os.pread(descriptor, min(_READ, position - at), at)
            for offset in range(0, len(data), PIECE):
                piece = data[offset : offset + PIECE]
                if piece != ZEROS[: len(piece)]:
                    yield at + offset, piece


def digest_sparse(path: Path) -> str:
    """The digest of a sparse file, wherever its holes are."""
    found = SparseDigest()
    with path.open("rb", buffering=0) as file:
        for at, piece in sparse_pieces(file.fileno()):
            found.add(at, piece)
        return found.hexdigest(os.fstat(file.fileno()).st_size)


def marks(paths: Iterable[Path]) -> list[int]:
    """Size and time of change of each file: they tell a change without reading the file."""
    found: list[int] = []
    for path in paths:
        status = path.stat()
        found += (status.st_size, status.st_mtime_ns)
    return found


def write_out(paths: Iterable[Path]) -> None:
    """Have the files on the disk, not only in the host's memory."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
