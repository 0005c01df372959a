"""A file of which only some chunks are on this machine yet: which they are. Bounded.

It is kept in two files: the list of its chunks (index.py), and a bit for each that is here. A bit is
written down when what it stands for is on the disk; one that is lost costs a chunk fetched again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandlot.errors import StateError
from sandlot.remote.index import Entry, make_list, parse_list


class Partial:
    """Which chunks of a file are here.

    Args:
        size: of the file, in bytes.
        entries: its chunks, in their order.
        here: a bit for each chunk, the lowest of the first byte first; none is here when empty.
    """

    def __init__(self, size: int, entries: list[Entry], here: bytes = b"") -> None:
        self.size = size
        self.entries = entries
        self._begins = [each.offset for each in entries]
        self._here = bytearray(here.ljust(-(-len(entries) // 8), b"\0"))
        self.left = len(entries) - sum(1 for n in range(len(entries)) if self.has(n))
        """How many chunks are not here."""

    def has(self, number: int) -> bool:
        """Whether this chunk is here."""
        return bool(self._here[number >> 3] >> (number & 7) & 1)

    def note(self, numbers: Iterable[int]) -> None:
        """Those are here now."""
        for number in numbers:
            if not self.has(number):
                self._here[number >> 3] |= 1 << (number & 7)
                self.left -= 1

    def touched(self, offset: int, length: int) -> range:
        """The chunks that lie in these bytes, here or not."""
        first = bisect_right(self._begins, offset) - 1
        if first < 0 or self.entries[first].offset + self.entries[first].length <= offset:
            first += 1
        return range(first, max(first, bisect_left(self._begins, offset + length)))

    def missing(self, numbers: Iterable[int] | None = None) -> Iterator[int]:
        """Those that are not here, of all or of some."""
        chosen = range(len(self.entries)) if numbers is None else numbers
        return (number for number in chosen if not self.has(number))

    def bits(self) -> bytes:
        """What is here, as it is given to a new one."""
        return bytes(self._here)


def keep_list(folder: Path, number: int, entries: Iterable[Entry]) -> None:
    """Write down the chunks of a file, once and for all."""
    (folder / f"{number}.list").write_bytes(make_list(entries))


def keep_bits(folder: Path, number: int, bits: bytes) -> None:
    """Write down which chunks of it are here."""
    new = folder / f".{number}.here"
    new.write_bytes(bits)
    new.replace(folder / f"{number}.here")


def kept(folder: Path, number: int, size: int) -> Partial:
    """What was written down of a file.

    Raises:
        StateError: it cannot be read.
    """
    try:
        entries = parse_list((folder / f"{number}.list").read_bytes(), size)
    except OSError as error:
        raise StateError(f"{folder / f'{number}.list'}: {error.strerror}") from error
    try:
        bits = (folder / f"{number}.here").read_bytes()
    except FileNotFoundError:
        bits = b""
    return Partial(size, entries, bits[: -(-len(entries) // 8)])
