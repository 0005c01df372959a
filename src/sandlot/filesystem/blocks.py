"""What was read of remote files, in blocks, as long as there is room for it. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

BLOCK = 1 << 20


class Blocks:
    """A cache of blocks of files; the ones that were used longest ago go first.

    Args:
        most: bytes that it may hold.
        block: bytes of one block.
    """

    def __init__(self, most: int, block: int = BLOCK) -> None:
        self.most = most
        self.block = block
        self.held = 0
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._of: dict[str, set[int]] = {}
        self._versions: dict[str, Any] = {}

    def version(self, path: str, version: Any) -> None:
        """What is in a file is that of a version: blocks of another one are dropped."""
        if self._versions.get(path) != version:
            self.drop(path)
            if path in self._of or len(self._versions) < 65536:
                self._versions[path] = version

    def drop(self, path: str) -> None:
        """Forget a file."""
        self._versions.pop(path, None)
        for index in self._of.pop(path, ()):
            self.held -= len(self._blocks.pop((path, index)))

    def read(self, path: str, offset: int, size: int, fetch: Callable[[int, int], bytes]) -> bytes:
        """Bytes of a file; `fetch` reads from one offset up to another."""
        first, last = offset // self.block, (offset + size - 1) // self.block
        missing = [n for n in range(first, last + 1) if (path, n) not in self._blocks]
        fresh: dict[int, bytes] = {}
        if missing:
            start, end = missing[0] * self.block, (missing[-1] + 1) * self.block
            data = memoryview(fetch(start, end))
            for number in range(missing[0], missing[-1] + 1):
                at = number * self.block - start
                fresh[number] = bytes(data[at : at + self.block])
        parts = []
        for number in range(first, last + 1):
            block = fresh.get(number)
            if block is None:
                block = self._blocks[path, number]
                self._blocks.move_to_end((path, number))
            base = number * self.block
            parts.append(block[max(offset - base, 0) : offset + size - base])
            if len(block) < self.block:
                break
        for number, block in fresh.items():
            self._keep(path, number, block)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _keep(self, path: str, number: int, block: bytes) -> None:
        old = self._blocks.pop((path, number), b"")
        self.held += len(block) - len(old)
        self._blocks[path, number] = block
        self._of.setdefault(path, set()).add(number)
        while self.held > self.most and self._blocks:
            (other, index), data = self._blocks.popitem(last=False)
            self.held -= len(data)
            self._of[other].discard(index)
            if not self._of[other]:
                del self._of[other]
