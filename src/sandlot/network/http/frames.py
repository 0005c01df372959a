"""Frames of HTTP/2 (RFC 9113, section 4 and 6): cut out of a stream of bytes, and written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 16384
"""Bytes of a frame's payload: the least that everybody takes, and what we take."""
HEADER = struct.Struct(">HBBBI")  # the length's high 16 bits, its low 8, type, flags, stream


class Type(IntEnum):
    """Kinds of frames; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20


class Code(IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """What SETTINGS carry."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """What ends the whole connection."""

    def __init__(self, reason: str, code: Code = Code.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class FrameReader:
    """Cuts frames out of bytes. Holds less than one frame."""

    def __init__(self, *, preface: bool) -> None:
        self._preface = PREFACE if preface else b""
        self._held = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
        """Each complete frame: type, flags, stream, payload.

        Raises:
            ConnectionFault: a frame is too long, or the connection does not begin as HTTP/2.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        if self._preface:
            size = min(len(data), len(self._preface))
            if data[:size] != self._preface[:size]:
                raise ConnectionFault("it does not begin as HTTP/2 does")
            self._preface, data = self._preface[size:], data[size:]
        view = memoryview(data)
        at, size = 0, len(data)
        while size - at >= 9:
            high, low, kind, flags, stream = HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > MAX_FRAME:
                raise ConnectionFault("a frame is too long", Code.FRAME_SIZE_ERROR)
            end = at + 9 + length
            if end > size:
                break
            yield kind, flags, stream & 0x7FFFFFFF, view[at + 9 : end]
            at = end
        self._held = bytes(view[at:])


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return frame_header(kind, flags, stream, len(payload)) + payload


def frame_header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """What stands before a payload."""
    return HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(
        Type.SETTINGS,
        0,
        0,
        b"".join(struct.pack(">HI", key, value) for key, value in values.items()),
    )


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(Type.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(Type.RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: int, text: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return frame(Type.GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def header_block(stream: int, block: bytes, *, end_stream: bool) -> bytes:
    """HEADERS, and CONTINUATION where it is long."""
    pieces = [block[at : at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)] or [b""]
    out = []
    for number, piece in enumerate(pieces):
        flags = END_HEADERS if number == len(pieces) - 1 else 0
        if number == 0:
            flags |= END_STREAM if end_stream else 0
            out.append(frame(Type.HEADERS, flags, stream, piece))
        else:
            out.append(frame(Type.CONTINUATION, flags, stream, piece))
    return b"".join(out)


def unpadded(flags: int, payload: memoryview) -> memoryview:
    """The payload without its padding.

    Raises:
        ConnectionFault: there is more padding than payload.
    """
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault("padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
