"""Looking, once a minute, at what inotify does not tell of: files that another program has mapped to
write to, and what the host mounts over a folder. So guests may rely for long on what they were told.
"""

from __future__ import annotations

import asyncio
import errno
import stat
from typing import Any, Protocol
from weakref import ref

from sandlot.filesystem.host.tree import Node, Tree, stamp_of

EACH = 60.0
"""Seconds from one beginning to the next."""
PAUSE = 0.5
AT_ONCE = 500
"""Nodes that are looked at between two pauses: with 60,000 of them a look at all takes a minute, with
more it takes longer."""


class Told(Protocol):
    """Who is told: the file system."""

    @property
    def tree(self) -> Tree: ...
    def changed(self, node: Any, *, data: bool = True) -> None: ...
    def changed_name(self, parent: Any, name: str) -> None: ...


class Sweep:
    """See the module."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._left: list[ref[Node]] = []
        self._next = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, in this event loop."""
        if self._loop is None:
            self._loop = loop
            self._next = loop.time() + EACH
            self._timer = loop.call_later(EACH, self._go_on)

    def stop(self) -> None:
        """Look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        self._left = []

    def _go_on(self) -> None:
        loop = self._loop
        if loop is None:
            return
        if not self._left:
            self._next = max(self._next + EACH, loop.time())
            self._left = self._told.tree.references()
        self.look(AT_ONCE)
        later = PAUSE if self._left else max(PAUSE, self._next - loop.time())
        self._timer = loop.call_later(later, self._go_on)

    def look(self, most: int) -> None:
        """Look at some of those that are left of this time."""
        some, self._left = self._left[-most:], self._left[:-most]
        for each in some:
            node = each()
            if node is not None:
                self._compare(node)

    def look_at_all(self) -> None:
        """Look at all nodes now."""
        self._left = self._told.tree.references()
        self.look(len(self._left))

    def _compare(self, node: Node) -> None:
        parent = node.parent
        if parent is None or parent.watch <= 0 or node.gone or node.busy or node.stamp is None:
            return  # the guest relies on it for a moment only, or asks anyway
        name = node.name
        if node.kind == stat.S_IFDIR:
            node.checked = -1  # what has its name is looked at, not what is open
        try:
            stamp = stamp_of(self._told.tree.stat(node))
        except OSError as error:
            if error.errno in (errno.ESTALE, errno.ENOENT, errno.ENOTDIR):
                self._told.changed_name(parent, name)
            return
        if stamp != node.stamp:
            node.stamp = stamp
            self._told.changed(node)
