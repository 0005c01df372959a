"""Replace byte strings in a stream, wherever its pieces are cut, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping


class Replacer:
    """Replaces every key of `table` by what it stands for.

    The longest key wins where two begin at the same place. What could be the beginning of a key is
    held back until more comes: less than the longest key. `found` is called with each key found.

    >>> r = Replacer({b"abc": b"x"})
    >>> r.feed(b"1ab"), r.feed(b"c2a"), r.finish()
    (b'1', b'x2', b'a')
    """

    def __init__(
        self, table: Mapping[bytes, bytes], found: Callable[[bytes], None] | None = None
    ) -> None:
        self._table = dict(table)
        self._found = found
        self._held = b""
        self._keys = sorted(self._table, key=len, reverse=True)
        self._longest = len(self._keys[0]) if self._keys else 0
        self._pattern = re.compile(b"|".join(map(re.escape, self._keys)) if self._keys else b"(?!)")

    @property
    def held(self) -> int:
        """Bytes held back now."""
        return len(self._held)

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """The next piece of the stream, and what of it can be passed on."""
        if not self._keys:
            return data
        buffer = self._held + bytes(data) if self._held else data
        first = self._pattern.search(buffer)
        if first is None:
            keep = self._beginning(buffer, 0)
            if keep == len(buffer):
                self._held = b""
                return buffer
            self._held = bytes(buffer[keep:])
            return buffer[:keep]
        return self._replace(bytes(buffer), first)

    def _replace(self, buffer: bytes, match: re.Match[bytes] | None) -> bytes:
        done: list[bytes] = []
        at = 0
        while match is not None:
            keep = self._beginning(buffer, at)  # a key that begins before the one that was found
            if keep < match.start() or self._longer_may_come(buffer, match):
                keep = min(keep, match.start())
                done.append(buffer[at:keep])
                self._held = buffer[keep:]
                return b"".join(done)
            done += (buffer[at : match.start()], self._swap(match[0]))
            at = match.end()
            match = self._pattern.search(buffer, at)
        keep = self._beginning(buffer, at)
        done.append(buffer[at:keep])
        self._held = buffer[keep:]
        return b"".join(done)

    def finish(self) -> bytes:
        """The stream has ended: what was held back."""
        held, self._held = self._held, b""
        return self._pattern.sub(lambda match: self._swap(match[0]), held)

    def _swap(self, key: bytes) -> bytes:
        if self._found is not None:
            self._found(key)
        return self._table[key]

    def _longer_may_come(self, buffer: bytes, match: re.Match[bytes]) -> bool:
        rest = buffer[match.start() : match.start() + self._longest]
        return any(len(key) > len(rest) and key.startswith(rest) for key in self._keys)

    def _beginning(self, buffer: bytes | memoryview, at: int) -> int:
        """Where the part at the end begins that may be the beginning of a key."""
        base = max(at, len(buffer) - self._longest + 1)
        tail = bytes(buffer[base:])
        best = len(tail)
        for key in self._keys:
            found = tail.find(key[:1])
            while 0 <= found < best:
                if key.startswith(tail[found:]):
                    best = found
                    break
                found = tail.find(key[:1], found + 1)
        return base + best
