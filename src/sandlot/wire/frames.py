"""Frames: the yamux layout, with two types of our own for the memory window.

Source: the yamux specification (frame header, flags, flow control); SHARED and SHARED_FREE and
the resync are ours, see `protocol/README.md`, sections 2 to 4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = struct.Struct("!BBHII")
OFFSET = struct.Struct("!I")
VERSION = 0
MAX_PAYLOAD = 64 * 1024
MAX_SHARED = 1024 * 1024
INITIAL_CREDIT = 256 * 1024
MAX_CREDIT = 16 * 1024 * 1024
MAX_STREAMS = 16384

MAGIC = b"\x00sandlot-resync\xff"
TOKEN_SIZE = 16
FIRST_TOKEN = bytes(TOKEN_SIZE)


class Type(IntEnum):
    DATA = 0
    CREDIT = 1
    PING = 2
    GO_AWAY = 3
    SHARED = 4
    SHARED_FREE = 5


class Flag(IntFlag):
    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


KNOWN_FLAGS = 0x0F


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `length` is the payload's size for DATA and SHARED, a number for the others."""

    type: int
    flags: int
    stream: int
    length: int
    payload: bytes = b""
    offset: int = 0


def encode(frame: Frame) -> bytes:
    """The frame as it stands on the wire."""
    head = HEADER.pack(VERSION, frame.type, frame.flags, frame.stream, frame.length)
    if frame.type == Type.SHARED:
        return head + OFFSET.pack(frame.offset)
    return head + frame.payload


def resync_request(token: bytes, nonce: bytes) -> bytes:
    """What the host sends first: the token of the session before, and a fresh nonce."""
    return MAGIC + token + nonce


def resync_reply(nonce: bytes) -> bytes:
    """What the agent answers before its first frame."""
    return MAGIC + nonce
