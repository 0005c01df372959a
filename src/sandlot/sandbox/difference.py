"""What differs between the files of two snapshots.

Nothing on the host reads a guest's file system: each snapshot is brought up by itself, without a
network and with its programs frozen, and its agent says what was written over the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sandlot.errors import FileNotDirectory, FileNotFound, SnapshotError, SnapshotMismatch
from sandlot.files.files import Files
from sandlot.files.layer import Entry, LayerReader, Parts
from sandlot.files.paths import to_bytes, to_text
from sandlot.sandbox.owned import OwnedMachine
from sandlot.sandbox.restoring import Changes, child_record, make_child, origin_of
from sandlot.sandbox.secrecy import Grants
from sandlot.wire.volumes import Unmount

if TYPE_CHECKING:
    from sandlot.files.info import FileInfo
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.host import Host
    from sandlot.snapshot.store import SnapshotFolder

Change = Literal["added", "removed", "changed", "type"]
# What a sandbox itself writes, anew in each.
_OWN = re.compile(
    rb"(?:etc/(?:hostname|hosts|machine-id|resolv\.conf)|(?:dev|proc|sys|run)(?:/.*)?)"
)


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file on one side, as `FileInfo` has it. `size` is in bytes, 0 but for regular files."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file that is not the same in two snapshots.

    `change` is `added`, `removed`, `changed`, or `type` when it is something else now; `what` says
    of a changed one what differs: `contents`, `mode`, `owner`, `target`. Times and extended
    attributes are not compared.
    """

    path: str
    change: Change
    before: FileState | None
    after: FileState | None
    what: tuple[str, ...] = ()


async def difference(host: Host, before: SnapshotFolder, after: SnapshotFolder) -> list[FileChange]:
    """As `Snapshot.diff`."""
    first, second = before.record().sandbox_record, after.record().sandbox_record
    if first.image_digest != second.image_digest:
        raise SnapshotError(
            f"the snapshots have different images: {first.image!r} and {second.image!r}",
            hint="only what was written over one and the same image can be compared",
        )
    async with contextlib.AsyncExitStack() as stack:
        sides = [
            Side(await stack.enter_async_context(_looked_into(host, folder)))
            for folder in (before, after)
        ]
        for side, record in zip(sides, (first, second), strict=True):
            await side.read(2 * record.disk + (1 << 30))
        return await compare(*sides)


@contextlib.asynccontextmanager
async def _looked_into(host: Host, snapshot: SnapshotFolder) -> AsyncIterator[Files]:
    """The files of a snapshot, in a machine of its own that runs none of its programs.

    With the memory, if that fits this host: what is not on the disk yet is in it.
    """
    origin = origin_of(snapshot)
    if origin.machine is not None:
        try:
            origin.machine.check((await host.engine()).facts)
        except SnapshotMismatch:
            origin = dataclasses.replace(origin, machine=None)
    changes = Changes(hostname="diff", labels={}, volumes={}, plugins=())
    record, _ = await child_record(origin, f"diff-{secrets.token_hex(6)}", changes, Grants())
    record = dataclasses.replace(record, ports=[], command=[], auto_remove=True)
    folder, lock = await make_child(host, origin, record, {})
    try:
        # No gateway listens to it, and it is never thawed.
        owned = await OwnedMachine.restore(host, folder, record)
        for path in owned.had_volumes:
            await owned.session.call(Unmount(volume=path, flags=Unmount.DETACH))

        async def session() -> GuestSession:
            return owned.session

        try:
            yield Files(session, user="root")
        finally:
            await owned.kill()
    finally:
        await asyncio.to_thread(host.sandboxes.remove, folder, lock)


class Side:
    """The files of one snapshot: those written over the image, and whatever is asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.layer = LayerReader(0)
        self._seen: dict[Parts, Entry | None] = {(): Entry("directory", 0, 0, 0)}

    async def read(self, limit: int) -> None:
        """Read what was written, `limit` bytes at most."""
        self.layer = LayerReader(limit)
        stream = self._files.upper_layer()
        try:
            async for data in stream:
                self.layer.feed(data)
        finally:
            await stream.aclose()
        self.layer.finish()

    def names(self) -> set[Parts]:
        """What the layer speaks of."""
        return self.layer.entries.keys() | self.layer.removed

    async def entry(self, path: Parts) -> Entry | None:
        """What there is, or nothing; those above are asked for before."""
        if path not in self._seen:
            self._seen[path] = await self._find(path)
        return self._seen[path]

    async def _find(self, path: Parts) -> Entry | None:
        if path in self.layer.entries:
            return self.layer.entries[path]
        above = await self.entry(path[:-1])
        if path in self.layer.removed or above is None or above.type != "directory":
            return None
        if path[:-1] in self.layer.opaque:
            return None
        try:
            return _entry(await self._files.stat(b"/" + b"/".join(path), follow=False))
        except (FileNotFound, FileNotDirectory):
            return None

    async def below(self, path: Parts) -> list[Parts]:
        """Everything in a folder, the image's with what was written."""
        found = []
        async for info in self._files.walk(b"/" + b"/".join(path)):
            parts = tuple(part for part in to_bytes(info.path).split(b"/") if part)
            found.append(parts)
            self._seen.setdefault(parts, self.layer.entries.get(parts) or _entry(info))
        return found

    async def digest(self, path: Parts, entry: Entry) -> bytes:
        """Of a file's contents."""
        if entry.digest:
            return entry.digest
        found = hashlib.sha256()
        async with await self._files.open(b"/" + b"/".join(path)) as file:
            async for piece in file:
                found.update(piece)
        return found.digest()


def _entry(info: FileInfo) -> Entry:
    size = info.size if info.type == "file" else 0
    return Entry(info.type, info.mode, info.uid, info.gid, size, to_bytes(info.target or "?")
                 if info.type == "symlink" else b"")  # fmt: skip


async def compare(before: Side, after: Side) -> list[FileChange]:
    """The changes from one side to the other, by path."""
    names = before.names() | after.names()
    walked: set[Parts] = set()
    waiting = sorted(names)
    changes = []
    while waiting:
        more: set[Parts] = set()
        for path in waiting:
            if _OWN.fullmatch(b"/".join(path)):
                continue
            old, new = await before.entry(path), await after.entry(path)
            for side, here, there in ((before, old, new), (after, new, old)):
                # A folder of which the other side has nothing: also what the image has in it.
                hidden = there is None or there.type != "directory"
                other = after if side is before else before
                if here is not None and here.type == "directory" and (
                    hidden or path in other.layer.opaque
                ) and not any(path[:count] in walked for count in range(len(path) + 1)):  # fmt: skip
                    walked.add(path)
                    more |= set(await side.below(path)) - names
            found = await _change(path, before, old, after, new)
            if found is not None:
                changes.append(found)
        names |= more
        waiting = sorted(more)
    return sorted(changes, key=lambda change: to_bytes(change.path))


async def _change(
    path: Parts, before: Side, old: Entry | None, after: Side, new: Entry | None
) -> FileChange | None:
    what: list[str] = []
    kind: Change = "changed"
    if old is None and new is None:
        return None
    if old is None or new is None:
        kind = "added" if old is None else "removed"
    elif old.type != new.type:
        kind = "type"
    else:
        if old.size != new.size or (
            old.type == "file" and await before.digest(path, old) != await after.digest(path, new)
        ):
            what.append("contents")
        if old.mode != new.mode and old.type != "symlink":
            what.append("mode")
        if (old.uid, old.gid) != (new.uid, new.gid):
            what.append("owner")
        if old.target != new.target:
            what.append("target")
        if not what:
            return None
    return FileChange(
        path=to_text(b"/" + b"/".join(path)), change=kind, before=_state(old), after=_state(new),
        what=tuple(what),
    )  # fmt: skip


def _state(entry: Entry | None) -> FileState | None:
    if entry is None:
        return None
    return FileState(
        type=entry.type, mode=entry.mode, uid=entry.uid, gid=entry.gid, size=entry.size,
        target=to_text(entry.target),
    )  # fmt: skip
