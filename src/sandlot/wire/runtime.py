"""The messages about a runtime that is lent to the guest (protocol/README.md, section 13)."""

from __future__ import annotations

from typing import ClassVar

from sandlot.wire.message import Message
from sandlot.wire.message import tag as _tag


class Lend(Message):
    """Let programs of the guest connect to the runtime that its owner lends it."""

    kind: ClassVar[int] = 0x23


class Borrow(Message):
    """From the guest: a program has connected. Who it is may be missing, and is for people."""

    kind: ClassVar[int] = 0x63
    pid: int = _tag(1, default=0)
    uid: int = _tag(2, default=0)


RUNTIME_MESSAGES: tuple[type[Message], ...] = (Lend, Borrow)
