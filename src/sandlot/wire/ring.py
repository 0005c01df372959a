"""Rings: the two halves of the memory window (protocol/README.md, sections 1 and 4)."""

from __future__ import annotations

from collections import deque

from sandlot.errors import GuestProtocolError

SMALL = 1024 * 1024


class SendRing:
    """The half that we write. Allocates in order, frees in order."""

    def __init__(self, half: memoryview) -> None:
        self._half = half
        self._size = len(half)
        self._next = 0
        self._free = self._size
        self._outstanding: deque[tuple[int, int]] = deque()  # payload, payload and what was skipped

    def room(self) -> int:
        """The largest payload that fits now; 0 for so little that it is better to wait.

        What the peer may owe us without telling never makes it 0 in a half that is not `small`.
        """
        at_end = self._size - self._next
        room = self._free if self._free <= at_end else max(at_end, self._free - at_end)
        return room if room >= self._size // 8 else 0

    @property
    def small(self) -> bool:
        """Whether the half may stay full of what the peer need not tell us yet."""
        return self._size < SMALL

    def put(self, data: memoryview) -> int | None:
        """Copy `data` in and return its offset, or None when there is no room now."""
        size, skipped = len(data), 0
        if self._next + size > self._size:
            skipped = self._size - self._next
        if size + skipped > self._free or size > self._size:
            return None
        offset = 0 if skipped else self._next
        self._half[offset : offset + size] = data
        self._next = (offset + size) % self._size
        self._free -= size + skipped
        self._outstanding.append((size, size + skipped))
        return offset

    def freed(self, length: int) -> None:
        """The peer has consumed whole frames of `length` bytes together.

        Raises:
            GuestProtocolError: more than is outstanding, or not at a frame's end.
        """
        while length > 0:
            if not self._outstanding or self._outstanding[0][0] > length:
                raise GuestProtocolError("SHARED_FREE does not match what is outstanding")
            payload, taken = self._outstanding.popleft()
            length -= payload
            self._free += taken
        if not self._outstanding:
            self._next, self._free = 0, self._size


class ReceiveRing:
    """The half that the peer writes. Copies out before anything is looked at."""

    OWE_AT_MOST = 128 * 1024

    def __init__(self, half: memoryview) -> None:
        self._half = half
        self._owed = 0

    def take(self, offset: int, length: int) -> bytes:
        """A private copy of a payload.

        Raises:
            GuestProtocolError: the range is not inside the half.
        """
        if length == 0 or offset + length > len(self._half):
            raise GuestProtocolError(
                f"a shared payload of {length} bytes at {offset} lies outside the window"
            )
        self._owed += length
        return bytes(self._half[offset : offset + length])

    def debt(self) -> int:
        """Bytes to be told as consumed now; 0 while it is not worth a frame."""
        if self._owed < self.OWE_AT_MOST:
            return 0
        owed, self._owed = self._owed, 0
        return owed
