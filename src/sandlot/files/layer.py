"""What was written over an image, read from the stream that the agent sends of it. Sans-io.

The stream is an archive with whiteouts (protocol/README.md, UPPER_LAYER). Contents are hashed as
they come and not kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sandlot.errors import GuestProtocolError, SandboxError
from sandlot.files import archive
from sandlot.files.archive import ArchiveReader, Failure, Member
from sandlot.files.requests import file_error

MAX_ENTRIES = 2_000_000
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_TYPES = {
    archive.FILE: "file", archive.SYMLINK: "symlink", archive.CHAR: "device",
    archive.BLOCK: "device", archive.FOLDER: "directory", archive.FIFO: "fifo",
}  # fmt: skip

Parts = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. `digest` is of a regular one's contents, or empty when they were not read."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    target: bytes = b""
    digest: bytes = b""


class LayerReader:
    """Takes the stream as it comes, of at most `limit` bytes; `finish` when it has ended.

    `entries` are the files that are there, `removed` the names that are not any more, `opaque` the
    folders that show nothing of the image's.
    """

    def __init__(self, limit: int) -> None:
        self.entries: dict[Parts, Entry] = {}
        self.removed: set[Parts] = set()
        self.opaque: set[Parts] = set()
        self._archive = ArchiveReader()
        self._left = limit
        self._member: Member | None = None
        self._hash = hashlib.sha256()

    def feed(self, data: bytes) -> None:
        """Go through what came.

        Raises:
            GuestProtocolError: this is no layer that an agent makes.
            FileError: the agent could not read on.
        """
        self._left -= len(data)
        if self._left < 0:
            raise GuestProtocolError("the guest sent more than its disk can hold")
        for event in self._archive.feed(data):
            if isinstance(event, Member):
                self._end_member()
                self._begin(event)
            elif isinstance(event, Failure):
                raise file_error(event.errno, event.text, event.path.decode(errors="replace"))
            else:
                self._hash.update(event)

    def finish(self) -> None:
        """The stream has ended.

        Raises:
            GuestProtocolError: before its end.
        """
        if not self._archive.complete:
            raise GuestProtocolError("the guest's archive is cut off")
        self._end_member()

    def _begin(self, member: Member) -> None:
        if not member.parts:
            return
        if len(self.entries) + len(self.removed) >= MAX_ENTRIES:
            raise SandboxError(
                f"more than {MAX_ENTRIES} files were written over the image (MAX_ENTRIES)"
            )
        *above, name = member.parts
        if name == _OPAQUE:
            self.opaque.add(tuple(above))
        elif name.startswith(_WHITEOUT):
            self.removed.add((*above, name.removeprefix(_WHITEOUT)))
        elif member.kind == archive.HARD_LINK:
            linked = self.entries.get(archive.split_name(member.target))
            if linked is None:
                raise GuestProtocolError("the guest's archive links to what was not in it")
            self.entries[member.parts] = linked
        else:
            self._member, self._hash = member, hashlib.sha256()

    def _end_member(self) -> None:
        member, self._member = self._member, None
        if member is None:
            return
        kind = _TYPES[member.kind]
        self.entries[member.parts] = Entry(
            kind, member.mode, member.uid, member.gid,
            member.size if kind == "file" else 0,
            member.target if kind == "symlink" else b"",
            self._hash.digest() if kind == "file" else b"",
        )  # fmt: skip
