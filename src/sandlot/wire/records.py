"""Records: the field encoding of every message (protocol/README.md, section 5).

A record is a sequence of fields, each `tag u8, length u32, value`. Unknown tags are skipped, so
that a newer peer can say more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from sandlot.errors import GuestProtocolError

_FIELD = struct.Struct("!BI")
MAX_FIELDS = 65536


def field(tag: int, value: bytes) -> bytes:
    """One encoded field."""
    return _FIELD.pack(tag, len(value)) + value


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a record into `(tag, value)` pairs.

    Raises:
        GuestProtocolError: a field runs past the end, or there are too many.
    """
    position, count, end = 0, 0, len(data)
    while position < end:
        if end - position < _FIELD.size:
            raise GuestProtocolError("a record ends inside a field header")
        tag, length = _FIELD.unpack_from(data, position)
        position += _FIELD.size
        if length > end - position:
            raise GuestProtocolError(
                f"field {tag} claims {length} bytes, {end - position} are left"
            )
        count += 1
        if count > MAX_FIELDS:
            raise GuestProtocolError(f"a record has more than {MAX_FIELDS} fields")
        yield tag, data[position : position + length]
        position += length
