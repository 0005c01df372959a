"""Files of lines that are rotated while they are read: the newest in `NAME`, older ones in `NAME.1`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def older(path: Path) -> Path:
    """Where the lines go that were written before."""
    return path.with_name(f"{path.name}.1")


def read_lines(path: Path) -> Iterator[bytes]:
    """What is there, the oldest first; a line that is not finished is left out."""
    for line in _lines(path, follow=False):
        assert line is not None
        yield line


def follow_lines(path: Path) -> Iterator[bytes | None]:
    """As `read_lines`, then what comes; None each time when there is nothing new yet."""
    return _lines(path, follow=True)


def _lines(path: Path, *, follow: bool) -> Iterator[bytes | None]:
    with contextlib.suppress(FileNotFoundError), older(path).open("rb") as old:
        yield from old.read().split(b"\n")[:-1]
    file: BinaryIO | None = None
    rest = b""
    try:
        while True:
            if file is None:
                with contextlib.suppress(FileNotFoundError):
                    file = path.open("rb")
            if file is not None:
                *lines, rest = (rest + file.read()).split(b"\n")
                yield from lines
            if not follow:
                return
            yield None
            if file is not None and _rotated(path, file):
                *lines, rest = (rest + file.read()).split(b"\n")
                yield from lines
                file.close()
                file, rest = None, b""
    finally:
        if file is not None:
            file.close()


def _rotated(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return True
