"""What a guest does with a file system, as short calls on paths."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any, cast

from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.host.tree import Node
from sandlot.filesystem.mount import Mount
from sandlot.filesystem.types import Attr, Context, DirEntry, Entry, SetAttr


class Told:
    """In place of a mount: writes down what it is told."""

    def __init__(self, sandbox: str, path: str) -> None:
        self.sandbox = sandbox
        self.path = path
        self.data: list[tuple[Node, bool]] = []
        self.names: list[tuple[Node, str]] = []

    def forget_data(self, node: Node, *, data: bool = True) -> None:
        self.data.append((node, data))

    def forget_name(self, parent: Node, name: str) -> None:
        self.names.append((parent, name))


class Guest:
    """One sandbox with the file system at /mnt. Keeps every node that it is told."""

    def __init__(self, fs: HostFs, sandbox: str = "one") -> None:
        self.fs = fs
        self.told = Told(sandbox, "/mnt")
        self.nodes: set[Node] = set()
        self.user(0, 0)
        self._sandbox = sandbox

    @classmethod
    async def of(cls, path: Path | HostFs, sandbox: str = "one", **options: Any) -> Guest:
        fs = path if isinstance(path, HostFs) else HostFs(path, **options)
        guest = cls(fs, sandbox)
        await fs.start(cast(Mount, guest.told))
        return guest

    async def close(self) -> None:
        if self.told in cast("list[object]", self.fs.mounts):
            await self.fs.stop(cast(Mount, self.told))

    def user(self, uid: int, gid: int) -> None:
        """Go on as this user."""
        self.ctx = Context(1, uid, gid, self.told.sandbox, "/mnt")

    async def find(self, path: str) -> Node:
        """The node of a path; "" is the root."""
        return (await self.entry(path)).node if path else self.fs.root

    async def entry(self, path: str) -> Entry:
        parent, name = await self.place(path)
        entry = await self.fs.lookup(self.ctx, parent, name)
        self.nodes.add(entry.node)
        return entry

    async def place(self, path: str) -> tuple[Node, str]:
        """The folder of a path, and the name in it."""
        *above, name = path.split("/")
        node = self.fs.root
        for each in above:
            node = (await self.fs.lookup(self.ctx, node, each)).node
            self.nodes.add(node)
        return node, name

    async def stat(self, path: str) -> Attr:
        return await self.fs.getattr(self.ctx, await self.find(path))

    async def set(self, path: str, **changes: Any) -> Attr:
        return await self.fs.setattr(self.ctx, await self.find(path), SetAttr(**changes))

    async def mkdir(self, path: str, mode: int = 0o755) -> Node:
        parent, name = await self.place(path)
        return self._kept(await self.fs.mkdir(self.ctx, parent, name, mode))

    async def mknod(self, path: str, mode: int, rdev: int = 0) -> Node:
        parent, name = await self.place(path)
        return self._kept(await self.fs.mknod(self.ctx, parent, name, mode, rdev))

    async def symlink(self, path: str, target: str) -> Node:
        parent, name = await self.place(path)
        return self._kept(await self.fs.symlink(self.ctx, parent, name, target))

    async def link(self, path: str, new: str) -> Node:
        node = await self.find(path)
        parent, name = await self.place(new)
        return self._kept(await self.fs.link(self.ctx, node, parent, name))

    def _kept(self, entry: Entry) -> Node:
        self.nodes.add(entry.node)
        return cast(Node, entry.node)

    async def unlink(self, path: str) -> None:
        await self.fs.unlink(self.ctx, *await self.place(path))

    async def rmdir(self, path: str) -> None:
        await self.fs.rmdir(self.ctx, *await self.place(path))

    async def rename(self, path: str, new: str, flags: int = 0) -> None:
        old, to = await self.place(path), await self.place(new)
        await self.fs.rename(self.ctx, *old, *to, flags)

    async def create(self, path: str, mode: int = 0o644, flags: int = os.O_RDWR) -> OpenFile:
        parent, name = await self.place(path)
        entry, opened = await self.fs.create(self.ctx, parent, name, mode, flags)
        return OpenFile(self, self._kept(entry), opened.handle, opened.keep_cache)

    async def open(self, path: str | Node, flags: int = os.O_RDWR) -> OpenFile:
        node = await self.find(path) if isinstance(path, str) else path
        opened = await self.fs.open(self.ctx, node, flags)
        return OpenFile(self, node, opened.handle, opened.keep_cache)

    async def write(self, path: str, data: bytes) -> None:
        """Make a file or replace what is in it."""
        file = await self.create(path, flags=os.O_RDWR | os.O_TRUNC)
        await file.write(data)
        await file.close()

    async def read(self, path: str) -> bytes:
        file = await self.open(path, os.O_RDONLY)
        data = await file.read()
        await file.close()
        return data

    async def list(self, path: str = "", *, plus: bool = True) -> dict[str, DirEntry]:
        node = await self.find(path)
        opened = await self.fs.opendir(self.ctx, node)
        method = self.fs.readdirplus if plus else self.fs.readdir
        found = await method(self.ctx, node, opened.handle)
        if isinstance(found, AsyncIterable):
            entries = {entry.name: entry async for entry in found}
        else:
            entries = {entry.name: entry for entry in found}
        await self.fs.releasedir(self.ctx, node, opened.handle)
        return entries


class OpenFile:
    """An open file of a guest's."""

    def __init__(self, guest: Guest, node: Node, handle: Any, kept: bool) -> None:
        self.guest, self.node, self.handle, self.kept = guest, node, handle, kept

    async def write(self, data: bytes, offset: int = 0) -> int:
        return await self.guest.fs.write(
            self.guest.ctx, self.node, self.handle, offset, memoryview(data)
        )

    async def read(self, size: int = 1 << 20, offset: int = 0) -> bytes:
        return bytes(await self.guest.fs.read(self.guest.ctx, self.node, self.handle, offset, size))

    async def stat(self) -> Attr:
        return await self.guest.fs.getattr(self.guest.ctx, self.node, self.handle)

    async def close(self) -> None:
        await self.guest.fs.release(self.guest.ctx, self.node, self.handle)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def kind(attr: Attr) -> int:
    return stat.S_IFMT(attr.mode)
