"""The frames that a server sends in a WebSocket, with the values in them masked. Pure.

Without extensions whoever is in between may cut messages into other frames (RFC 6455, section 5.4).
So a message is one stream of bytes here, and a value is found in it wherever its frames are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sandlot.network.http.head import Malformed
from sandlot.secrets.replacer import Replacer

LONGEST_CONTROL = 125
_FIN, _RESERVED, _OPCODE, _MASK = 0x80, 0x70, 0x0F, 0x80
_CONTINUATION, _CONTROL = 0, (8, 9, 10)
_MESSAGES = (1, 2)


class MaskedFrames:
    """Takes a server's bytes after the upgrade in pieces of any size, and gives those for the guest.

    Args:
        masks: what is put in the place of what; asked for each message, since values are rotated.
    """

    def __init__(self, masks: Callable[[], Mapping[bytes, bytes]]) -> None:
        self._masks = masks
        self._head = b""
        self._left = 0  # bytes of the frame that are still to come
        self._first = 0
        self._control = b""
        self._opcode = _CONTINUATION  # of the next frame that is written for this message
        self._message: Replacer | None = None

    def feed(self, data: bytes) -> bytes:
        """The next piece.

        Raises:
            Malformed: these are no frames of a server without extensions.
        """
        out: list[bytes] = []
        view = memoryview(data)
        while view:
            if not self._left:
                taken = self._read_head(view)
                view = view[taken:]
                if not self._left and not self._head and taken:
                    out.append(self._payload(b""))  # an empty frame
                continue
            piece = bytes(view[: self._left])
            view = view[len(piece) :]
            self._left -= len(piece)
            out.append(self._payload(piece))
        return b"".join(out)

    def _read_head(self, view: memoryview) -> int:
        """Take what is missing of a frame's head; how much that was."""
        before = len(self._head)
        self._head += bytes(view[: 10 - before])
        size = 2
        if len(self._head) >= 2:
            size += {126: 2, 127: 8}.get(self._head[1], 0)
        if len(self._head) < size:
            return len(self._head) - before
        head, self._head = self._head[:size], b""
        self._first = head[0]
        if head[0] & _RESERVED or head[1] & _MASK:
            raise Malformed("a frame of the WebSocket has an extension, or is masked")
        length = int.from_bytes(head[2:], "big") if size > 2 else head[1]
        opcode = head[0] & _OPCODE
        if opcode in _CONTROL:
            if length > LONGEST_CONTROL or not head[0] & _FIN:
                raise Malformed("a control frame of the WebSocket is too long, or in pieces")
        elif opcode in _MESSAGES:
            if self._message is not None:
                raise Malformed("a message of the WebSocket begins within another")
            self._message, self._opcode = Replacer(self._masks()), opcode
        elif opcode != _CONTINUATION or self._message is None:
            raise Malformed("a frame of the WebSocket is of an unknown kind, or continues nothing")
        self._left = length
        return size - before

    def _payload(self, piece: bytes) -> bytes:
        opcode, last = self._first & _OPCODE, not self._left
        if opcode in _CONTROL:
            self._control += piece
            if not last:
                return b""
            replacer = Replacer(self._masks())
            whole = bytes(replacer.feed(self._control)) + replacer.finish()
            self._control = b""
            return _frame(_FIN | opcode, whole[:LONGEST_CONTROL])
        assert self._message is not None
        done = bytes(self._message.feed(piece))
        end = last and bool(self._first & _FIN)
        if end:
            done += self._message.finish()
            self._message = None
        elif not done:
            return b""
        written = _frame((_FIN if end else 0) | self._opcode, done)
        self._opcode = _CONTINUATION
        return written


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes([first, size])
    elif size < 1 << 16:
        head = bytes([first, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 127]) + size.to_bytes(8, "big")
    return head + payload
