"""Whether a datagram begins a QUIC connection. Pure.

Source: RFC 9000 (14.1, 17.2), RFC 9369 (version 2), and the registry of versions.
"""

from __future__ import annotations

SHORTEST_FIRST = 1200
"""Bytes of a datagram that a server takes for the beginning of a connection, at least."""
_LONG_HEADER = 0x80
_VERSIONS = (b"\0\0\0\1", b"\x6b\x33\x43\xcf")
_DRAFTS = (b"\xff\0\0", b"Q0", b"T0")  # of the IETF, and those before it


def begins_quic(data: bytes) -> bool:
    """Whether a server may take this datagram for the first of a connection, whose name nobody on
    the way is told."""
    if len(data) < SHORTEST_FIRST:
        return False
    version = data[1:5]
    if data[0] & _LONG_HEADER:
        return version in _VERSIONS or version.startswith(_DRAFTS)
    return False
