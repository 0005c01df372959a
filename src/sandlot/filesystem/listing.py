"""Open folders: a listing that is taken piece by piece, at offsets that the guest may return to."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.fuse import replies
from sandlot.filesystem.types import DirEntry, Entry

REMEMBERED = 256
"""Entries that the guest may go back over: its kernel asks again for what a program's buffer had no
room for, which is less than a page of 4096 bytes."""
UNKNOWN_INO = 0xFFFFFFFF  # programs take 0 for a name that was removed
MOST_LISTED = 65536  # bytes of one answer

Source = Iterable[DirEntry] | AsyncIterable[DirEntry]


class Listing:
    """One reading of a folder. Offsets count entries; the first two are `.` and `..`."""

    def __init__(self, begin: Callable[[], Awaitable[Source]]) -> None:
        self._begin = begin
        self._source: Iterator[DirEntry] | AsyncIterator[DirEntry] | None = None
        self._kept: deque[DirEntry] = deque()
        self._first = 0  # the offset of the first that is kept
        self._ended = False
        self.offset = 0
        """Where the last answer ended."""

    async def _restart(self) -> None:
        source = await self._begin()
        self._source = aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        self._kept.clear()
        self._first, self._ended = 0, False

    async def _more(self) -> bool:
        """Take one more entry."""
        if self._ended or self._source is None:
            return False
        if isinstance(self._source, AsyncIterator):
            entry = await anext(self._source, None)
        else:
            entry = next(self._source, None)
        if entry is None:
            self._ended = True
            return False
        self._kept.append(entry)
        if len(self._kept) > REMEMBERED:
            self._kept.popleft()
            self._first += 1
        return True

    async def read(
        self, offset: int, size: int, here: int, tell: Callable[[DirEntry], Awaitable[Entry | None]]
        | None, number: Callable[[Entry], int],
    ) -> bytes:  # fmt: skip
        """Entries from an offset on, as many as fit.

        Args:
            here: the number of the folder itself.
            tell: makes the entry of a name, for READDIRPLUS; None for READDIR.
            number: counts an entry as told to the guest.
        """
        if size > MOST_LISTED:
            raise GuestProtocolError(f"a FUSE request lists {size} bytes at once")
        self.offset = offset
        out = bytearray()
        room = size - (replies.ENTRY_SIZE if tell is not None else 0)
        nothing = bytes(replies.ENTRY_SIZE) if tell is not None else b""
        rewound = offset == 0
        for at, dots in ((0, b"."), (1, b"..")):
            if offset == at:
                piece = replies.padded_dirent(dots, here, 4, at + 1)
                if len(out) + len(piece) > room:
                    return bytes(out)
                out += nothing + piece
                self.offset = offset = at + 1
        wanted = offset - 2
        if self._source is None or wanted < self._first or rewound:
            await self._restart()
        while self._first + len(self._kept) < wanted:
            if not await self._more():
                return bytes(out)
        while True:
            index = wanted - self._first
            if index >= len(self._kept) and not await self._more():
                break
            entry = self._kept[wanted - self._first]
            wanted += 1
            if not fits(entry.name):
                continue
            if len(out) + replies.dirent_size(entry.name) > room:
                break
            told = await tell(entry) if tell is not None else None
            if told is not None:
                out += replies.entry_body(number(told), told)
            else:
                out += nothing
            ino = entry.ino or (told.attr.ino if told is not None else UNKNOWN_INO)
            self.offset = wanted + 2
            out += replies.dirent(entry, ino, self.offset)
        return bytes(out)


def fits(name: str) -> bool:
    """Whether something can have this name in a folder of the guest."""
    return (
        0 < len(os.fsencode(name)) <= 255
        and "/" not in name
        and "\0" not in name
        and name not in (".", "..")
    )
