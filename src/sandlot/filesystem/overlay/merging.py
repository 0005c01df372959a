"""What two layers look like as one: finding names, listing folders, copying up."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import uuid
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.overlay import copying
from sandlot.filesystem.overlay.layers import CANNOT, WHITEOUTS, WORK, Marks, Node, find, listed
from sandlot.filesystem.overlay.layers import OPAQUE as _OPAQUE
from sandlot.filesystem.types import Attr, Context, DirEntry, Entry, SetAttr


def fail(number: int, name: str = "") -> OSError:
    """An OSError by its number."""
    return OSError(number, os.strerror(number), name)


def as_root(ctx: Context) -> Context:
    """Who does what the overlay itself does in the upper layer."""
    return replace(ctx, pid=0, uid=0, gid=0)


class Merging:
    """The nodes of the merged whole. The lower layer is only read."""

    def __init__(self, lower: FileSystem, upper: FileSystem) -> None:
        self.lower = lower
        self.upper = upper
        self.marks = Marks(upper)
        self.root = Node(upper.root, lower.root, Attr(stat.S_IFDIR))
        self.root.ino = 1
        self._known: weakref.WeakValueDictionary[tuple[bool, Any], Node] = (
            weakref.WeakValueDictionary()
        )
        self._kept: set[Node] = set()
        self.know(self.root)

    # -- nodes -----------------------------------------------------------------------------

    def know(self, node: Node) -> None:
        """Find a node again by what it is made of."""
        if node.upper is not None:
            self._known[True, node.upper] = node
        if node.lower is not None:
            self._known[False, node.lower] = node

    def known(self, upper: bool, inner: Any) -> Node | None:
        """The node that is made of a layer's one."""
        return self._known.get((upper, inner))

    def more_names(self, node: Node, more: int) -> None:
        """It has more names, or fewer, than its layer says: it is kept until that is made good."""
        node.pending += more
        if node.pending:
            self._kept.add(node)
        else:
            self._kept.discard(node)

    def entry(self, parent: Node, name: str, up: Entry | None, low: Entry | None) -> Entry:
        """The whole's entry of what the layers have under a name."""
        shown = up or low
        assert shown is not None
        node = self.known(True, up.node) if up is not None else None
        if node is None and low is not None:
            node = self.known(False, low.node)
        if node is None:
            node = Node(None, None, shown.attr)
            of = low or shown
            node.ino = of.attr.ino * 2 + (low is None) if of.attr.ino else 0
        if up is not None:
            node.upper = up.node
        if low is not None and node.lower is None and (node.folder or up is None):
            node.lower = low.node
        node.names[parent, name] = None
        self.know(node)
        entry = Entry(node, self.attr(node, shown.attr), shown.entry_timeout, shown.attr_timeout)
        return entry

    def attr(self, node: Node, attr: Attr) -> Attr:
        """A layer's attributes as those of the whole."""
        attr.ino = node.ino
        attr.nlink = 1 if node.merged else max(attr.nlink + node.pending, 0)
        return attr

    async def getattr(self, ctx: Context, node: Node, inner: Any = None) -> Attr:
        """What a node is; `inner` is an open file of its topmost layer."""
        if node.upper is not None:
            return self.attr(node, await self.upper.getattr(ctx, node.upper, inner))
        if node.lower is None:
            raise fail(errno.ENOENT)
        return self.attr(node, await self.lower.getattr(ctx, node.lower, inner))

    def check_there(self, node: Node) -> None:
        """Raise OSError (ENOENT) when a folder was removed."""
        if not node.folder:
            raise fail(errno.ENOTDIR)
        if not node.names and node is not self.root:
            raise fail(errno.ENOENT)

    # -- names -----------------------------------------------------------------------------

    async def find(self, ctx: Context, parent: Node, name: str) -> Entry | None:
        """What is visible under a name."""
        if name.startswith(WORK):
            return None
        up = low = None
        if parent.upper is not None:
            up = await find(self.upper, ctx, parent.upper, name)
            if up is not None and await self.marks.is_whiteout(ctx, up):
                return None
        if parent.lower is not None and (up is None or up.attr.is_folder):
            low = await find(self.lower, ctx, parent.lower, name)
        if up is not None and low is not None:
            hidden = not low.attr.is_folder or await self.marks.has(ctx, up.node, _OPAQUE)
            low = None if hidden else low
        if up is None and low is None:
            return None
        entry = self.entry(parent, name, up, low)
        if up is None and entry.node.upper is not None and not entry.node.folder:
            await self._link_up(ctx, entry, parent, name)
        return entry

    async def _link_up(self, ctx: Context, entry: Entry, parent: Node, name: str) -> None:
        """Another name of a lower file that was copied up leads to the copy from now on."""
        node = entry.node
        try:
            await self.up(ctx, parent)
            await self.upper.link(as_root(ctx), node.upper, parent.upper, name)
            self.more_names(node, -1)
        except OSError as error:
            if error.errno not in CANNOT and error.errno != errno.ENOENT:
                raise
        entry.attr = await self.getattr(ctx, node)

    async def below(self, ctx: Context, parent: Node, name: str) -> bool:
        """Whether the lower layer has something under a name."""
        if parent.lower is None:
            return False
        return await find(self.lower, ctx, parent.lower, name) is not None

    async def children(
        self, ctx: Context, node: Node, *, plus: bool = False
    ) -> AsyncIterator[DirEntry]:
        """What is visible in a folder."""
        upper, lower = node.upper, node.lower
        seen: set[str] = set()
        if upper is not None:
            files = await self.marks.has(ctx, upper, WHITEOUTS)
            async for entry in listed(self.upper, ctx, upper, plus=plus):
                if entry.name.startswith(WORK):
                    continue
                if lower is not None:
                    seen.add(entry.name)
                if stat.S_ISCHR(entry.mode) or (files and stat.S_ISREG(entry.mode)):
                    found = entry.entry or await find(self.upper, ctx, upper, entry.name)
                    if found is None or await self.marks.is_whiteout(ctx, found):
                        continue
                folder = stat.S_ISDIR(entry.mode)
                if entry.entry is not None and not (folder and lower is not None):
                    entry.entry = self.entry(node, entry.name, entry.entry, None)
                    entry.ino = entry.entry.attr.ino
                else:
                    entry.entry = None
                    entry.ino = entry.ino * 2 + 1 if entry.ino else 0
                yield entry
        if lower is None:
            return
        async for entry in listed(self.lower, ctx, lower, plus=plus):
            if entry.name in seen:
                continue
            if upper is None and node.upper is not None:  # copied up while it is listed
                found = await find(self.upper, ctx, node.upper, entry.name)
                if found is not None and await self.marks.is_whiteout(ctx, found):
                    continue
            entry.ino *= 2
            inner, entry.entry = entry.entry, None
            if inner is not None:
                known = self.known(False, inner.node)
                if known is None or known.upper is None:
                    entry.entry = self.entry(node, entry.name, None, inner)
            yield entry

    async def empty(self, ctx: Context, node: Node) -> bool:
        """Whether nothing is visible in a folder."""
        async for _ in self.children(ctx, node):
            return False
        return True

    async def clear(self, ctx: Context, folder: Any) -> None:
        """Remove the whiteouts, and what was left over, from a folder of the upper layer."""
        names = [entry.name async for entry in listed(self.upper, ctx, folder, plus=False)]
        for name in names:
            await self.upper.unlink(as_root(ctx), folder, name)

    # -- copying up ------------------------------------------------------------------------

    async def up(self, ctx: Context, node: Node, *, empty: bool = False) -> Any:
        """The node of the upper layer, made if there is none.

        Args:
            empty: it is about to be cut off: nothing of its contents is needed.
        """
        if node.upper is None:
            if node.copying is None:
                node.copying = asyncio.Lock()
            async with node.copying:
                if node.upper is None:
                    await self._copy_up(as_root(ctx), node, empty)
        return node.upper

    async def _copy_up(self, ctx: Context, node: Node, empty: bool) -> None:
        if node.lower is None:
            raise fail(errno.ENOENT)
        attr = await self.lower.getattr(ctx, node.lower)
        parent, name = next(iter(node.names), (None, ""))
        if parent is None:
            if node.folder:
                raise fail(errno.ENOENT)
            into: Any = self.root.upper
        else:
            into = await self.up(ctx, parent)
        before = await self.upper.getattr(ctx, into)
        work = WORK + uuid.uuid4().hex
        made = await self._twin(ctx, node, attr, into, work, empty)
        try:
            if parent is None:  # nothing leads to it any more, but it is open
                await self.upper.unlink(ctx, into, work)
            else:
                await self.upper.rename(ctx, into, work, into, name, 0)
                made = await self.upper.lookup(ctx, into, name)
        except OSError as error:
            remove = self.upper.rmdir if node.folder else self.upper.unlink
            await remove(ctx, into, work)
            if error.errno != errno.ENOSYS:
                raise
            made = await self._twin(ctx, node, attr, into, name, empty)
        node.upper = made.node
        if not node.folder:
            self.more_names(node, attr.nlink - 1)
        self.know(node)
        times = SetAttr(atime_ns=before.atime_ns, mtime_ns=before.mtime_ns)
        try:
            await self.upper.setattr(ctx, into, times)
        except OSError as error:
            if error.errno not in CANNOT:
                raise

    async def _twin(
        self, ctx: Context, node: Node, attr: Attr, into: Any, name: str, empty: bool
    ) -> Entry:
        """Make the same in a folder of the upper layer."""
        lower, upper = self.lower, self.upper
        if node.folder:
            made = await upper.mkdir(ctx, into, name, 0o700)
        elif stat.S_ISLNK(attr.mode):
            made = await upper.symlink(ctx, into, name, await lower.readlink(ctx, node.lower))
        elif stat.S_ISREG(attr.mode):
            made = await upper.mknod(ctx, into, name, stat.S_IFREG | 0o600, 0)
        else:
            made = await upper.mknod(ctx, into, name, attr.mode, attr.rdev)
        try:
            if stat.S_ISREG(attr.mode) and attr.size and not empty:
                await copying.copy_contents(ctx, lower, node.lower, upper, made.node, attr.size)
            await copying.copy_xattrs(ctx, lower, node.lower, upper, made.node)
            await copying.copy_state(ctx, attr, upper, made.node)
        except BaseException:
            await (upper.rmdir if node.folder else upper.unlink)(ctx, into, name)
            raise
        return made
