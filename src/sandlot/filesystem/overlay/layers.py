"""The two layers of an overlay: what is marked in the upper one, and nodes of the merged whole.

As Linux's overlayfs has it: what was removed of the lower layer is a whiteout in the upper one, a
character device 0:0, or an empty file with an attribute where devices cannot be made; a folder that
hides the lower one of its name is opaque, by an attribute.
"""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.locks import Owner
from sandlot.filesystem.types import Attr, Context, DirEntry, Entry

if TYPE_CHECKING:
    from sandlot.filesystem.overlay.overlayfs import OverlayFs

WHITEOUT = "user.sandlot.whiteout"
WHITEOUTS = "user.sandlot.whiteouts"
"""Of a folder, that there are such in it: else its empty files need not be looked at."""
OPAQUE = "user.overlay.opaque"
PRIVATE = ("user.sandlot.", "user.overlay.", "trusted.overlay.")
WORK = ".sandlot-overlay-"
"""How the names begin of what is being copied up."""
CANNOT = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP}
)


class Node:
    """A node of the merged whole: `upper` and `lower` are the nodes that it is made of.

    `names` are where it is found, as far as anyone looked. `pending` is how many names it has more
    than its layer says: those in the lower layer that do not lead to its copy yet.
    """

    __slots__ = (
        "__weakref__", "copying", "folder", "ino", "lower", "names", "pending", "upper",
    )  # fmt: skip

    def __init__(self, upper: Any, lower: Any, attr: Attr) -> None:
        self.upper = upper
        self.lower = lower
        self.folder = attr.is_folder
        self.ino = 0
        self.names: dict[tuple[Node, str], None] = {}
        self.pending = 0
        self.copying: asyncio.Lock | None = None

    @property
    def merged(self) -> bool:
        """Whether it is a folder with something of the lower layer in it."""
        return self.folder and self.lower is not None


class Handle:
    """An open file: of which layer, and what that calls it."""

    __slots__ = ("flags", "inner", "locked", "upper")

    def __init__(self, inner: Any, upper: bool, flags: int) -> None:
        self.inner = inner
        self.upper = upper
        self.flags = flags
        self.locked: Owner | None = None


class Relay:
    """Stands for a mount before a layer: what the layer tells of its nodes is told of the whole's."""

    def __init__(self, overlay: OverlayFs, upper: bool, sandbox: str, path: str) -> None:
        self.overlay = overlay
        self.upper = upper
        self.sandbox = sandbox
        self.path = path

    def forget_data(self, node: Any, *, data: bool = True) -> None:
        """A node of the layer is to be looked at again."""
        self.overlay.relayed(self, node, None, data)

    def forget_name(self, parent: Any, name: str) -> None:
        """A name in a folder of the layer is to be looked up again."""
        self.overlay.relayed(self, parent, name, False)


class Marks:
    """Whiteouts and opaque folders in the upper layer."""

    def __init__(self, upper: FileSystem) -> None:
        self.fs = upper
        self._devices = True

    async def has(self, ctx: Context, node: Any, name: str) -> bool:
        """Whether a node of the upper layer has an attribute."""
        try:
            await self.fs.getxattr(ctx, node, name)
        except OSError:
            return False
        return True

    async def is_whiteout(self, ctx: Context, entry: Entry) -> bool:
        """Whether something in the upper layer only hides what is below."""
        attr = entry.attr
        if stat.S_ISCHR(attr.mode):
            return attr.rdev == 0
        if stat.S_ISREG(attr.mode) and attr.size == 0:
            return await self.has(ctx, entry.node, WHITEOUT)
        return False

    async def whiteout(self, ctx: Context, parent: Any, name: str) -> None:
        """Hide what is below a name."""
        if self._devices:
            try:
                await self.fs.mknod(ctx, parent, name, stat.S_IFCHR, 0)
                return
            except OSError as error:
                if error.errno not in CANNOT:
                    raise
                self._devices = False
        await self.fs.setxattr(ctx, parent, WHITEOUTS, b"y", 0)
        entry = await self.fs.mknod(ctx, parent, name, stat.S_IFREG, 0)
        try:
            await self.fs.setxattr(ctx, entry.node, WHITEOUT, b"y", 0)
        except OSError:
            await self.fs.unlink(ctx, parent, name)
            raise

    async def opaque(self, ctx: Context, node: Any) -> None:
        """Make a folder of the upper layer hide the lower one of its name."""
        await self.fs.setxattr(ctx, node, OPAQUE, b"y", 0)


async def find(fs: FileSystem, ctx: Context, parent: Any, name: str) -> Entry | None:
    """What has a name in a folder of a layer, or None."""
    try:
        return await fs.lookup(ctx, parent, name)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT:
            return None
        raise


async def listed(fs: FileSystem, ctx: Context, node: Any, *, plus: bool) -> AsyncIterator[DirEntry]:
    """What is in a folder of a layer."""
    opened = await fs.opendir(ctx, node)
    try:
        method = fs.readdirplus if plus else fs.readdir
        source = await method(ctx, node, opened.handle)
        if hasattr(source, "__aiter__"):
            async for entry in source:
                yield entry
        else:
            for entry in source:
                yield entry
    finally:
        await fs.releasedir(ctx, node, opened.handle)
