"""Contents of files, one behind the other in a file, each from a block's edge on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from sandlot.errors import ImageError
from sandlot.image.ondisk import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHUNK = 1 << 20  # bytes that are copied at once
_PIECES = 512  # buffers that one call writes; Linux takes 1024


class Reader(Protocol):
    """Where contents come from: `read(n)` gives up to n bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


class ContentsWriter:
    """Fills the file that `fd` is, which must be empty and seekable; at most `limit` bytes.

    contents = ContentsWriter(fd, limit=1 << 30)
    block = contents.store(io.BytesIO(b"hello"), 5)
    contents.close()
    """

    def __init__(self, fd: int, *, limit: int) -> None:
        self._fd = fd
        self._limit = limit // BLOCK
        self.blocks = 0
        self._pending: list[bytes | memoryview] = []
        self._pending_size = 0
        self._at = 0  # where the pending bytes go

    def store(
        self, content: Reader, size: int, extents: Sequence[tuple[int, int]] | None = None
    ) -> int:
        """Keep the contents of a file of `size` bytes; returns the block that they begin at.

        For a sparse file, `extents` tells (offset, length) of the pieces that `content` gives in
        a row; the rest are holes. Raises ImageError when contents end early, or when they are
        more than the limit.
        """
        if size <= 0:
            return 0
        first = self.blocks
        self.blocks += -(-size // BLOCK)
        if self.blocks > self._limit:
            raise ImageError(
                f"the files of a layer have more than {self._limit * BLOCK} bytes (MAX_CONTENTS)"
            )
        base = first * BLOCK
        for offset, length in self._checked(((0, size),) if extents is None else extents, size):
            self._move(base + offset)
            while length:
                data = content.read(min(length, CHUNK))
                if not data:
                    raise ImageError("a file's contents end too early")
                self._write(data)
                length -= len(data)
        return first

    def close(self) -> int:
        """Write what is pending and give the file its length; returns it in bytes."""
        self._flush()
        os.ftruncate(self._fd, self.blocks * BLOCK)
        return self.blocks * BLOCK

    @staticmethod
    def _checked(extents: Iterable[tuple[int, int]], size: int) -> Iterable[tuple[int, int]]:
        end = 0
        for offset, length in extents:
            if offset < end or length < 0 or offset + length > size:
                raise ImageError("a sparse file's map is damaged")
            end = offset + length
            yield offset, length

    def _move(self, position: int) -> None:
        """Go on at `position`. A small gap is filled, a larger one becomes a hole."""
        gap = position - self._at - self._pending_size
        if 0 < gap < BLOCK:
            self._append(bytes(gap))
        elif gap:
            self._flush()
            self._at = position

    def _write(self, data: bytes) -> None:
        # Zeros cost nothing: what is never written reads as zeros.
        if len(data) >= 16 * BLOCK and not data.strip(b"\0"):
            self._flush()
            self._at += len(data)
        else:
            self._append(data)

    def _append(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= CHUNK or len(self._pending) >= _PIECES:
            self._flush()

    def _flush(self) -> None:
        pieces = self._pending
        while pieces:
            done = os.pwritev(self._fd, pieces, self._at)
            self._at += done
            self._pending_size -= done
            index = 0
            while index < len(pieces) and done >= len(pieces[index]):
                done -= len(pieces[index])
                index += 1
            pieces = pieces[index:]
            if pieces:
                pieces[0] = memoryview(pieces[0])[done:]
        self._pending = []
        self._pending_size = 0
