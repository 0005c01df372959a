"""The messages about the network (protocol/README.md, section 10)."""

from __future__ import annotations

from typing import ClassVar

from sandlot.wire.message import Message
from sandlot.wire.message import tag as _tag


class Network(Message):
    """Take the guest's datagrams on this stream, and let the guest open streams of its own."""

    kind: ClassVar[int] = 0x0B


class Dial(Message):
    """Connect to a port that a program of the guest listens on; raw bytes follow."""

    kind: ClassVar[int] = 0x0C
    port: int = _tag(1, default=0)
    flags: int = _tag(2, default=0)

    OWN: ClassVar[int] = 1
    """On the guest's own address only, not on loopback."""


class Connect(Message):
    """From the guest: a program connects. Addresses have 4 or 16 bytes; who it is may be missing."""

    kind: ClassVar[int] = 0x60
    source: bytes = _tag(1, default=b"")
    source_port: int = _tag(2, default=0)
    target: bytes = _tag(3, default=b"")
    target_port: int = _tag(4, default=0)
    pid: int = _tag(5, default=0)
    process: bytes = _tag(6, default=b"")


class Datagram(Message):
    """Both ways: one UDP datagram between a port of the guest and a remote address and port."""

    kind: ClassVar[int] = 0x61
    port: int = _tag(1, default=0)
    remote: bytes = _tag(2, default=b"")
    remote_port: int = _tag(3, default=0)
    data: bytes = _tag(4, default=b"")


class Unreachable(Message):
    """To the guest: what was sent from this port to that address went nowhere."""

    kind: ClassVar[int] = 0x62
    port: int = _tag(1, default=0)
    remote: bytes = _tag(2, default=b"")
    remote_port: int = _tag(3, default=0)
    errno: int = _tag(4, default=0)


NETWORK_MESSAGES: tuple[type[Message], ...] = (Network, Dial, Connect, Datagram, Unreachable)
