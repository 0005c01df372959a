"""Files of two snapshots, told from what was written over one image."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import FileNotFound
from sandlot.files.info import FileInfo
from sandlot.files.layer import Entry, LayerReader, Parts
from sandlot.sandbox.difference import Side, compare

Tree = dict[Parts, bytes | None]
"""What is in a file system: contents, or None for a folder."""


class Guest:
    """Stands for the `Files` of a sandbox."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.asked = 0

    def _info(self, parts: Parts) -> FileInfo:
        data = self.tree[parts]
        return FileInfo(
            path=(b"/" + b"/".join(parts)).decode(), type="directory" if data is None else "file",
            size=len(data or b""), mode=0o755 if data is None else 0o644, uid=0, gid=0, mtime_ns=0,
        )  # fmt: skip

    @staticmethod
    def _parts(path: bytes) -> Parts:
        return tuple(part for part in path.split(b"/") if part)

    async def stat(self, path: bytes, *, follow: bool) -> FileInfo:
        assert not follow
        self.asked += 1
        if self._parts(path) not in self.tree:
            raise FileNotFound("it is not there", path="", number=2)
        return self._info(self._parts(path))

    async def walk(self, path: bytes) -> AsyncGenerator[FileInfo, None]:
        top = self._parts(path)
        for parts in sorted(self.tree):
            if parts[: len(top)] == top and parts != top:
                yield self._info(parts)

    async def open(self, path: bytes) -> Any:
        data = self.tree[self._parts(path)]
        assert data is not None
        contents: bytes = data

        class File:
            async def __aenter__(self) -> File:
                return self

            async def __aexit__(self, *_: object) -> None:
                pass

            async def __aiter__(self) -> AsyncGenerator[bytes, None]:
                yield contents

        return File()


def entry(data: bytes | None) -> Entry:
    if data is None:
        return Entry("directory", 0o755, 0, 0)
    return Entry("file", 0o644, 0, 0, len(data), b"", hashlib.sha256(data).digest())


def written(image: Tree, tree: Tree) -> LayerReader:
    """What an overlay notes of a tree over an image."""
    layer = LayerReader(0)
    for path, data in tree.items():
        if path not in image or image[path] != data or (image[path] is None) != (data is None):
            for count in range(1, len(path)):
                layer.entries.setdefault(path[:count], entry(None))
            layer.entries[path] = entry(data)
            if data is None and image.get(path, b"") is not None and path in image:
                layer.opaque.add(path)
    for path in image:
        above_there = all(tree.get(path[:count], b"") is None for count in range(1, len(path)))
        if path not in tree and above_there:
            for count in range(1, len(path)):
                layer.entries.setdefault(path[:count], entry(None))
            layer.removed.add(path)
    return layer


def side(image: Tree, tree: Tree) -> Side:
    made = Side(Guest(tree))  # type: ignore[arg-type]
    made.layer = written(image, tree)
    return made


def whole(tree: Tree) -> Tree:
    """With the folders that the paths need, and nothing below files."""
    made: Tree = {}
    for path, data in sorted(tree.items()):
        if all(made.get(path[:count]) is None for count in range(1, len(path))):
            for count in range(1, len(path)):
                made[path[:count]] = None
            made.setdefault(path, data)
    return made


paths = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(tuple)
trees = st.dictionaries(paths, st.sampled_from([None, b"1", b"2", b"33"]), max_size=8).map(whole)


@given(image=trees, before=trees, after=trees)
def test_all_changes_and_no_others_are_told(image: Tree, before: Tree, after: Tree) -> None:
    found = asyncio.run(compare(side(image, before), side(image, after)))
    expected = {}
    for path in before.keys() | after.keys():
        name = "/" + b"/".join(path).decode()
        if path not in before or path not in after:
            expected[name] = "added" if path in after else "removed"
        elif (before[path] is None) != (after[path] is None):
            expected[name] = "type"
        elif before[path] != after[path]:
            expected[name] = "changed"
    assert {change.path: change.change for change in found} == expected
    assert [change.path for change in found] == sorted(expected, key=str.encode)


async def test_what_has_changed_is_named() -> None:
    image: Tree = {(b"etc",): None, (b"etc", b"passwd"): b"root", (b"etc", b"hostname"): b"x"}
    before, after = side(image, dict(image)), side(image, dict(image))
    path = (b"etc", b"passwd")
    after.layer.entries[b"etc",] = entry(None)
    after.layer.entries[path] = Entry("file", 0o600, 1, 0, 4, b"", hashlib.sha256(b"ROOT").digest())
    after.layer.entries[b"etc", b"hostname"] = entry(b"another")
    (change,) = await compare(before, after)
    assert change.path == "/etc/passwd" and change.change == "changed"
    assert change.what == ("contents", "mode", "owner")
    assert change.before is not None and change.before.mode == 0o644
    assert change.after is not None and (change.after.mode, change.after.uid) == (0o600, 1)
    # The same contents, written again: nothing has changed.
    same = side(image, dict(image))
    same.layer.entries[path] = entry(b"root")
    assert await compare(before, same) == [] and await compare(same, before) == []


async def test_nobody_is_asked_about_what_is_in_a_new_folder() -> None:
    image: Tree = {(b"etc",): None}
    many: Tree = {(b"new",): None, **{(b"new", b"%d" % n): b"x" for n in range(50)}}
    before, after = side(image, dict(image)), side(image, {**image, **many})
    found = await compare(before, after)
    assert len(found) == 51 and before._files.asked == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", [b"a", b"b"])
async def test_links(target: bytes) -> None:
    link = (b"link",)
    sides = [side({}, {}), side({}, {})]
    for each, to in zip(sides, (b"a", target), strict=True):
        each.layer.entries[link] = Entry("symlink", 0o777, 0, 0, 0, to)
    changes = await compare(*sides)
    assert [change.what for change in changes] == ([] if target == b"a" else [("target",)])
