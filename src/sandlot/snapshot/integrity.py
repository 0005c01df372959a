"""Whether files are still what was written down: digests, and marks that are cheap to look at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_sparse(path: Path) -> str:
    """The digest of a sparse file's data and where it lies; holes are skipped."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        while position < size:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for at in range(start, end, 1 << 20):
                piece = os.pread(file.fileno(), min(1 << 20, end - at), at)
                if piece.strip(b"\0"):
                    found.update(at.to_bytes(8, "big"))
                    found.update(piece)
            position = end
    return found.hexdigest()


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
