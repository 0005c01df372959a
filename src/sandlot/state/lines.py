"""Files of lines that are rotated while they are read: the newest in `NAME`, older ones in `NAME.1`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias


def older(path: Path) -> Path:
    """Where the lines go that were written before."""
    return path.with_name(f"{path.name}.1")


Still: TypeAlias = Callable[[], bool] | None
"""Whether what is at a path is still meant: its folder may have become another one's."""


def read_lines(path: Path, still: Still = None) -> Iterator[bytes]:
    """What is there, the oldest first; a line that is not finished is left out."""
    for line in _lines(path, still, follow=False):
        assert line is not None
        yield line


def follow_lines(path: Path, still: Still = None) -> Iterator[bytes | None]:
    """As `read_lines`, then what comes; None each time when there is nothing new yet."""
    return _lines(path, still, follow=True)


def _lines(path: Path, still: Still, *, follow: bool) -> Iterator[bytes | None]:
    # Line by line: who reads slowly, or never, is not to hold all of it.
    file, old = _opened(path, still), _opened(older(path), still)
    try:
        if old is not None:
            if file is None or not os.path.sameopenfile(old.fileno(), file.fileno()):
                yield from (line[:-1] for line in old if line.endswith(b"\n"))
            old.close()
        rest = b""
        while True:
            file = file or _opened(path, still)
            for line in file or ():
                rest += line
                if rest.endswith(b"\n"):
                    yield rest[:-1]
                    rest = b""
            if not follow:
                return
            yield None
            if file is not None and _rotated(path, file):
                for line in file:
                    rest += line
                    if rest.endswith(b"\n"):
                        yield rest[:-1]
                        rest = b""
                file.close()
                file, rest = None, b""
    finally:
        for each in (file, old):
            if each is not None:
                each.close()


def _opened(path: Path, still: Still) -> BinaryIO | None:
    with contextlib.suppress(FileNotFoundError):
        file = path.open("rb")
        if still is None or still():  # asked afterwards: what is open stays what it is
            return file
        file.close()
    return None


def _rotated(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return True
