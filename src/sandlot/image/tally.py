"""Counting what several threads read, and ending them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandlot.errors import ImageError

if TYPE_CHECKING:
    from sandlot.image.contents import Reader


class Tally:
    """`count` is in bytes; once `stopped` is set, whoever reads on gets ImageError."""

    def __init__(self) -> None:
        self.count = 0
        self.stopped = False

    def counted(self, stream: Reader) -> Reader:
        """The same stream, counted."""
        return _Counted(stream, self)


class _Counted:
    def __init__(self, stream: Reader, tally: Tally) -> None:
        self._stream = stream
        self._tally = tally

    def read(self, size: int, /) -> bytes:
        if self._tally.stopped:
            raise ImageError("the work was given up")
        data = self._stream.read(size)
        self._tally.count += len(data)  # a lost update is only seen on a progress bar
        return data
