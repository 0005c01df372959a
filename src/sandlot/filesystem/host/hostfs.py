"""`HostFs`: a folder or a file of the host as a volume."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any

from sandlot.filesystem.base import quick
from sandlot.filesystem.host.attributes import Attributes
from sandlot.filesystem.host.files import File
from sandlot.filesystem.host.locks import AVAILABLE, Locks, Owner
from sandlot.filesystem.host.names import OpenFolder
from sandlot.filesystem.host.saving import ROOT, recall_nodes, save_nodes
from sandlot.filesystem.host.tree import Descriptor, Node, stamp_of
from sandlot.filesystem.types import NO_LOCK, Context, Lock, MountPoint

_TELL_AFTER = 0.2


class HostFs(Attributes):
    """A folder or a file of the host.

        volumes={"/app": HostFs("./src", readonly=True), "/out": HostFs("./out")}

    Nothing that the guest does, and nothing that is renamed or linked on the host meanwhile, leads
    out of the folder. What the guest's root may do but the host must not hear of, such as owners,
    set-user-id bits and devices, is noted beside the files (`user.sandlot.*` attributes).

    Args:
        path: a folder or a file, which must be there.
        readonly: the guest cannot change anything.
        cache: `coherent` shows changes of the host's within a second; `fast` is for a folder that
            nobody else changes meanwhile; `none` asks the host each time.
        owner: user and group that the guest sees as the owner of files that say nothing else; those
            that the sandbox's programs run as when it is None.

    Raises:
        ConfigError: from `check`, and when it is mounted: the path is no such folder or file.
    """

    remote_locks = AVAILABLE

    def __init__(
        self, path: str | os.PathLike[str], readonly: bool = False, cache: str = "coherent", *,
        owner: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(path, readonly, cache, owner=owner)
        self.locks = Locks()

    async def stop(self, mount: MountPoint) -> None:
        self.locks.clear(mount.sandbox, mount.path)
        await super().stop(mount)

    # -- locks -----------------------------------------------------------------------------

    def _who(self, ctx: Context, node: Node, lock: Lock) -> Owner:
        return node.key, ctx.sandbox, ctx.volume, lock.owner, lock.whole

    def _lockable(self, node: Node, handle: Any) -> Descriptor:
        """A descriptor that nobody else has, to lock by."""
        writes = isinstance(handle, File) and handle.writes and not self.readonly
        return self.open_host(node, os.O_RDWR if writes else os.O_RDONLY)[0]

    @quick
    async def getlk(self, ctx: Context, node: Node, handle: Any, lock: Lock) -> Lock | None:
        who = self._who(ctx, node, lock)
        if self.slow:
            return await self.in_thread(
                self.locks.get, who, lock, lambda: self._lockable(node, handle)
            )
        return self.locks.get(who, lock, lambda: self._lockable(node, handle))

    @quick
    async def setlk(self, ctx: Context, node: Node, handle: Any, lock: Lock, wait: bool) -> None:
        who = self._who(ctx, node, lock)

        def open_file() -> Descriptor:
            return self._lockable(node, handle)

        try:
            if self.slow:
                await self.in_thread(self.locks.set, who, lock, open_file)
            else:
                self.locks.set(who, lock, open_file)
        except BlockingIOError:
            if not wait:
                raise
            await self.locks.wait(who, lock, open_file)
        if lock.whole and lock.kind != NO_LOCK and isinstance(handle, File):
            handle.locked = who

    @quick
    async def release(self, ctx: Context, node: Node, handle: Any) -> None:
        if not isinstance(handle, File):
            return
        if handle.locked is not None:  # flock(2) ends with the open file
            self.locks.drop(handle.locked)
        await super().release(ctx, node, handle)

    # -- snapshots -------------------------------------------------------------------------

    def save(self, nodes: list[Any], handles: list[tuple[Any, Any, int]]) -> dict[str, Any]:
        wanted = [*nodes, *(node for node, _, _ in handles)]
        rows, which = save_nodes(self.root, wanted)
        return {
            "rows": rows, "nodes": which[: len(nodes)],
            "handles": [
                [row, "file", handle.flags] if isinstance(handle, File) else [row, "folder", 0]
                for row, (_, handle, _) in zip(which[len(nodes) :], handles, strict=True)
            ],
        }  # fmt: skip

    async def recall(
        self, saved: dict[str, Any], nodes: int, handles: int
    ) -> tuple[list[Any], list[Any]]:
        rows = saved.get("rows")
        if not isinstance(rows, list):  # of another kind of file system
            return [None] * nodes, [None] * handles
        found, changed = recall_nodes(self.tree, rows)

        def node(row: int) -> Node | None:
            return self.root if row == ROOT else found[row]

        known = [node(row) for row in saved["nodes"]]
        opened = [self._recall_handle(node(row), *how) for row, *how in saved["handles"]]
        asyncio.get_running_loop().call_later(_TELL_AFTER, self._tell_changed, changed)
        return list(known), opened

    def _recall_handle(self, node: Node | None, kind: str, flags: int) -> File | OpenFolder | None:
        if node is None:
            return None
        try:
            if kind == "folder":
                return self.opened_folder(node)
            return self.reopened(node, flags)
        except OSError:
            return None

    def _tell_changed(self, nodes: list[Node]) -> None:
        """Have the guest look again at what changed since its machine was saved."""
        for node in nodes:
            try:
                stamp = stamp_of(self.tree.stat(node))
            except OSError:
                continue
            if stamp != node.stamp or stat.S_ISDIR(node.kind):
                node.stamp = stamp
                self.changed(node)
