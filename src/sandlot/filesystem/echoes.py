"""What the agent's nudges are answered with: it does again, in the guest, what was done to the files on
the host, so that programs that watch them hear of it. Nothing is done for it here."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from sandlot.filesystem.fuse import replies, requests
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.known import ECHO
from sandlot.filesystem.operations import Operation
from sandlot.filesystem.types import Attr, Context, Entry

if TYPE_CHECKING:
    from sandlot.filesystem.fuse.requests import Request
    from sandlot.filesystem.mount import Mount


async def _looked_up(mount: Mount, ctx: Context, request: Request) -> bytes:
    name, _ = request.name()
    if name in mount.creating:
        raise OSError(errno.ENOENT, "not yet")
    parent = mount.node(request.node)
    try:
        return mount.told(await mount.fs.lookup(ctx, parent, name))
    except FileNotFoundError:
        folder = mount.deleting.pop(name, None)
        if folder is None:
            raise
        return mount.told(_ghost(folder=folder))


def _ghost(*, folder: bool) -> Entry:
    """What was there."""
    mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644
    return Entry(_Gone(), Attr(mode, nlink=2 if folder else 1), 0.0, 0.0)


class _Gone:
    """A node that is no more."""


async def _created(mount: Mount, ctx: Context, request: Request) -> bytes:
    name, _ = request.name(requests.CREATE.size)
    mount.creating.discard(name)
    entry = await mount.fs.lookup(ctx, mount.node(request.node), name)
    told = mount.told(entry)
    number = mount.opened(mount.number(entry.node), entry.node, ECHO, 0)
    return told + replies.open_body(number, 0)


async def _made(mount: Mount, ctx: Context, request: Request) -> bytes:
    name, _ = request.name(requests.MKDIR.size)
    mount.creating.discard(name)
    return mount.told(await mount.fs.lookup(ctx, mount.node(request.node), name))


async def _opened(mount: Mount, ctx: Context, request: Request) -> bytes:
    node = mount.node(request.node)
    return replies.open_body(mount.opened(request.node, node, ECHO, 0), 2)


async def _changed(mount: Mount, ctx: Context, request: Request) -> bytes:
    node = mount.node(request.node)
    attr = await mount.fs.getattr(ctx, node)
    return replies.attr_body(mount.numbered(request.node, attr), mount.attr_timeout(node))


async def _removed(mount: Mount, ctx: Context, request: Request) -> bytes:
    # The guest's kernel takes what it removes for dead: a folder that is there again, or was made in
    # the guest meanwhile, must not be.
    name, _ = request.name()
    try:
        await mount.fs.lookup(ctx, mount.node(request.node), name)
    except FileNotFoundError:
        return b""
    raise OSError(errno.EBUSY, "it is there")


async def _done(mount: Mount, ctx: Context, request: Request) -> bytes:
    return b""


ECHOES: dict[int, Operation] = {
    Op.LOOKUP: _looked_up, Op.CREATE: _created, Op.MKDIR: _made, Op.OPEN: _opened,
    Op.SETATTR: _changed, Op.UNLINK: _removed, Op.RMDIR: _removed,
    Op.RENAME: _done, Op.RENAME2: _done, Op.FLUSH: _done,
}  # fmt: skip
