"""Copies and links of sparse files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

_FICLONERANGE = 0x4020940D  # linux/fs.h


def copy_sparse(source: Path, target: Path, at: int = 0) -> None:
    """Copy a file and its holes; instantly where the file system can share blocks.

    The copy begins at the offset `at` (bytes, whole blocks) of the target, behind a hole.
    """
    with source.open("rb", buffering=0) as old, target.open("wb", buffering=0) as new:
        with contextlib.suppress(OSError):
            if at:
                new.truncate(at)
            # A length of 0 is all of it.
            fcntl.ioctl(new.fileno(), _FICLONERANGE, struct.pack("qQQQ", old.fileno(), 0, 0, at))
            return
        size, position = os.fstat(old.fileno()).st_size, 0
        new.truncate(at + size)
        while position < size:
            try:
                start = os.lseek(old.fileno(), position, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            os.lseek(old.fileno(), start, os.SEEK_SET)
            os.lseek(new.fileno(), at + start, os.SEEK_SET)
            left = end - start
            while left:
                copied = os.sendfile(new.fileno(), old.fileno(), None, left)
                if not copied:
                    break
                left -= copied
            position = end


def link_or_copy(source: Path, target: Path) -> None:
    """Another name for a file, or a copy where the file system has no hard links.

    Raises:
        FileNotFoundError: the source is gone.
        FileExistsError: the target is there.
    """
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        copy_sparse(source, target)
