"""The file of a snapshot's own pages: those that differ from the memory it was restored from.

    "SLPAGES1", u32 4096, u32 number of runs, u64 bytes of memory
    for each run: u32 first page, u32 number of pages, the highest bit set when all are zeros
    padding to a whole page, then the pages of the other runs, in order

Numbers are little-endian. A run has at least one page, runs are in order and do not touch the end
of the memory, the file ends with the last page: anything else is refused.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.memory import PAGE, Run
from sandlot.errors import SnapshotDamaged

_HEADER = struct.Struct("<8sIIQ")
_RUN = struct.Struct("<II")
_MAGIC = b"SLPAGES1"
_ZERO = bytes(PAGE)
_ZEROS = 1 << 31
_MOST_PIECES = 1024  # IOV_MAX


@dataclass(frozen=True)
class Pages:
    """What a file holds: `runs` with contents, `zeros` without; `start` is where contents begin."""

    memory: int
    runs: list[Run]
    zeros: list[Run]
    start: int

    @property
    def size(self) -> int:
        """Bytes of contents."""
        return sum(count for _, count in self.runs) * PAGE


def write_pages(path: Path, source: mmap.mmap, runs: list[Run]) -> Pages:
    """Write these pages of `source`, which is as large as the memory, to a new file."""
    kept: list[Run] = []
    zeros: list[Run] = []
    order: list[tuple[int, int]] = []
    for first, count, empty in _split(source, runs):
        (zeros if empty else kept).append((first, count))
        order.append((first, count | (_ZEROS if empty else 0)))
    head = _HEADER.pack(_MAGIC, PAGE, len(order), len(source))
    head += b"".join(_RUN.pack(*each) for each in order)
    head += bytes(-len(head) % PAGE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, [memoryview(head)], 0)
        view = memoryview(source)
        try:
            pieces = [view[first * PAGE : (first + count) * PAGE] for first, count in kept]
            _write_all(descriptor, pieces, len(head))
            for piece in pieces:
                piece.release()
        finally:
            view.release()
    finally:
        os.close(descriptor)
    return Pages(len(source), kept, zeros, len(head))


def write_joined(path: Path, full: Path, below: list[Path], runs: list[Run]) -> Pages:
    """Write what the files `below` and these runs changed as one file, from the whole memory."""
    changed = bytearray(full.stat().st_size // PAGE)
    for each in below:
        pages = read_pages(each)
        runs = [*runs, *pages.runs, *pages.zeros]
    for first, count in runs:
        changed[first : first + count] = bytes([1]) * count
    with full.open("rb") as file:
        source = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    try:
        marked = re.finditer(rb"\x01+", changed)
        return write_pages(path, source, [(m.start(), m.end() - m.start()) for m in marked])
    finally:
        source.close()


def put_pages(descriptor: int, source: mmap.mmap, runs: list[Run]) -> None:
    """Write these pages of `source` to their places in an open file of memory."""
    view = memoryview(source)
    try:
        for first, count in runs:
            with view[first * PAGE : (first + count) * PAGE] as piece:
                _write_all(descriptor, [piece], first * PAGE)
    finally:
        view.release()


def read_pages(path: Path) -> Pages:
    """What is in a file of pages, without the contents.

    Raises:
        SnapshotDamaged: it is not one, or not whole.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                raise ValueError("it is cut off")
            magic, page, count, memory = _HEADER.unpack(head)
            if magic != _MAGIC or page != PAGE or memory % PAGE or not 0 < memory <= 1 << 43:
                raise ValueError("its beginning is wrong")
            if count > memory // PAGE:
                raise ValueError("it has too many runs")
            table = file.read(count * _RUN.size)
            return _parsed(table, count, memory, size)
    except (OSError, ValueError) as error:
        raise SnapshotDamaged(f"{path} is damaged: {error}") from error


def _parsed(table: bytes, count: int, memory: int, size: int) -> Pages:
    if len(table) != count * _RUN.size:
        raise ValueError("it is cut off")
    runs: list[Run] = []
    zeros: list[Run] = []
    last = 0
    for first, number in _RUN.iter_unpack(table):
        length = number & ~_ZEROS
        if first < last or not length or (first + length) * PAGE > memory:
            raise ValueError("its runs are wrong")
        last = first + length
        (zeros if number & _ZEROS else runs).append((first, length))
    start = _HEADER.size + len(table)
    start += -start % PAGE
    pages = Pages(memory, runs, zeros, start)
    if size != start + pages.size:
        raise ValueError(f"it has {size} bytes, not {start + pages.size}")
    return pages


def apply_pages(path: Path, target: int) -> None:
    """Put the pages of a file into a file of memory, open as `target`.

    Raises:
        SnapshotDamaged: it is not a file of pages, or not whole.
    """
    pages = read_pages(path)
    with path.open("rb", buffering=0) as source:
        at = pages.start
        for first, count in pages.runs:
            _carry(source.fileno(), at, target, first * PAGE, count * PAGE)
            at += count * PAGE
    for first, count in pages.zeros:
        for number in range(first, first + count):
            os.pwrite(target, _ZERO, number * PAGE)


def _carry(source: int, at: int, target: int, to: int, left: int) -> None:
    while left:
        data = os.pread(source, min(left, 1 << 20), at)
        if not data:
            raise SnapshotDamaged("a file of pages was cut off at this moment")
        _write_all(target, [memoryview(data)], to)
        at, to, left = at + len(data), to + len(data), left - len(data)


def _split(source: mmap.mmap, runs: list[Run]) -> Iterator[tuple[int, int, bool]]:
    """Runs in parts that are all zeros, or have none that is."""
    for first, count in runs:
        begin, empty = first, False
        for number in range(first, first + count):
            blank = source[number * PAGE : (number + 1) * PAGE] == _ZERO
            if number > begin and blank != empty:
                yield begin, number - begin, empty
                begin = number
            empty = blank
        yield begin, first + count - begin, empty


def _write_all(descriptor: int, pieces: list[memoryview], at: int) -> None:
    for begin in range(0, len(pieces), _MOST_PIECES):
        part = pieces[begin : begin + _MOST_PIECES]
        total = sum(len(piece) for piece in part)
        written = os.pwritev(descriptor, part, at)
        if written < total:  # 2 GiB in one call at most
            for piece in part:
                done = min(written, len(piece))
                written -= done
                while done < len(piece):
                    done += os.pwrite(descriptor, piece[done:], at + done)
                at += len(piece)
        else:
            at += total
