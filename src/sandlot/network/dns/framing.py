"""DNS over TCP: each message behind two bytes of length."""

from __future__ import annotations

import struct

from sandlot.network.dns.message import LONGEST_MESSAGE, LONGEST_QUERY, Malformed

_LENGTH = struct.Struct("!H")


class Messages:
    """Messages out of a stream. At most one that is not complete is kept."""

    def __init__(self, longest: int = LONGEST_QUERY) -> None:
        self._longest = longest
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """What is complete now.

        Raises:
            Malformed: a message is empty or too long. The connection has to end.
        """
        self._kept += data
        found: list[bytes] = []
        at = 0
        while len(self._kept) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._kept, at)
            if not 0 < length <= self._longest:
                raise Malformed(f"a message of {length} bytes")
            end = at + _LENGTH.size + length
            if len(self._kept) < end:
                break
            found.append(bytes(self._kept[at + _LENGTH.size : end]))
            at = end
        del self._kept[:at]
        return found


def frame(message: bytes) -> bytes:
    """A message as it stands in a stream."""
    assert 0 < len(message) <= LONGEST_MESSAGE
    return _LENGTH.pack(len(message)) + message
