"""Bodies of HTTP/1.1: where they end. What passes is not copied but sliced."""

from __future__ import annotations

import re
from typing import Protocol

from sandlot.network.http.head import HeadBuffer, Malformed, parse_fields
from sandlot.secrets.substitution import Fields

MAX_CHUNK_LINE = 256
MAX_TRAILERS = 8 * 1024
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
FORBIDDEN_TRAILERS = frozenset(
    {
        b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade", b"te",
        b"trailer", b"authorization", b"cookie", b"content-encoding", b"content-type",
        b"content-range", b"expect", b"range", b"content_length", b"transfer_encoding",
    }
)  # fmt: skip


class Reader(Protocol):
    """Takes a body out of a stream of bytes."""

    done: bool
    trailers: Fields

    def read(self, data: memoryview) -> tuple[list[memoryview], int]:
        """The payload in these bytes, and how many of them belonged to the body.

        Raises:
            Malformed: it breaks the rules.
        """


class LengthReader:
    """A body of a length that was said."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.trailers: Fields = []

    def read(self, data: memoryview) -> tuple[list[memoryview], int]:
        taken = min(self._left, len(data))
        self._left -= taken
        self.done = self._left == 0
        return ([data[:taken]] if taken else []), taken


class EndReader:
    """A body that ends with the connection."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: Fields = []

    def read(self, data: memoryview) -> tuple[list[memoryview], int]:
        return [data], len(data)


class ChunkReader:
    """A chunked body. Extensions of chunks are dropped; trailers are kept."""

    def __init__(self) -> None:
        self.done = False
        self.trailers: Fields = []
        self._left = 0
        self._state = "line"
        self._line = bytearray()
        self._tail: HeadBuffer | None = None

    def read(self, data: memoryview) -> tuple[list[memoryview], int]:
        pieces: list[memoryview] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state == "data":
                taken = min(self._left, size - at)
                pieces.append(data[at : at + taken])
                at += taken
                self._left -= taken
                if self._left == 0:
                    self._state = "end"
            elif self._state == "trailers":
                at += self._read_trailers(data[at:])
            else:
                at += self._read_line(data[at : at + MAX_CHUNK_LINE + 2])
        return pieces, at

    def _read_line(self, data: memoryview) -> int:
        """Up to a line's end: that of a chunk's size, or the empty one after its data."""
        before = len(self._line)
        self._line += data
        end = self._line.find(b"\n", before)
        if end < 0:
            if self._state == "end" and bytes(self._line) not in (b"", b"\r"):
                raise Malformed("a chunk is longer than it says")
            if len(self._line) > MAX_CHUNK_LINE:
                raise Malformed("the line of a chunk is too long")
            return len(data)
        line = bytes(self._line[: end + 1])
        self._line.clear()
        if not line.endswith(b"\r\n") or len(line) > MAX_CHUNK_LINE:
            raise Malformed("the line of a chunk is malformed")
        if self._state == "end":
            if line != b"\r\n":
                raise Malformed("a chunk is longer than it says")
            self._state = "line"
            return end + 1 - before
        match = _CHUNK.fullmatch(line[:-2])
        if match is None:
            raise Malformed("the size of a chunk is malformed")
        self._left = int(match[1], 16)
        if self._left:
            self._state = "data"
        else:
            self._state = "trailers"
            self._tail = HeadBuffer(MAX_TRAILERS)
            self._tail.feed(b"\r\n")  # so that an empty section ends at once
        return end + 1 - before

    def _read_trailers(self, data: memoryview) -> int:
        assert self._tail is not None
        section, taken = self._tail.feed(data)
        if section is not None:
            lines = section[2:].split(b"\r\n") if len(section) > 2 else []
            self.trailers = parse_fields(lines)
            if any(name.lower() in FORBIDDEN_TRAILERS for name, _ in self.trailers):
                raise Malformed("a trailer is of a kind that must stand in the head")
            self.done = True
        return taken


def chunk(size: int) -> bytes:
    """What stands before a chunk's data; CRLF stands after it."""
    return b"%x\r\n" % size


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"
