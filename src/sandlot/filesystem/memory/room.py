"""How much a file system in memory may hold, and what it holds now. Pure.

Nothing is counted that is not there, and nothing is there that is not counted: what a node takes is
given back when the node goes, which is when neither a name nor the guest knows it any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

PAGE = 4096
MOST_NODES = 2_000_000
LEAST_NODES = 1024
MOST_LISTED = 4_000_000
"""Names that may be kept for listings under way."""


def full() -> OSError:
    """What a guest is told that wants more than there is."""
    return OSError(errno.ENOSPC, "no room left in this volume")


def half_of_memory() -> int:
    """As Linux's tmpfs has it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class Room:
    """Bytes and nodes. Contents count in whole pages."""

    __slots__ = ("limit", "listed", "most_nodes", "nodes", "used")

    def __init__(self, limit: int, most_nodes: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        if most_nodes is None:
            most_nodes = min(max(limit // PAGE, LEAST_NODES), MOST_NODES)
        self.most_nodes = most_nodes
        self.nodes = 0
        self.listed = 0

    @property
    def free_pages(self) -> int:
        return max(self.limit - self.used, 0) // PAGE

    def take(self, size: int) -> None:
        """Count bytes.

        Raises:
            OSError: there is no room for them (ENOSPC).
        """
        if self.used + size > self.limit:
            raise full()
        self.used += size

    def take_node(self) -> None:
        """Count a node, or one more name of one.

        Raises:
            OSError: there are too many (ENOSPC).
        """
        if self.nodes >= self.most_nodes:
            raise full()
        self.nodes += 1


class Names(list[str]):
    """The names of a folder at one moment, for the listings that are under way."""

    __slots__ = ("_count", "_room")

    def __init__(self, names: Mapping[str, object], room: Room) -> None:
        self._count = 0
        self._room = room
        if room.listed + len(names) > MOST_LISTED:
            raise OSError(errno.ENOMEM, "too many listings of large folders are under way")
        super().__init__(names)
        self._count = len(names)
        room.listed += self._count

    def __del__(self) -> None:
        self._room.listed -= self._count
