"""Renaming in an overlay."""

from __future__ import annotations

import errno
from typing import Any

from sandlot.filesystem.overlay.layers import WORK, Node, find
from sandlot.filesystem.overlay.merging import Merging, as_root, fail
from sandlot.filesystem.types import Context

_NOREPLACE, _EXCHANGE = 1, 2


def within(folder: Node, other: Node) -> bool:
    """Whether a folder is another one or lies in it."""
    here: Node | None = folder
    while here is not None:
        if here is other:
            return True
        here = next((parent for parent, _ in here.names), None)
    return False


async def rename(
    merging: Merging, ctx: Context, parent: Node, name: str, new_parent: Node, new_name: str,
    flags: int,
) -> None:  # fmt: skip
    """Give something another name, as renameat2(2)."""
    if flags & ~(_NOREPLACE | _EXCHANGE) or flags == _NOREPLACE | _EXCHANGE:
        raise fail(errno.EINVAL, name)
    merging.check_there(new_parent)
    if new_name.startswith(WORK):
        raise fail(errno.EPERM, new_name)
    source = await merging.find(ctx, parent, name)
    if source is None:
        raise fail(errno.ENOENT, name)
    target = await merging.find(ctx, new_parent, new_name)
    node: Node = source.node
    other: Node | None = target.node if target is not None else None
    exchange = flags == _EXCHANGE
    if other is None and exchange:
        raise fail(errno.ENOENT, new_name)
    if other is not None and flags == _NOREPLACE:
        raise fail(errno.EEXIST, new_name)
    if node is other:
        return
    if node.folder and within(new_parent, node):
        raise fail(errno.EINVAL, name)
    if other is not None:
        await _check_target(merging, ctx, parent, node, other, exchange)
    # What is in the lower layer too would have to be found under its new name.
    if node.merged or (exchange and other is not None and other.merged):
        raise fail(errno.EXDEV, name)
    await _move(merging, ctx, (parent, name), (new_parent, new_name), (node, other), exchange)


async def _check_target(
    merging: Merging, ctx: Context, parent: Node, node: Node, other: Node, exchange: bool
) -> None:
    if exchange:
        if other.folder and within(parent, other):
            raise fail(errno.EINVAL)
        return
    if within(parent, other):
        raise fail(errno.ENOTEMPTY)
    if node.folder and not other.folder:
        raise fail(errno.ENOTDIR)
    if other.folder and not node.folder:
        raise fail(errno.EISDIR)
    if other.folder and not await merging.empty(ctx, other):
        raise fail(errno.ENOTEMPTY)


async def _move(
    merging: Merging, ctx: Context, old: tuple[Node, str], new: tuple[Node, str],
    nodes: tuple[Node, Node | None], exchange: bool,
) -> None:  # fmt: skip
    upper = merging.upper
    (parent, name), (new_parent, new_name) = old, new
    node, other = nodes
    await merging.up(ctx, node)
    start, into = await merging.up(ctx, parent), await merging.up(ctx, new_parent)
    await _named(merging, ctx, node, start, name)
    if exchange and other is not None:
        await merging.up(ctx, other)
        await _named(merging, ctx, other, into, new_name)
    hides_new = await merging.below(ctx, new_parent, new_name)
    hides_old = await merging.below(ctx, parent, name)
    there = await find(upper, ctx, into, new_name)
    if node.folder and hides_new:
        await merging.marks.opaque(as_root(ctx), node.upper)
    if exchange and other is not None and other.folder and hides_old:
        await merging.marks.opaque(as_root(ctx), other.upper)
    if node.folder and not exchange and there is not None:
        if there.attr.is_folder:
            await merging.clear(ctx, there.node)
        else:  # a whiteout
            await upper.unlink(as_root(ctx), into, new_name)
    await upper.rename(ctx, start, name, into, new_name, _EXCHANGE if exchange else 0)
    if hides_old and not exchange:
        await merging.marks.whiteout(as_root(ctx), start, name)
    node.names.pop(old, None)
    node.names[new] = None
    await _again(merging, ctx, node, new)
    if other is not None:
        other.names.pop(new, None)
        if exchange:
            other.names[old] = None
            await _again(merging, ctx, other, old)
        elif there is None and not other.folder:
            merging.more_names(other, -1)


async def _named(merging: Merging, ctx: Context, node: Node, folder: Any, name: str) -> None:
    """A file of several names was copied up by one of them: have it by this one, too."""
    if not node.folder and await find(merging.upper, ctx, folder, name) is None:
        await merging.upper.link(as_root(ctx), node.upper, folder, name)
        merging.more_names(node, -1)


async def _again(merging: Merging, ctx: Context, node: Node, place: tuple[Node, str]) -> None:
    """A file system whose nodes are paths calls it otherwise now."""
    found = await find(merging.upper, ctx, place[0].upper, place[1])
    if found is not None and found.node != node.upper:
        node.upper = found.node
        merging.know(node)
