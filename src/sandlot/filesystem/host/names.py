"""Names: what is found under them, what is made, moved and removed; folders and what is in them."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from sandlot.filesystem.base import quick
from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.notes import Note, host_mode, is_special
from sandlot.filesystem.host.served import UNWATCHED, NotThere, Served, served
from sandlot.filesystem.host.tree import Descriptor, Node, stale
from sandlot.filesystem.host.writable import chmod
from sandlot.filesystem.types import Context, DirEntry, Entry, Opened

BIG = 256 << 20
"""Bytes of a file that takes so long to free that it is removed in a thread."""
_LISTED_AT_ONCE = 256
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenFolder:
    """An open folder: a descriptor of its own, whose place in the listing nobody shares."""

    __slots__ = ("descriptor", "node")

    def __init__(self, node: Node, descriptor: Descriptor) -> None:
        self.node = node
        self.descriptor = descriptor


class Names(Served):
    """The part of `HostFs` that is about names."""

    @served
    def lookup(self, ctx: Context, parent: Node, name: str) -> Entry:
        entry = self._found(parent, name)
        if stat.S_ISDIR(entry.node.kind):  # a program that sets a watch there asks for no more
            self.look_into(entry.node)
        return entry

    def _found(self, parent: Node, name: str) -> Entry:
        if parent.watch == 0:
            self.look_into(parent)
        folder = self.tree.folder(parent)
        try:
            st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        except FileNotFoundError as error:
            if self._coherent and parent.watch <= 0:
                raise NotThere(errno.ENOENT, error.strerror, name) from None
            raise
        node = self.tree.known(st, parent, name)
        return self.entry(node, st, parent, folder.number)

    @served
    def readlink(self, ctx: Context, node: Node) -> str:
        if node.kind != stat.S_IFLNK or node.parent is None:
            raise OSError(errno.EINVAL, "no symbolic link", node.name)
        self.tree.stat(node)
        folder = self.tree.folder(node.parent)
        try:
            return os.readlink(node.name, dir_fd=folder.number)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                raise stale(node) from None
            raise

    # -- making ----------------------------------------------------------------------------

    def owner_of_new(self, ctx: Context, parent: Node, mode: int) -> tuple[int, int, int]:
        """Owner, group and mode of what is made: a setgid folder gives its group, and folders in
        it are such too."""
        if parent.mode & stat.S_ISGID:
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
            return ctx.uid, parent.gid, mode
        return ctx.uid, ctx.gid, mode

    def new(self, ctx: Context, parent: Node, name: str, folder: Descriptor, exact: Descriptor | None,
            mode: int, rdev: int = 0) -> tuple[Node, os.stat_result]:  # fmt: skip
        """What was just made: with the mode and the owner that it is to have."""
        st = (
            os.fstat(exact.number) if exact is not None
            else os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        )  # fmt: skip
        key = (st.st_dev, st.st_ino)
        notes = self.notes
        notes.forget(key)
        old = self.tree.find(key)
        if old is not None:  # of a file that somebody removed: the host gave its number again
            self.tree.removed(old, parent, name, last=True)
        node = self.tree.known(st, parent, name)
        if not stat.S_ISLNK(st.st_mode):
            wanted = host_mode(mode, folder=stat.S_ISDIR(mode))
            inherited = st.st_mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0
            if st.st_mode & 0o7777 & ~inherited != wanted:
                chmod(exact or self.tree.exact(node), wanted | inherited)
                st = self.tree.stat(node) if exact is None else os.fstat(exact.number)
        uid, gid, mode = self.owner_of_new(ctx, parent, mode)
        note = self.note_of(node, st, uid, gid, mode, rdev)
        if note is not None:
            notes.set(node, exact or self.tree.exact(node), note)
            st = self.tree.stat(node) if exact is None else os.fstat(exact.number)
        self.own(ctx, node, st)
        self.own_name(ctx, parent, name, key)
        return node, st

    def note_of(self, node: Node, st: os.stat_result, uid: int, gid: int, mode: int,
                rdev: int) -> Note | None:  # fmt: skip
        """What is to be noted of a new file, or None where the host says it all."""
        owner_uid, owner_gid = self.owner
        odd = mode & 0o7777 != st.st_mode & 0o7777 or is_special(mode)
        if stat.S_ISLNK(mode):
            odd = False
        if uid == owner_uid and gid == owner_gid and not odd:
            return None
        return Note(
            uid if uid != owner_uid else None, gid if gid != owner_gid else None,
            mode if odd else None, st.st_mode & 0o7777, rdev,
        )  # fmt: skip

    @served
    def mknod(self, ctx: Context, parent: Node, name: str, mode: int, rdev: int) -> Entry:
        self.refuse_changes()
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        if not stat.S_ISREG(mode) and not is_special(mode):
            raise OSError(errno.EINVAL, "no such kind of file", name)
        folder = self.tree.folder(parent)
        flags = _NEW | os.O_WRONLY
        number = os.open(name, flags, host_mode(mode, folder=False), dir_fd=folder.number)
        node, st = self.new(ctx, parent, name, folder, Descriptor(number), mode, rdev)
        return self.entry(node, st, parent, folder.number)

    @served
    def mkdir(self, ctx: Context, parent: Node, name: str, mode: int) -> Entry:
        self.refuse_changes()
        folder = self.tree.folder(parent)
        os.mkdir(name, host_mode(mode, folder=True), dir_fd=folder.number)
        mode = mode & 0o7777 | stat.S_IFDIR
        node, st = self.new(ctx, parent, name, folder, None, mode)
        return self.entry(node, st, parent, folder.number)

    @served
    def symlink(self, ctx: Context, parent: Node, name: str, target: str) -> Entry:
        self.refuse_changes()
        folder = self.tree.folder(parent)
        os.symlink(target, name, dir_fd=folder.number)
        node, st = self.new(ctx, parent, name, folder, None, stat.S_IFLNK | 0o777)
        return self.entry(node, st, parent, folder.number)

    @served
    def link(self, ctx: Context, node: Node, new_parent: Node, new_name: str) -> Entry:
        self.refuse_changes()
        tree = self.tree
        if node.parent is None or node.kind == stat.S_IFDIR:
            raise PermissionError(errno.EPERM, "it cannot have another name", node.name)
        tree.stat(node)
        if node.gone:
            raise FileNotFoundError(errno.ENOENT, "it has no name any more", node.name)
        source, folder = tree.folder(node.parent), tree.folder(new_parent)
        os.link(
            node.name, new_name, src_dir_fd=source.number, dst_dir_fd=folder.number,
            follow_symlinks=False,
        )  # fmt: skip
        st = os.stat(new_name, dir_fd=folder.number, follow_symlinks=False)
        if (st.st_dev, st.st_ino) != node.key:  # the host put something else there meanwhile
            os.unlink(new_name, dir_fd=folder.number)
            raise stale(node)
        tree.place(node, new_parent, new_name, links=st.st_nlink)
        self.own(ctx, node, st, data=False)
        self.own_name(ctx, new_parent, new_name, node.key)
        return self.entry(node, st, new_parent)

    # -- removing and moving ---------------------------------------------------------------

    @quick
    async def unlink(self, ctx: Context, parent: Node, name: str) -> None:
        self.refuse_changes()
        if self.slow:
            await self.in_thread(self._unlink, ctx, parent, name)
            return
        folder = self.tree.folder(parent)
        st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        if st.st_size > BIG and st.st_nlink == 1:
            await self.in_thread(self._unlink, ctx, parent, name)
        else:
            self._unlink(ctx, parent, name, st)

    def _unlink(
        self, ctx: Context, parent: Node, name: str, st: os.stat_result | None = None
    ) -> None:
        folder = self.tree.folder(parent)
        if st is None:
            st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        os.unlink(name, dir_fd=folder.number)
        self._lost(ctx, parent, name, st)

    def _lost(self, ctx: Context, parent: Node, name: str, st: os.stat_result) -> None:
        """A name was taken away from what it was."""
        key = (st.st_dev, st.st_ino)
        last = st.st_nlink <= 1 or stat.S_ISDIR(st.st_mode)
        node = self.tree.find(key)
        if node is not None:
            if last:
                node.ghost = self.attr(node, st)
                node.ghost.nlink, node.ghost.ctime_ns = 0, time.time_ns()
            self.tree.removed(node, parent, name, last=last)
            self.own(ctx, node, data=False)
            if node.files:
                node.stamp = None  # its ctime is another now, by our own doing
        if last and (node is None or not node.files):
            self.notes.forget(key)
        self.own_name(ctx, parent, name, None)

    @served
    def rmdir(self, ctx: Context, parent: Node, name: str) -> None:
        self.refuse_changes()
        folder = self.tree.folder(parent)
        st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        os.rmdir(name, dir_fd=folder.number)
        self._lost(ctx, parent, name, st)

    @served
    def rename(self, ctx: Context, parent: Node, name: str, new_parent: Node, new_name: str,
               flags: int) -> None:  # fmt: skip
        self.refuse_changes()
        tree = self.tree
        folder, new_folder = tree.folder(parent), tree.folder(new_parent)
        st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        try:
            old = os.stat(new_name, dir_fd=new_folder.number, follow_symlinks=False)
        except FileNotFoundError:
            old = None
        syscalls.rename(folder.number, name, new_folder.number, new_name, flags)
        key = (st.st_dev, st.st_ino)
        old_key = (old.st_dev, old.st_ino) if old is not None else None
        node = tree.find(key)
        if old_key == key:  # two names of one file: nothing happens
            return
        exchanged = bool(flags & syscalls.EXCHANGE)
        if old is not None and not exchanged:
            self._lost(ctx, new_parent, new_name, old)
        if node is not None:
            self._moved(ctx, node, parent, name, new_parent, new_name)
        other = tree.find(old_key) if exchanged and old_key is not None else None
        if other is not None:
            self._moved(ctx, other, new_parent, new_name, parent, name)
        self.own_name(ctx, new_parent, new_name, key)
        self.own_name(ctx, parent, name, old_key if exchanged else None)

    def _moved(self, ctx: Context, node: Node, parent: Node, name: str, new_parent: Node,
               new_name: str) -> None:  # fmt: skip
        if node.others:
            node.others = [other for other in node.others if other != (parent, name)]
        if node.parent is parent and node.name == name:
            node.parent, node.name = new_parent, new_name
        elif node.kind != stat.S_IFDIR:
            self.tree.place(node, new_parent, new_name, links=2)
        else:
            self.tree.place(node, new_parent, new_name)
        self.own(ctx, node, self._restat(node), data=False)

    def _restat(self, node: Node) -> os.stat_result | None:
        """What it is after a change of ours, if it is still there."""
        try:
            return self.tree.stat(node)
        except OSError:
            return None

    # -- folders ---------------------------------------------------------------------------

    @property
    def unopened(self) -> bool:
        return self.opens_as_is

    @served
    def opendir(self, ctx: Context, node: Node) -> Opened:
        if node.watch == 0:
            self.look_into(node)
        keep = self.lists_as_is and self._timeout(node) > UNWATCHED
        return Opened(self.opened_folder(node), keep_cache=keep)

    def opened_folder(self, node: Node) -> OpenFolder:
        """Open a folder to be listed."""
        folder = self.tree.folder(node)
        return OpenFolder(node, Descriptor(os.open(".", _LIST, dir_fd=folder.number)))

    async def readdir(
        self, ctx: Context, node: Node, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        # Only their notes say which files are no regular ones for the guest.
        listing = self._entries(handle) if self.notes.present() else self._names(handle)
        return self._in_pieces(listing) if self.slow else listing

    async def readdirplus(
        self, ctx: Context, node: Node, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        listing = self._entries(handle)
        return self._in_pieces(listing) if self.slow else listing

    readdir.__dict__["quick"] = readdirplus.__dict__["quick"] = True

    def _names(self, handle: OpenFolder) -> Iterator[DirEntry]:
        hidden = self.tree.hidden
        device = self.tree.device
        with os.scandir(handle.descriptor.number) as found:
            for item in found:
                number = item.inode()
                if hidden and (device, number) in hidden:
                    continue
                yield DirEntry(item.name, _kind(item), number)

    def _entries(self, handle: OpenFolder) -> Iterator[DirEntry]:
        tree, parent, number = self.tree, handle.node, handle.descriptor.number
        with os.scandir(number) as found:
            for item in found:
                name = item.name
                try:
                    st = item.stat(follow_symlinks=False)
                    node = tree.known(st, parent, name)
                except OSError:  # gone meanwhile, or not to be seen
                    continue
                entry = self.entry(node, st, parent, number)
                yield DirEntry(name, entry.attr.mode, entry.attr.ino, entry)

    async def _in_pieces(self, listing: Iterator[DirEntry]) -> AsyncIterator[DirEntry]:
        def some() -> list[DirEntry]:
            return list(islice(listing, _LISTED_AT_ONCE))

        while piece := await self.in_thread(some):
            for item in piece:
                yield item

    @quick
    async def releasedir(self, ctx: Context, node: Node, handle: Any) -> None:
        pass  # its descriptor is closed when nothing lists it any more

    @quick
    async def fsyncdir(self, ctx: Context, node: Node, handle: Any, data_only: bool) -> None:
        if not self.readonly:
            await self.in_thread(os.fsync, handle.descriptor.number)


def _kind(item: os.DirEntry[str]) -> int:
    """The type bits of a name, without asking the host more."""
    if item.is_symlink():
        return stat.S_IFLNK
    if item.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if item.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return item.stat(follow_symlinks=False).st_mode & 0o170000
