"""Layers that are made on this machine: files put over an image, in the order of a tar stream."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sandlot.build.selection import Placement, follow, kind_of
from sandlot.errors import BuildError
from sandlot.image.tar import Member
from sandlot.image.tree import Node, Tree

if TYPE_CHECKING:
    from sandlot.build.sources import Source
    from sandlot.image.contents import Reader

_WHITEOUT = b".wh."
Owner = tuple[int, int]


class Layering:
    """Puts files over an image's tree and tells every entry of the layer to `put`.

    Paths are those that the user names; they are followed through the image's links, since an
    entry below a link would replace it with a folder. `owner` is who the folders belong to that
    have to be made.
    """

    def __init__(
        self, image: Tree, put: Callable[[Member], object], owner: Owner = (0, 0)
    ) -> None:  # fmt: skip
        self._image = image
        self._put = put
        self._owner = owner
        image.begin_layer()

    def folder(self, path: bytes) -> bytes:
        """The real path of a folder, which is made when it is missing, with all above it."""
        parts, node = follow(self._image, path)
        if node is None:
            for count in range(1, len(parts) + 1):
                here = b"/".join(parts[:count])
                there = self._image.find(here)
                if there is None:
                    self._add(here, Node(stat.S_IFDIR | 0o755, *self._owner))
                elif not there.is_dir:
                    raise BuildError(f"{_shown(here)} is a {kind_of(there)} in the image")
        elif not node.is_dir:
            raise BuildError(f"{_shown(path)} is a {kind_of(node)} in the image, not a folder")
        return b"/".join(parts)

    def put(
        self, placement: Placement, content: Reader | None, *, owner: Owner | None = None,
        mode: int | None = None,
    ) -> None:  # fmt: skip
        """Put a file, a link or a folder where it belongs."""
        node = _copy(placement.node)
        if owner is not None:
            node.uid, node.gid = owner
        if mode is not None and not node.is_symlink:
            node.mode = stat.S_IFMT(node.mode) | mode
        path = placement.path.rstrip(b"/")
        parent, _, name = path.rpartition(b"/")
        if not name:
            return  # the root is what it is
        if name.startswith(_WHITEOUT):
            raise BuildError(f"{_shown(path)} cannot be copied: its name would remove a file")
        if node.is_dir:
            parts, there = follow(self._image, path)
            if there is not None and not there.is_dir:
                raise BuildError(f"{_shown(path)} is a {kind_of(there)} in the image, not a folder")
            if there is not None and placement.merge:
                return
            above, _, name = b"/".join(parts).rpartition(b"/")
            real = self.folder(above)
        else:
            real = self.folder(parent)
            there = self._image.find(real + b"/" + name if real else name)
            if there is not None and there.is_dir:
                raise BuildError(f"{_shown(path)} is a folder in the image, not a {kind_of(node)}")
        self._add(real + b"/" + name if real else name, node, content)

    def unpack(
        self, members: Iterable[Member], target: bytes, *, owner: Owner | None = None
    ) -> None:
        """Put what is in an archive below a folder."""
        root = self.folder(target)
        prefix = root + b"/" if root else b""
        for member in members:
            path = member.path.lstrip(b"/")
            if path.rstrip(b"/") in (b"", b"."):
                continue
            if path.rstrip(b"/").rpartition(b"/")[2].startswith(_WHITEOUT):
                raise BuildError(f"{_shown(path)} in the archive would remove a file")
            if member.node is None:
                link = prefix + (member.link or b"").lstrip(b"/")
                self._image.link(prefix + path, link)
                self._put(replace(member, path=prefix + path, link=link))
                continue
            node = member.node
            if owner is not None:
                node.uid, node.gid = owner
            self._image.add(prefix + path, _copy(node))
            self._put(replace(member, path=prefix + path))

    def _add(self, path: bytes, node: Node, content: Reader | None = None) -> None:
        self._image.add(path, node)
        self._put(Member(path, _copy(node), None, content or io.BytesIO(b"")))


def _copy(node: Node) -> Node:
    return Node(
        node.mode, node.uid, node.gid, node.mtime, node.mtime_ns, node.size, device=node.device,
        target=node.target, xattrs=node.xattrs,
    )  # fmt: skip


def _shown(path: bytes) -> str:
    text = path.decode(errors="replace")
    return "/" + "".join(c if c.isprintable() else "?" for c in text[:200]).lstrip("/")


def content_key(
    placements: Sequence[Placement], digest: Callable[[Node], str], *, owner: Owner | None,
    mode: int | None,
) -> str:  # fmt: skip
    """What the copied files are: two keys are equal when the layers would be, but for times."""
    found = hashlib.sha256()
    for each in placements:
        node = each.node
        fields = [
            each.path.hex(), stat.S_IFMT(node.mode), stat.S_IMODE(node.mode) if mode is None else mode,
            list(owner if owner is not None else (node.uid, node.gid)), node.target.hex(),
            list(node.device), digest(node) if node.is_file else "", each.merge,
            sorted((k.hex(), v.hex()) for k, v in (node.xattrs or {}).items()),
        ]  # fmt: skip
        found.update(json.dumps(fields).encode() + b"\n")
    return found.hexdigest()


def copy_files(
    layering: Layering, source: Source, placements: Sequence[Placement], *, owner: Owner | None,
    mode: int | None,
) -> None:  # fmt: skip
    """Put all of them, with their contents."""
    for each in placements:
        if each.node.is_file:
            with source.open(each.node) as file:
                layering.put(each, file, owner=owner, mode=mode)
        else:
            layering.put(each, None, owner=owner, mode=mode)
