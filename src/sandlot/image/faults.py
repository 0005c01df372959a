"""What the disk refuses, in words: one place for all that the image store writes."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from sandlot.errors import ResourceError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def disk_faults(root: Path) -> Iterator[None]:
    """Turn an OSError of the block into ResourceError (no room) or StateError (the rest)."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceError(
                f"no room for the image under {root}: {error.strerror}",
                hint="free some space, for example with `sandlot image rm`",
            ) from error
        raise StateError(f"the image store {root} cannot be used: {error}") from error


def sync_folder(folder: Path) -> None:
    """A rename is only on the disk when its folder is."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def space(path: Path) -> int:
    """The bytes that a file takes on the disk; 0 when it is gone."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def unlink(path: Path) -> int:
    """Remove a file, if it is there; returns the bytes that it took on the disk."""
    try:
        size = space(path)
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
