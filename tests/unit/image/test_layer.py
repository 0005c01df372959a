from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import ImageError
from sandlot.image.contents import ContentsWriter
from sandlot.image.layer import LayerIndex
from sandlot.image.tar import Member
from sandlot.image.tree import Node, Tree


def index_of(path: Path, *members: Member) -> LayerIndex:
    index = LayerIndex()
    with (path / "contents").open("w+b") as file:
        contents = ContentsWriter(file.fileno(), limit=1 << 30)
        for member in members:
            index.add(member, contents)
        contents.close()
        index.blocks = contents.blocks
    return index


def regular(path: bytes, data: bytes = b"") -> Member:
    node = Node(stat.S_IFREG | 0o644, size=len(data))
    return Member(path, node, content=io.BytesIO(data))


def other(path: bytes, kind: int, **fields: object) -> Member:
    node = Node(kind | 0o755)
    for key, value in fields.items():
        setattr(node, key, value)
    return Member(path, node)


def paths(*layers: LayerIndex) -> list[bytes]:
    tree = Tree()
    for layer in layers:
        LayerIndex.decode(layer.encode()).replay(tree)
    return [path for path, _ in tree.walk() if path]


def test_every_kind_comes_back(tmp_path: Path) -> None:
    index = index_of(
        tmp_path,
        other(b"./", stat.S_IFDIR, uid=5),
        regular(b"a", b"x" * 5000),
        other(b"b", stat.S_IFREG, xattrs={b"user.x": b"\0\n", b"security.capability": b"c"}),
        other(b"c", stat.S_IFREG, xattrs={b"user.x": b"\0\n", b"security.capability": b"c"}),
        other(b"s", stat.S_IFLNK, target=b"a", mtime=-5, mtime_ns=7),
        other(b"d/n", stat.S_IFCHR, device=(1, 3)),
        other(b"e", stat.S_IFIFO),
        Member(b"h", None, link=b"./a"),
    )
    tree = Tree()
    LayerIndex.decode(index.encode()).replay(tree)
    found = dict(tree.walk())
    assert found[b""].uid == 5 and index.blocks == 2 and len(index._xattrs) == 1
    assert found[b"h"] is found[b"a"] and found[b"a"].size == 5000
    assert found[b"b"].xattrs == {b"user.x": b"\0\n", b"security.capability": b"c"}
    assert (found[b"s"].target, found[b"s"].mtime, found[b"s"].mtime_ns) == (b"a", -5, 7)
    assert found[b"d/n"].device == (1, 3) and found[b"d/n"].size == 0
    assert [node.source for node in found.values() if not node.is_dir] == [1] * 7
    assert paths() == [] == paths(index_of(tmp_path))


def test_marks(tmp_path: Path) -> None:
    low = index_of(
        tmp_path, regular(b"a/1"), regular(b"a/2"), regular(b"b/1"), regular(b"b/2"), regular(b"c")
    )
    top = index_of(
        tmp_path, regular(b"b/3"), regular(b"a/.wh.1"), regular(b"b/.wh..wh..opq"),
        regular(b".wh.c"), regular(b".wh.none"), regular(b".wh..wh.plnk"), regular(b"c"),
    )  # fmt: skip
    assert paths(low, top) == [b"a", b"a/2", b"b", b"b/3", b"c"]
    gone = index_of(tmp_path, regular(b".wh..wh..opq"))
    assert paths(low, gone) == []


@pytest.mark.parametrize(
    "member",
    [
        regular(b"a/.wh."), regular(b".wh.."), regular(b"x/.wh..."), regular(b"../x"),
        Member(b"h", None, link=b"../x"), other(b"s", stat.S_IFLNK),
        other(b"d", stat.S_IFCHR, device=(1 << 12, 0)), other(b"d", stat.S_IFBLK, device=(0, -1)),
        other(b"o", stat.S_IFIFO, uid=-1), other(b"o", stat.S_IFIFO, mtime=1 << 63),
        other(b"o", stat.S_IFREG, xattrs={b"user." + b"n" * 300: b""}),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, member: Member) -> None:
    with pytest.raises(ImageError):
        index_of(tmp_path, member)


def test_a_link_to_nothing_is_seen_when_the_layers_below_are_known(tmp_path: Path) -> None:
    link = index_of(tmp_path, Member(b"h", None, link=b"below"))
    assert paths(index_of(tmp_path, regular(b"below")), link) == [b"below", b"h"]
    with pytest.raises(ImageError, match="missing"):
        paths(link)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_damage_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    index = index_of(
        tmp_path_factory.getbasetemp(), regular(b"a", b"x"),
        other(b"b", stat.S_IFREG, xattrs={b"user.x": b"v"}), Member(b"h", None, link=b"a"),
    )  # fmt: skip
    data = bytearray(index.encode())
    at %= len(data)
    if data[at] == byte:
        return
    data[at] = byte
    for damaged in (bytes(data), index.encode()[:at]):
        with pytest.raises(ImageError, match="damaged"):
            LayerIndex.decode(damaged).replay(Tree())
