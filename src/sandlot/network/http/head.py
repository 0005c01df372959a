"""Heads of HTTP/1.1, read strictly (RFC 9112), and written anew.

What two readers could understand in two ways is refused, in both directions: line ends other than
CRLF, folded lines, blanks before a colon, lengths that are said twice, encodings other than
`chunked`. What is written has one form only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandlot.secrets.substitution import Fields

MAX_HEAD = 64 * 1024
"""Bytes of a head."""
MAX_FIELDS = 256
MAX_LENGTH_DIGITS = 18

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_TARGET = re.compile(rb"[!\"$-~\x80-\xff]+")  # visible, and no fragment
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_REQUEST = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}) ([^ ]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_FRAMING = (b"content_length", b"transfer_encoding", b"content-length", b"transfer-encoding")


class Malformed(Exception):
    """A head or a body that is not taken. Whose it is, the caller knows. `status` is for a guest."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(slots=True)
class RequestLine:
    """A request's head. `length` is that of its body, -1 when it is chunked."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields
    length: int = 0


@dataclass(slots=True)
class StatusLine:
    """An answer's head. `length` is -1 when chunked, None when nothing says it."""

    status: int
    reason: bytes
    minor: int
    fields: Fields
    length: int | None = None


class HeadBuffer:
    """Collects one head, of at most `limit` bytes."""

    def __init__(self, limit: int = MAX_HEAD) -> None:
        self._limit = limit
        self._held = bytearray()

    def __len__(self) -> int:
        return len(self._held)

    def feed(self, data: bytes | memoryview) -> tuple[bytes | None, int]:
        """The head without its empty line, and how many bytes of `data` were of it.

        Raises:
            Malformed: it is too long, or has a line end that is not CRLF.
        """
        before = len(self._held)
        room = self._limit - before
        self._held += data[: room + 4]
        end = self._held.find(b"\r\n\r\n", max(0, before - 3))
        seen = self._held if end < 0 else self._held[: end + 4]
        lone = _LONE.search(seen, max(0, before - 1))
        # a CR at the very end may be half of a line end
        if lone is not None and not (lone.end() == len(seen) and lone[0] == b"\r"):
            raise Malformed("a line ends with something else than CR LF")
        if end < 0:
            if len(self._held) > self._limit + 3:
                raise Malformed(f"the head is longer than {self._limit} bytes", 431)
            return None, len(data)
        if end > self._limit:
            raise Malformed(f"the head is longer than {self._limit} bytes", 431)
        head = bytes(self._held[:end])
        self._held.clear()
        return head, end + 4 - before


def parse_request(head: bytes) -> RequestLine:
    """Read a request's head.

    Raises:
        Malformed: for whatever is not exactly as RFC 9112 has it.
    """
    line, *rest = head.split(b"\r\n")
    match = _REQUEST.fullmatch(line)
    if match is None:
        raise Malformed("the request line is malformed")
    target = match[2]
    if not _TARGET.fullmatch(target):
        raise Malformed("the request target has characters that it must not have")
    request = RequestLine(match[1], target, int(match[3]), parse_fields(rest))
    length, chunked = _framing(request.fields)
    if chunked and request.minor == 0:
        raise Malformed("HTTP/1.0 has no chunked encoding")
    request.length = -1 if chunked else length or 0
    return request


def parse_status(head: bytes) -> StatusLine:
    """Read an answer's head.

    Raises:
        Malformed: for whatever is not exactly as RFC 9112 has it.
    """
    line, *rest = head.split(b"\r\n")
    match = _STATUS.fullmatch(line)
    if match is None:
        raise Malformed("the status line is malformed")
    status = StatusLine(int(match[2]), match[3] or b"", int(match[1]), parse_fields(rest))
    length, chunked = _framing(status.fields)
    status.length = -1 if chunked else length
    return status


def parse_fields(lines: list[bytes]) -> Fields:
    """Field lines, as names and values without the blanks around them.

    Raises:
        Malformed: a line is none, is folded, or there are too many.
    """
    if len(lines) > MAX_FIELDS:
        raise Malformed(f"there are more than {MAX_FIELDS} fields", 431)
    fields: Fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            folded = line[:1] in (b" ", b"\t")
            raise Malformed("a field is folded over lines" if folded else "a field is malformed")
        value = value.strip(b" \t")
        if _CONTROL.search(value):
            raise Malformed("a field has control characters")
        fields.append((name, value))
    return fields


def _framing(fields: Fields) -> tuple[int | None, bool]:
    """Content-Length, and whether it is chunked."""
    length: int | None = None
    chunked = False
    for name, value in fields:
        lower = name.lower()
        if lower not in _FRAMING:
            continue
        if b"_" in lower:
            raise Malformed("a field's name is that of a length with an underscore")
        if lower == b"content-length":
            if length is not None:
                raise Malformed("the length is said more than once")
            length = parse_length(value)
        else:
            if chunked:
                raise Malformed("the transfer encoding is said more than once")
            if value.lower() != b"chunked":
                raise Malformed("the transfer encoding is not `chunked`", 501)
            chunked = True
    if chunked and length is not None:
        raise Malformed("both a length and a transfer encoding are said")
    return length, chunked


def parse_length(value: bytes) -> int:
    """A Content-Length.

    Raises:
        Malformed: it has anything but digits, or too many.
    """
    if not (value.isdigit() and len(value) <= MAX_LENGTH_DIGITS):
        raise Malformed("the length is malformed")
    return int(value)


def tokens(fields: Fields, name: bytes) -> list[bytes]:
    """The words of a list field, in lower case."""
    return [
        word.strip(b" \t").lower()
        for key, value in fields
        if key.lower() == name
        for word in value.split(b",")
        if word.strip(b" \t")
    ]


def without(fields: Fields, *names: bytes) -> Fields:
    """The fields except for those (names in lower case)."""
    return [(name, value) for name, value in fields if name.lower() not in names]


def value_of(fields: Fields, name: bytes) -> bytes:
    """The first field of this name (in lower case), or nothing."""
    return next((value for key, value in fields if key.lower() == name), b"")


def written(first: bytes, fields: Fields) -> bytes:
    """A head, in the one form in which we write it."""
    lines = [first]
    for name, value in fields:
        lines.append(b"%b: %b" % (name, value))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)
