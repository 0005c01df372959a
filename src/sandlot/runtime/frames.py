"""The bytes of one connection between a program of a guest and the host. Pure.

A frame is `kind u8, length u32, payload`, big-endian; the specification is in protocol/README.md,
section 13. Whatever comes from a guest is hostile: everything is bounded here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from sandlot.errors import ConfigError, GuestProtocolError

HEADER = struct.Struct("!BI")
MAX_PAYLOAD = 65536


class Kind(IntEnum):
    """What a frame is."""

    REQUEST = 1
    ANSWER = 2
    ERROR = 3
    ITEM = 4
    INPUT = 5
    OUTPUT = 6
    ERRORS = 7


FROM_GUEST = frozenset({Kind.REQUEST, Kind.INPUT})


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """One frame, ready to be sent."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a frame of {len(payload)} bytes")
    return HEADER.pack(kind, len(payload)) + payload


def told(kind: Kind, what: Mapping[str, Any]) -> bytes:
    """One frame that holds JSON.

    Raises:
        ConfigError: it is too long for one, as what a hostile peer calls a file may be.
    """
    # As UTF-8, which is half as long as escapes; bytes that are no text become escapes even so.
    data = json.dumps(what, ensure_ascii=False).encode(errors="backslashreplace")
    if len(data) > MAX_PAYLOAD:
        raise ConfigError(f"the answer is longer than {MAX_PAYLOAD} bytes")
    return frame(kind, data)


def frames(kind: Kind, data: bytes) -> list[bytes]:
    """As many frames as data of any length needs; none for no data."""
    return [
        frame(kind, data[start : start + MAX_PAYLOAD]) for start in range(0, len(data), MAX_PAYLOAD)
    ]


class FrameReader:
    """Cuts what a guest sends into frames: one REQUEST, and then INPUT only."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def receive(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Add bytes, and take out the frames that are complete.

        Raises:
            GuestProtocolError: this is not a frame that a guest may send now.
        """
        self._buffer += data
        found = []
        while len(self._buffer) >= HEADER.size:
            number, length = HEADER.unpack_from(self._buffer)
            if number not in FROM_GUEST:
                raise GuestProtocolError(f"a frame of the kind {number} from the guest")
            if length > MAX_PAYLOAD:
                raise GuestProtocolError(
                    f"a frame of {length} bytes; at most {MAX_PAYLOAD} are allowed"
                )
            kind = Kind(number)
            if (kind is Kind.REQUEST) is self._begun:
                raise GuestProtocolError("a connection has one request, which comes first")
            end = HEADER.size + length
            if len(self._buffer) < end:
                break
            self._begun = True
            found.append((kind, bytes(self._buffer[HEADER.size : end])))
            del self._buffer[:end]
        return found
