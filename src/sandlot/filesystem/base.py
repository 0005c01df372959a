"""The seam `FileSystem`: what a volume is, in FUSE's terms.

    class Greeting(FileSystem):
        async def lookup(self, ctx, parent, name):
            if name == "hello":
                return Entry("hello", Attr(stat.S_IFREG | 0o444, size=3))
            raise FileNotFoundError(name)

        async def read(self, ctx, node, handle, offset, size):
            return b"hi\n"[offset : offset + size]

The life of a volume: the guest's kernel looks names up, beginning at `root`, and gets nodes. A node
is any object that can be a key of a dict; it is told by number to the guest, and kept for it until
the guest forgets it. Files are opened and closed again; what `open` returned as handle is given to
everything that is done with the open file. Nothing else is expected to be called in any order, and
a guest that was killed closes nothing: `release` is called then for what is still open.

One object may be mounted in several sandboxes, and twice in one. Its methods are called in the event
loop of the program, any number at the same time; what takes long belongs into a thread
(`asyncio.to_thread`). What a method raises becomes the errno that the guest's program sees: an
`OSError` its own, `Refuse` EACCES, anything else EIO, with its traceback in the log
`sandlot.filesystem`. A method that takes longer than `operation_timeout` is cancelled (ETIMEDOUT).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any, BinaryIO, TypeVar

from sandlot.errors import ConfigError
from sandlot.filesystem.types import (
    Attr,
    Buffer,
    Context,
    DirEntry,
    Entry,
    Lock,
    MountPoint,
    Opened,
    SetAttr,
    Statistics,
)

F = TypeVar("F", bound=Callable[..., Any])

CACHES = ("coherent", "fast", "none")
"""What the guest may keep: `coherent` as long as nobody else changes it, `fast` also what it wrote
and has not sent yet, `none` nothing."""


def quick(method: F) -> F:
    """Say of a method that it hardly ever waits: it is then run without a task of its own."""
    method.__dict__["quick"] = True
    return method


def idle(method: F) -> F:
    """Say of a `flush` that it does nothing."""
    method.__dict__["idle"] = True
    return method


def unsupported(what: str) -> OSError:
    """What a file system says that cannot do something."""
    return OSError(errno.ENOSYS, f"{what} is not implemented by this file system")


class FileSystem:
    """Base of all file systems: override what yours can do.

    Attributes:
        cache: what the guest may keep, one of `CACHES`.
        operation_timeout: after how many seconds a method is cancelled; 0 for never.
        readonly: the guest's kernel refuses to write.
    """

    cache: str = "coherent"
    operation_timeout: float = 60.0
    readonly: bool = False
    remote_locks: bool = False
    """Whether `setlk` is asked, so that locks hold between sandboxes too; else the guest's kernel
    keeps them to itself."""

    lists_as_is: bool = True
    """Whether the listings are Sandlot's: those of a class of a user's own may be others each time."""

    opens_as_is: bool = True
    """Whether opening and closing folders is Sandlot's as well."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.lists_as_is = all(
            getattr(cls, name).__module__.startswith("sandlot.")
            for name in ("readdir", "readdirplus")
        )
        cls.opens_as_is = cls.lists_as_is and all(
            getattr(cls, name).__module__.startswith("sandlot.")
            for name in ("opendir", "releasedir", "fsyncdir")
        )

    def __init__(self) -> None:
        self.mounts: list[MountPoint] = []

    @property
    def root(self) -> Any:
        """The node that is mounted."""
        return "/"

    @property
    def tells_changes(self) -> bool:
        """Whether the guests are told of every change of somebody else's, by `changed`; else they
        look at sizes and times."""
        return False

    @property
    def absent_timeout(self) -> float:
        """For how many seconds the guest may rely on a name not being there."""
        return 0.0

    @property
    def flushes(self) -> bool:
        """Whether `flush` does anything: otherwise the guest does not ask for it."""
        return "idle" not in getattr(type(self).flush, "__dict__", {})

    @property
    def unopened(self) -> bool:
        """Whether the guest need not ask to open and to close a folder before and after it lists
        it: `opendir` and `releasedir` are called with the first and the last of the names."""
        return False

    def is_quick(self, method: str) -> bool:
        """Whether a method hardly ever waits."""
        return "quick" in getattr(getattr(type(self), method), "__dict__", {})

    def attr_timeout(self, node: Any) -> float:
        """For how many seconds the guest may rely on what `getattr` answers."""
        return 1.0

    @property
    def held(self) -> dict[str, Any] | None:
        """How it is made again empty, as JSON, when its contents are a part of the machine: they are
        saved with it (`dump`), and each machine that goes on has its own (`load`). None where they
        are somewhere else, and shared."""
        return None

    def dump(self, file: BinaryIO) -> None:
        """Write the contents of one that is `held`."""
        raise unsupported("dump")

    def load(self, file: BinaryIO) -> None:
        """Have the contents that were dumped; before it is mounted."""
        raise unsupported("load")

    def path_of(self, node: Any) -> str:
        """The path of a node below the root, for people and hooks; empty for the root."""
        return "" if node == self.root else str(node)

    def adopt(self, uid: int, gid: int) -> None:
        """The sandbox's programs run as this user: who keeps no owners shows the files as theirs."""

    def declaration(self) -> dict[str, Any] | None:
        """How any program can make it again, as JSON with a `kind`; None when none can."""
        return None

    # -- mounting --------------------------------------------------------------------------

    async def start(self, mount: MountPoint) -> None:
        """It is being mounted. Call `super().start(mount)`, which remembers where.

        Raises:
            ConfigError: it cannot be mounted there.
        """
        if not hasattr(self, "mounts"):  # a subclass without a call of __init__
            self.mounts = []
        self.mounts.append(mount)

    async def stop(self, mount: MountPoint) -> None:
        """It is mounted there no more."""
        if mount in self.mounts:
            self.mounts.remove(mount)

    def on_host_change(self, callback: Callable[[Any, str, str], object]) -> Callable[[], None]:
        """Have a callback told (kind, path, new path) of what others change in the files below, where
        the file system can know; returns what ends it."""
        return lambda: None

    def changed(self, node: Any, *, data: bool = True, by: Context | None = None) -> None:
        """Tell the guests that somebody else changed a node: what it is, and its `data`.

        Args:
            by: who did it, where it was one of the guests, which knows it already.
        """
        for mount in list(self.mounts):
            if by is None or mount.sandbox != by.sandbox or mount.path != by.volume:
                mount.forget_data(node, data=data)

    def changed_name(self, parent: Any, name: str, *, by: Context | None = None) -> None:
        """Tell the guests that somebody else made, moved or removed a name in a folder."""
        for mount in list(self.mounts):
            if by is None or mount.sandbox != by.sandbox or mount.path != by.volume:
                mount.forget_name(parent, name)

    def save(self, nodes: list[Any], handles: list[tuple[Any, Any, int]]) -> dict[str, Any]:
        """What it takes to know these nodes and open files again, as JSON, for a snapshot.

        Args:
            nodes: nodes that the guest knows.
            handles: open files: node, handle, flags of open(2).
        """
        return {}

    async def recall(
        self, saved: dict[str, Any], nodes: int, handles: int
    ) -> tuple[list[Any], list[Any]]:
        """The nodes and handles that were saved, each None where it is no more.

        Args:
            saved: what `save` returned, of this or of another file system.
            nodes, handles: how many there were.
        """
        return [None] * nodes, [None] * handles

    # -- names and nodes -------------------------------------------------------------------

    async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
        """The node that has a name in a folder.

        Raises:
            FileNotFoundError: there is none.
        """
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    async def getattr(self, ctx: Context, node: Any, handle: Any = None) -> Attr:
        """What a node is; `handle` where the guest has it open."""
        if node == self.root:
            return Attr(stat.S_IFDIR | 0o755, nlink=2)
        return Attr(stat.S_IFREG | 0o644)

    async def setattr(self, ctx: Context, node: Any, changes: SetAttr, handle: Any = None) -> Attr:
        """Change what a node is: mode, owner, size, times; what it is then is returned."""
        raise unsupported("setattr")

    async def readlink(self, ctx: Context, node: Any) -> str:
        """Where a symbolic link leads."""
        raise unsupported("readlink")

    async def mknod(self, ctx: Context, parent: Any, name: str, mode: int, rdev: int) -> Entry:
        """Make a file, a FIFO, a socket or a device; `mode` with type bits."""
        raise unsupported("mknod")

    async def mkdir(self, ctx: Context, parent: Any, name: str, mode: int) -> Entry:
        """Make a folder."""
        raise unsupported("mkdir")

    async def unlink(self, ctx: Context, parent: Any, name: str) -> None:
        """Take a name of what is no folder away."""
        raise unsupported("unlink")

    async def rmdir(self, ctx: Context, parent: Any, name: str) -> None:
        """Remove an empty folder."""
        raise unsupported("rmdir")

    async def symlink(self, ctx: Context, parent: Any, name: str, target: str) -> Entry:
        """Make a symbolic link."""
        raise unsupported("symlink")

    async def rename(
        self, ctx: Context, parent: Any, name: str, new_parent: Any, new_name: str, flags: int
    ) -> None:
        """Give something another name. Flags as renameat2(2): 1 not over something, 2 exchange."""
        raise unsupported("rename")

    async def link(self, ctx: Context, node: Any, new_parent: Any, new_name: str) -> Entry:
        """Give a file one more name."""
        raise unsupported("link")

    # -- open files ------------------------------------------------------------------------

    async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
        """Open a file; `flags` as open(2), without those that are about names."""
        return Opened()

    async def create(
        self, ctx: Context, parent: Any, name: str, mode: int, flags: int
    ) -> tuple[Entry, Opened]:
        """Make a file and open it."""
        entry = await self.mknod(ctx, parent, name, stat.S_IFREG | mode, 0)
        return entry, await self.open(ctx, entry.node, flags)

    async def read(self, ctx: Context, node: Any, handle: Any, offset: int, size: int) -> Buffer:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""
        raise unsupported("read")

    async def write(
        self, ctx: Context, node: Any, handle: Any, offset: int, data: memoryview
    ) -> int:
        """Write bytes; how many is returned. `data` is good only until this returns."""
        raise unsupported("write")

    @quick
    @idle
    async def flush(self, ctx: Context, node: Any, handle: Any) -> None:
        """A descriptor of an open file was closed; there may be others."""

    async def release(self, ctx: Context, node: Any, handle: Any) -> None:
        """The last descriptor of an open file was closed."""

    async def fsync(self, ctx: Context, node: Any, handle: Any, data_only: bool) -> None:
        """What was written is to outlive a power cut."""
        raise unsupported("fsync")

    async def fallocate(
        self, ctx: Context, node: Any, handle: Any, offset: int, length: int, mode: int
    ) -> None:
        """As fallocate(2): room, holes, zeros."""
        raise unsupported("fallocate")

    async def lseek(self, ctx: Context, node: Any, handle: Any, offset: int, whence: int) -> int:
        """The next data (3) or hole (4) from `offset`."""
        raise unsupported("lseek")

    async def copy_file_range(
        self, ctx: Context, node: Any, handle: Any, offset: int, to_node: Any, to_handle: Any,
        to_offset: int, length: int,
    ) -> int:  # fmt: skip
        """Copy within the file system; how much is returned."""
        raise unsupported("copy_file_range")

    # -- folders ---------------------------------------------------------------------------

    async def opendir(self, ctx: Context, node: Any) -> Opened:
        """Open a folder."""
        return Opened()

    async def readdir(
        self, ctx: Context, node: Any, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        """What is in a folder, without `.` and `..`. It is taken piece by piece."""
        return ()

    async def readdirplus(
        self, ctx: Context, node: Any, handle: Any
    ) -> Iterable[DirEntry] | AsyncIterable[DirEntry]:
        """As `readdir`, with an `entry` in each where that is cheap."""
        return await self.readdir(ctx, node, handle)

    async def releasedir(self, ctx: Context, node: Any, handle: Any) -> None:
        """A folder was closed."""

    async def fsyncdir(self, ctx: Context, node: Any, handle: Any, data_only: bool) -> None:
        """The names in a folder are to outlive a power cut."""
        raise unsupported("fsyncdir")

    async def statfs(self, ctx: Context, node: Any) -> Statistics:
        """How full it is."""
        return Statistics()

    # -- attributes, locks -----------------------------------------------------------------

    async def getxattr(self, ctx: Context, node: Any, name: str) -> bytes:
        """The value of an extended attribute.

        Raises:
            OSError: ENODATA when there is none.
        """
        raise unsupported("getxattr")

    async def setxattr(self, ctx: Context, node: Any, name: str, value: bytes, flags: int) -> None:
        """Set one; flags as setxattr(2): 1 must be new, 2 must be there."""
        raise unsupported("setxattr")

    async def listxattr(self, ctx: Context, node: Any) -> list[str]:
        """The names of all."""
        raise unsupported("listxattr")

    async def removexattr(self, ctx: Context, node: Any, name: str) -> None:
        """Remove one."""
        raise unsupported("removexattr")

    async def getlk(self, ctx: Context, node: Any, handle: Any, lock: Lock) -> Lock | None:
        """A lock that is in the way of this one, or None."""
        raise unsupported("getlk")

    async def setlk(self, ctx: Context, node: Any, handle: Any, lock: Lock, wait: bool) -> None:
        """Take, change or release a lock; with `wait` until it can be had.

        Raises:
            BlockingIOError: it cannot be had now.
        """
        raise unsupported("setlk")


def file_system(given: object, of: str) -> FileSystem:
    """What another file system is made of.

    Raises:
        ConfigError: it is no file system.
    """
    if not isinstance(given, FileSystem):
        raise ConfigError(
            f"{of} is made of file systems, and {given!r} is none",
            hint="for a folder: HostFs(path)",
        )
    return given
