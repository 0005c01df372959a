"""Copying up: a node of the lower layer gets a twin in the upper one before it is changed."""

from __future__ import annotations

import asyncio
import errno
import stat
from typing import Any

from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.overlay.layers import CANNOT, PRIVATE
from sandlot.filesystem.types import Attr, Context, SetAttr

_STEP = 1 << 20
_BEFORE_OTHERS = 16
"""Steps before others have their turn."""
_DATA, _HOLE = 3, 4
_RDONLY, _WRONLY = 0, 1


async def copy_contents(
    ctx: Context, lower: FileSystem, source: Any, upper: FileSystem, target: Any, size: int
) -> None:
    """Copy what is in a file; holes stay holes where the layers know them."""
    came = (await lower.open(ctx, source, _RDONLY)).handle
    try:
        goes = (await upper.open(ctx, target, _WRONLY)).handle
        try:
            await _copy(ctx, (lower, source, came), (upper, target, goes), size)
            try:
                await upper.flush(ctx, target, goes)
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
        finally:
            await upper.release(ctx, target, goes)
    finally:
        await lower.release(ctx, source, came)


async def _copy(
    ctx: Context,
    source: tuple[FileSystem, Any, Any],
    target: tuple[FileSystem, Any, Any],
    size: int,
) -> None:
    lower, node, came = source
    upper, twin, goes = target
    offset = steps = end = written = 0
    while offset < size:
        if offset >= end:
            offset, end = await _next_data(ctx, source, offset, size)
            if offset >= size:
                break
        data = memoryview(await lower.read(ctx, node, came, offset, min(_STEP, end - offset)))
        if not data:
            break
        done = 0
        while done < len(data):
            step = await upper.write(ctx, twin, goes, offset + done, data[done:])
            if step <= 0:
                raise OSError(errno.EIO, "the upper layer wrote nothing")
            done += step
        offset += len(data)
        written = offset
        steps += 1
        if steps % _BEFORE_OTHERS == 0:
            await asyncio.sleep(0)
    if written < size:  # it ends with a hole
        await upper.setattr(ctx, twin, SetAttr(size=size), goes)


async def _next_data(
    ctx: Context, source: tuple[FileSystem, Any, Any], offset: int, size: int
) -> tuple[int, int]:
    """Where the next data is, and where it ends."""
    fs, node, handle = source
    try:
        start = await fs.lseek(ctx, node, handle, offset, _DATA)
        return start, max(await fs.lseek(ctx, node, handle, start, _HOLE), start + 1)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in CANNOT:
            return offset, size
        raise


async def copy_xattrs(
    ctx: Context, lower: FileSystem, source: Any, upper: FileSystem, target: Any
) -> None:
    """Copy the attributes that both layers can have."""
    try:
        names = await lower.listxattr(ctx, source)
    except OSError as error:
        if error.errno in CANNOT:
            return
        raise
    for name in names:
        if name.startswith(PRIVATE):
            continue
        try:
            await upper.setxattr(ctx, target, name, await lower.getxattr(ctx, source, name), 0)
        except OSError as error:
            if error.errno not in CANNOT and error.errno != errno.ENODATA:
                raise


async def copy_state(ctx: Context, attr: Attr, upper: FileSystem, target: Any) -> None:
    """Owner, mode and times. Links have no mode."""
    changes = SetAttr(
        uid=attr.uid, gid=attr.gid, atime_ns=attr.atime_ns, mtime_ns=attr.mtime_ns,
        mode=None if stat.S_ISLNK(attr.mode) else attr.mode & 0o7777,
    )  # fmt: skip
    try:
        await upper.setattr(ctx, target, changes)
    except OSError as error:
        if error.errno != errno.ENOSYS:  # it keeps no such thing
            raise
