"""What all parts of `HostFs` stand on: the opened root, what a node is, and what is told to whom."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar

from sandlot.errors import ConfigError
from sandlot.filesystem.base import CACHES, FileSystem
from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.notes import Notes, is_special
from sandlot.filesystem.host.place import Place, open_place
from sandlot.filesystem.host.sweep import Sweep
from sandlot.filesystem.host.tree import Key, Node, Tree, stamp_of
from sandlot.filesystem.host.watch import Callback, Watch
from sandlot.filesystem.types import Attr, Context, Entry, MountPoint

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Served")

THREADS = 16
WATCHED, UNWATCHED, ALONE = 3600.0, 0.5, 3600.0
"""For how many seconds a guest may rely on what it was told: where it is told of changes (and
the host looks once a minute for those that it is not told of, see sweep.py), where it is not, and
where nobody else changes anything."""
LINKED = 1.0
"""The same of a file with hard links: a change by a name elsewhere is not seen."""


def served(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make an operation of a function: at once, or in a thread where each call may wait."""

    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.slow:
            return await self.in_thread(method, self, *args, **kwargs)
        return method(self, *args, **kwargs)

    run.__dict__["quick"] = True
    run.__name__, run.__doc__ = method.__name__, method.__doc__
    return run


class NotThere(OSError):
    """ENOENT that the guest must not remember: nobody would tell it of the name's coming."""


class Served(FileSystem):
    """The base of `HostFs`."""

    def __init__(
        self, path: str | os.PathLike[str], readonly: bool = False, cache: str = "coherent", *,
        owner: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if cache not in CACHES:
            raise ConfigError(f"no cache {cache!r} of a volume", hint=f"one of {', '.join(CACHES)}")
        text = os.fspath(path)
        if not text:
            raise ConfigError("a volume needs a folder", hint="give its path")
        self.source = os.path.abspath(os.path.expanduser(text))
        """Where it is on the host."""
        self.readonly = readonly
        self.cache = cache
        self._coherent = cache == "coherent"
        self._owner = owner
        self._adopted = (0, 0)
        self._place: Place | None = None
        self._notes: Notes | None = None
        self._watch: Watch | None = None
        self._sweep = Sweep(self)
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: list[Callback] = []

    @property
    def owner(self) -> tuple[int, int]:
        """User and group that the guest sees as the owner of files that say nothing else."""
        return self._owner or self._adopted

    def adopt(self, uid: int, gid: int) -> None:
        if not self.mounts:
            self._adopted = uid, gid

    # -- the root --------------------------------------------------------------------------

    def check(self) -> None:
        """Open it, which also happens by itself when it is mounted.

        Raises:
            ConfigError: it is not there, or cannot be a volume.
        """
        if self._place is None:
            self._place = open_place(self.source, readonly=self.readonly)
            self._notes = Notes(self._place.tree)
            if self.cache == "coherent" and not self._place.remote:
                self._watch = Watch(self)

    @property
    def tree(self) -> Tree:
        """The nodes."""
        if self._place is None:
            self.check()
        assert self._place is not None
        return self._place.tree

    @property
    def notes(self) -> Notes:
        """What is noted besides what the host has."""
        if self._notes is None:
            self.check()
        assert self._notes is not None
        return self._notes

    @property
    def watch(self) -> Watch | None:
        """What tells of changes by others; None where nothing does."""
        return self._watch

    @property
    def slow(self) -> bool:
        """Whether every call may wait long, as on network file systems."""
        place = self._place
        return place is not None and place.remote

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def tells_changes(self) -> bool:
        self.check()
        return self._watch is not None and self._watch.works

    @property
    def absent_timeout(self) -> float:
        self.check()
        if self.cache == "none":
            return 0.0
        if self.cache == "fast":
            return ALONE
        return WATCHED if self._watch is not None and self._watch.works else 0.0

    def path(self, node: Any) -> str:
        return self.tree.path(node)

    def is_quick(self, method: str) -> bool:
        self.check()
        return not self.slow and super().is_quick(method)

    def declaration(self) -> dict[str, Any] | None:
        """How any program can make it again; None for a class of a user's own."""
        if not type(self).__module__.startswith("sandlot."):
            return None
        return {
            "kind": "host", "source": self.source, "readonly": self.readonly, "cache": self.cache,
            "owner": list(self._owner) if self._owner else None,
        }  # fmt: skip

    async def start(self, mount: MountPoint) -> None:
        self.check()
        self._loop = asyncio.get_running_loop()
        syscalls.keep_freed_memory()
        await super().start(mount)
        if self._watch is not None:
            self._watch.start(self._loop)
            self._sweep.start(self._loop)
            self.look_into(self.root)

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        if not self.mounts:
            if self._watch is not None:
                self._watch.stop()
            self._sweep.stop()
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None

    async def in_thread(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something that may take long."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sandlot-host-volume")
        loop = asyncio.get_running_loop()
        if kwargs:
            return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
        return await loop.run_in_executor(self._pool, function, *args)

    def refuse_changes(self) -> None:
        """Raises OSError (EROFS) when the guest may only read."""
        if self.readonly:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # -- what a node is --------------------------------------------------------------------

    def attr(self, node: Node, st: os.stat_result, folder: int = -1) -> Attr:
        """What the guest sees of a node, from what it is on the host. `folder` is an open one in
        which it has its name, where that is at hand."""
        uid, gid = self.owner
        mode, rdev = st.st_mode, st.st_rdev
        notes = self._notes
        assert notes is not None
        if notes.present():
            note = notes.find(node) if folder < 0 else notes.found(node.key, folder, node.name)
            if note is not None:
                uid = note.uid if note.uid is not None else uid
                gid = note.gid if note.gid is not None else gid
                if note.mode is not None:
                    own = mode & 0o7777 if note.host != mode & 0o7777 else note.mode & 0o7777
                    kind = mode & 0o170000
                    if is_special(note.mode) and kind == stat.S_IFREG:
                        kind, rdev = note.mode & 0o170000, note.rdev
                    mode = kind | own
        node.mode, node.gid, node.links = mode, gid, st.st_nlink
        if node.cached:
            self._told(node, st)
        elif self._coherent:
            node.stamp = stamp_of(st)
        tree = self.tree
        number = st.st_ino if st.st_dev == tree.device else tree.number(st)
        return Attr(
            mode, number, st.st_size, st.st_nlink, uid, gid, rdev, st.st_atime_ns, st.st_mtime_ns,
            st.st_ctime_ns, st.st_blocks, 4096,
        )  # fmt: skip

    def _told(self, node: Node, st: os.stat_result) -> None:
        """Compare with what the guest has cached of a file."""
        stamp = stamp_of(st)
        if stamp != node.stamp:
            if node.stamp is not None and not node.busy and self._coherent:
                self.changed(node)
            node.stamp = stamp

    def entry(self, node: Node, st: os.stat_result, parent: Node, folder: int = -1) -> Entry:
        """A name's node, and for how long it may be relied on."""
        attr = self.attr(node, st, folder)
        names = self._timeout(parent)
        return Entry(node, attr, names, self._shorter(node, names))

    def _shorter(self, node: Node, most: float) -> float:
        """For how long it may be relied on what a node is, by what the watch does not see."""
        if self._watch is None or most <= UNWATCHED:
            return most
        if node.kind == stat.S_IFDIR:  # what is made in it changes it
            return most if node.watch > 0 else UNWATCHED
        return LINKED if node.links > 1 else most

    def _timeout(self, folder: Node) -> float:
        watch = self._watch
        if watch is None:
            return ALONE if self.cache == "fast" else 0.0 if self.cache == "none" else UNWATCHED
        return WATCHED if folder.watch > 0 else UNWATCHED

    def attr_timeout(self, node: Node) -> float:
        return self._shorter(node, self._timeout(node.parent or node))

    # -- who is told what ------------------------------------------------------------------

    def own(self, ctx: Context, node: Node, st: os.stat_result | None = None, *,
            data: bool = True) -> None:  # fmt: skip
        """The guest changed a node: it need not be told, but the others that have it mounted."""
        watch = self._watch
        if watch is not None:
            node.wrote = watch.round
        if st is not None and self._coherent:
            node.stamp = stamp_of(st)
        if len(self.mounts) > 1:
            self._tell_others(ctx, lambda mount: mount.forget_data(node, data=data))

    def own_name(self, ctx: Context, parent: Node, name: str, key: Key | None) -> None:
        """The guest made a name be this inode, or nothing."""
        watch = self._watch
        if watch is not None:
            parent.wrote, parent.stamp = watch.round, None  # its times are others now
            if parent.watch > 0:
                watch.own_name(parent, name, key)
        if len(self.mounts) > 1:

            def tell(mount: MountPoint) -> None:
                mount.forget_name(parent, name)
                mount.forget_data(parent)  # with its listing

            self._tell_others(ctx, tell)

    def _tell_others(self, ctx: Context, tell: Callable[[MountPoint], None]) -> None:
        others = [
            mount for mount in self.mounts
            if mount.sandbox != ctx.sandbox or mount.path != ctx.volume
        ]  # fmt: skip
        for mount in others:
            if self.slow and self._loop is not None:
                self._loop.call_soon_threadsafe(tell, mount)
            else:
                tell(mount)

    def changed(self, node: Any, *, data: bool = True, by: Context | None = None) -> None:
        if self.slow and self._loop is not None:  # perhaps in a thread
            told = super().changed
            self._loop.call_soon_threadsafe(lambda: told(node, data=data, by=by))
        else:
            super().changed(node, data=data, by=by)

    def look_into(self, folder: Node) -> None:
        """The guest looks into a folder: it is to be told of what others do there."""
        watch = self._watch
        if watch is not None and folder.watch == 0:
            watch.add(folder)

    def on_host_change(self, callback: Callback) -> Callable[[], None]:
        """Have a callback told (kind, path, new path), in the event loop, of what others than the
        guests change in folders that a guest has looked into. Many changes at once are told in part
        only: it is meant for waking those who watch files, not for a record. Returns what ends it."""
        self._callbacks.append(callback)

        def end() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return end

    @property
    def callbacks(self) -> list[Callback]:
        """Who wants to be told of changes on the host."""
        return self._callbacks
