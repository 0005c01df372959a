"""Nodes of file systems that know only paths: they keep their identity when they are renamed."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Buffer:
    """What is in a file while it is open."""

    data: bytearray = field(default_factory=bytearray)
    changed: bool = False
    opens: int = 0
    mtime_ns: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, eq=False, weakref_slot=True)
class PathNode:
    """A file or folder. `gone`: it has no path any more."""

    path: str
    buffer: Buffer | None = None
    gone: bool = False


def joined(parent: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{parent.rstrip('/')}/{name}"


class Paths:
    """The nodes that somebody holds, by path."""

    def __init__(self) -> None:
        self.root = PathNode("/")
        self._nodes: weakref.WeakValueDictionary[str, PathNode] = weakref.WeakValueDictionary(
            {"/": self.root}
        )

    def get(self, path: str) -> PathNode | None:
        """The node of a path, if somebody holds it."""
        return self._nodes.get(path)

    def node(self, path: str) -> PathNode:
        """The node of a path."""
        node = self._nodes.get(path)
        if node is None:
            node = self._nodes[path] = PathNode(path)
        return node

    def buffered(self, folder: str) -> list[str]:
        """The names in a folder of files that are open with what is in them."""
        below = folder.rstrip("/") + "/"
        return [
            path[len(below) :]
            for path, node in self._nodes.items()
            if node.buffer is not None and path.startswith(below) and "/" not in path[len(below) :]
        ]

    def removed(self, path: str) -> None:
        """Nothing has this path any more."""
        node = self._nodes.pop(path, None)
        if node is not None:
            node.gone = True

    def moved(self, old: str, new: str) -> None:
        """Something has another path, and all that is in it."""
        self.removed(new)
        below = old + "/"
        for path, node in list(self._nodes.items()):
            if path == old or path.startswith(below):
                del self._nodes[path]
                node.path = new + path[len(old) :]
                self._nodes[node.path] = node
