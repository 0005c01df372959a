"""What nodes are: mode, owner, times, size and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from sandlot.filesystem.base import quick
from sandlot.filesystem.host.files import File, Files
from sandlot.filesystem.host.notes import NO_ATTRIBUTE, PREFIX, Note, host_mode
from sandlot.filesystem.host.served import served
from sandlot.filesystem.host.tree import Descriptor, Node
from sandlot.filesystem.host.writable import chmod, forced
from sandlot.filesystem.types import Attr, Context, SetAttr, Statistics

BIG = 256 << 20
"""Bytes of a file that takes so long to cut that it is done in a thread."""
_KERNEL = ("security.", "trusted.")
_SYSTEM = "system."
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID


class Attributes(Files):
    """The part of `HostFs` that is about what nodes are."""

    @served
    def getattr(self, ctx: Context, node: Node, handle: Any = None) -> Attr:
        if isinstance(handle, File):
            return self.attr(node, os.fstat(handle.fd))
        if node.ghost is not None and not node.files and node.descriptor is None:
            return node.ghost
        return self.attr(node, self.tree.stat(node))

    @quick
    async def setattr(self, ctx: Context, node: Node, changes: SetAttr, handle: Any = None) -> Attr:
        self.refuse_changes()
        ghost = node.ghost
        if ghost is not None and not node.files and node.descriptor is None:
            ghost.atime_ns = changes.atime_ns or ghost.atime_ns  # written back by its kernel, late
            ghost.mtime_ns = changes.mtime_ns or ghost.mtime_ns
            return ghost
        if self.slow or (
            changes.size is not None and self.tree.stat(node).st_size > changes.size + BIG
        ):
            node.busy += 1
            try:
                st = await self.in_thread(self._set, node, changes, handle)
            finally:
                node.busy -= 1
        else:
            st = self._set(node, changes, handle)
        self.own(ctx, node, st, data=changes.size is not None)
        return self.attr(node, st)

    def _set(self, node: Node, changes: SetAttr, handle: Any) -> os.stat_result:
        if changes.size is not None:
            writable = self.exact_for_writing(node, handle)
            st = os.fstat(writable.number)
            if st.st_mode & _PRIVILEGED:
                chmod(writable, stat.S_IMODE(st.st_mode) & ~_PRIVILEGED)
            os.ftruncate(writable.number, changes.size)
        exact: Descriptor | None = None
        if changes.mode is not None or changes.uid is not None or changes.gid is not None:
            exact = handle.descriptor if isinstance(handle, File) else self.tree.exact(node)
            self._set_owner(node, changes, exact)
        if changes.atime_ns is not None or changes.mtime_ns is not None:
            self._set_times(node, changes, handle)
        if isinstance(handle, File):
            return os.fstat(handle.fd)
        return os.fstat(exact.number) if exact is not None else self.tree.stat(node)

    def _set_owner(self, node: Node, changes: SetAttr, exact: Descriptor) -> None:
        notes = self.notes
        old = (notes.find(node) if notes.present() else None) or Note()
        uid, gid, mode, host, rdev = old.uid, old.gid, old.mode, old.host, old.rdev
        if changes.uid is not None:
            uid = changes.uid if changes.uid != self.owner[0] else None
        if changes.gid is not None:
            gid = changes.gid if changes.gid != self.owner[1] else None
        if changes.mode is not None:
            st = os.fstat(exact.number)
            kind = st.st_mode & 0o170000
            wanted = host_mode(changes.mode, folder=kind == stat.S_IFDIR)
            # A folder of the host's that gives its group goes on to do so.
            given = st.st_mode & stat.S_ISGID if kind == stat.S_IFDIR else 0
            if kind == stat.S_IFLNK:
                return
            if wanted | given != st.st_mode & 0o7777 or st.st_uid == os.geteuid():
                chmod(exact, wanted | given)  # also when it is so already: its ctime is to be now
            host = wanted | given
            special = old.mode is not None and stat.S_IFMT(old.mode) not in (0, kind)
            if host == changes.mode & 0o7777 and not special:
                mode, host = None, 0
            else:
                kind = stat.S_IFMT(old.mode) if special and old.mode is not None else kind
                mode = kind | changes.mode & 0o7777
        note = Note(uid, gid, mode, host, rdev)
        if note != old:
            notes.set(node, exact, note)
        if node.kind == stat.S_IFLNK:
            self._set_times(node, SetAttr(atime_ns=None), None)
        elif changes.mode is None and note == old:
            st = os.fstat(exact.number)
            if st.st_uid == os.geteuid():
                chmod(exact, stat.S_IMODE(st.st_mode))

    def _set_times(self, node: Node, changes: SetAttr, handle: Any) -> None:
        times = None
        if not changes.now:
            st = os.fstat(handle.fd) if isinstance(handle, File) else self.tree.stat(node)
            times = (
                changes.atime_ns if changes.atime_ns is not None else st.st_atime_ns,
                changes.mtime_ns if changes.mtime_ns is not None else st.st_mtime_ns,
            )
        if isinstance(handle, File):
            _utime(handle.fd, times)
        elif node.files:
            _utime(node.files[-1].number, times)
        elif node.parent is None or node.gone:
            exact = self.tree.exact(node)
            forced(exact, lambda: _utime(self._path(exact), times))
        else:
            folder = self.tree.folder(node.parent)
            _utime(node.name, times, dir_fd=folder.number, follow_symlinks=False)

    def _path(self, exact: Descriptor) -> Any:
        """What `os` functions take for the very inode of a descriptor that only names it."""
        from sandlot.filesystem.host import syscalls

        return f"{syscalls.PROC}{exact.number}" if syscalls.has_proc() else exact.number

    @served
    def statfs(self, ctx: Context, node: Node) -> Statistics:
        root = self.root.descriptor
        assert root is not None
        st = os.fstatvfs(root.number)
        size = st.f_frsize or st.f_bsize
        return Statistics(
            st.f_blocks, st.f_bfree, st.f_bavail, st.f_files, st.f_ffree, size,
            min(st.f_namemax, 255),
        )  # fmt: skip

    # -- extended attributes ---------------------------------------------------------------

    @served
    def getxattr(self, ctx: Context, node: Node, name: str) -> bytes:
        _refuse_system(name)
        if name.startswith(PREFIX) or not name.startswith(("user.", *_KERNEL)):
            raise OSError(NO_ATTRIBUTE, "no such attribute")
        return self.notes.value(node, name)

    @served
    def setxattr(self, ctx: Context, node: Node, name: str, value: bytes, flags: int) -> None:
        self.refuse_changes()
        _refuse_foreign(name)
        exact = self.tree.exact(node)
        self.notes.set_value(node, exact, name, value, flags)
        self.own(ctx, node, os.fstat(exact.number), data=False)

    @served
    def listxattr(self, ctx: Context, node: Node) -> list[str]:
        names = self.notes.names(node)
        return names if ctx.uid == 0 else [n for n in names if not n.startswith("trusted.")]

    @served
    def removexattr(self, ctx: Context, node: Node, name: str) -> None:
        self.refuse_changes()
        _refuse_foreign(name)
        exact = self.tree.exact(node)
        self.notes.remove_value(node, exact, name)
        self.own(ctx, node, os.fstat(exact.number), data=False)


def _utime(what: str | int, times: tuple[int, int] | None, **how: Any) -> None:
    if times is None:
        os.utime(what, **how)
    else:
        os.utime(what, ns=times, **how)


def _refuse_system(name: str) -> None:
    """Lists of who may do what would be the host's, and are not kept for guests."""
    if name.startswith(_SYSTEM):
        raise OSError(errno.EOPNOTSUPP, "no such attributes in this volume")


def _refuse_foreign(name: str) -> None:
    _refuse_system(name)
    if name.startswith(PREFIX):
        raise PermissionError(errno.EPERM, "an attribute of Sandlot's own")
    if not name.startswith(("user.", *_KERNEL)):
        raise OSError(errno.EOPNOTSUPP, "no such attributes in this volume")
