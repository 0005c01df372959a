"""Asking a hook before something is done to the files of a volume."""

from __future__ import annotations

import inspect
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.operations import Operation
from sandlot.filesystem.types import Buffer, Context, FileAccess

if TYPE_CHECKING:
    from sandlot.filesystem.fuse.requests import Request
    from sandlot.filesystem.mount import Mount

OnFs = Callable[[FileAccess], Any]

# Where the name of what is asked about begins in a request; None where it is a node's own.
ASKED: dict[int, int | None] = {
    Op.OPEN: None, Op.OPENDIR: None, Op.READDIR: None, Op.READDIRPLUS: None, Op.SETATTR: None,
    Op.SETXATTR: None, Op.REMOVEXATTR: None,
    Op.CREATE: requests.CREATE.size, Op.MKNOD: requests.MKNOD.size, Op.MKDIR: requests.MKDIR.size,
    Op.UNLINK: 0, Op.RMDIR: 0, Op.SYMLINK: 0, Op.LINK: requests.LINK.size,
    Op.RENAME: requests.RENAME.size, Op.RENAME2: requests.RENAME2.size,
}  # fmt: skip

# By a kernel that opens no folders: it was told so by a mount that nobody had to be asked about.
_LISTS = (Op.READDIR, Op.READDIRPLUS)


def asking(operation: Operation, on_fs: OnFs) -> Operation:
    """An operation that a hook is asked about first.

    Raises:
        Refuse: by the hook; the guest's program gets EACCES.
    """

    async def asked(mount: Mount, ctx: Context, request: Request) -> Buffer:
        if request.op in _LISTS and any(request.fields(requests.READ)[:2]):
            return await operation(mount, ctx, request)  # it was asked about when it was opened
        answer = on_fs(described(mount, ctx, request))
        if inspect.isawaitable(answer):
            await answer
        return await operation(mount, ctx, request)

    return asked


def described(mount: Mount, ctx: Context, request: Request) -> FileAccess:
    """What a request is about, for people."""
    name = Op(request.op).name.lower()
    start = ASKED[request.op]
    path = mount.fs.path_of(mount.node(request.node)).lstrip("/")
    other = flags = None
    if start is not None:
        last, end = request.name(start)
        path = posixpath.join(path, last)
        if request.op in (Op.RENAME, Op.RENAME2):
            layout = requests.RENAME if request.op == Op.RENAME else requests.RENAME2
            folder = mount.fs.path_of(mount.node(request.fields(layout)[0])).lstrip("/")
            other = posixpath.join(mount.path, folder, request.name(end)[0])
            name = "rename"
    if request.op in _LISTS:
        name = "opendir"
    if request.op == Op.OPEN:
        flags = request.fields(requests.OPEN)[0]
    elif request.op == Op.CREATE:
        flags = request.fields(requests.CREATE)[0]
    full = posixpath.join(mount.path, path) if path else mount.path
    return FileAccess(name, full, ctx, flags or 0, other or "")
