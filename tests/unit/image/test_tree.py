from __future__ import annotations

import stat

import pytest

from sandlot.errors import ImageError
from sandlot.image.tree import MAX_PATH, Node, Tree, split


def file(uid: int = 0) -> Node:
    return Node(stat.S_IFREG | 0o644, uid=uid)


def folder(mode: int = 0o755) -> Node:
    return Node(stat.S_IFDIR | mode)


def symlink(target: bytes) -> Node:
    return Node(stat.S_IFLNK | 0o777, target=target)


def names(tree: Tree) -> list[bytes]:
    return [path for path, _ in tree.walk()]


def test_missing_parents_are_made() -> None:
    tree = Tree()
    tree.add(b"./a//b/./c", file())
    assert names(tree) == [b"", b"a", b"a/b", b"a/b/c"]
    made = tree.find(b"a/b")
    assert made and (made.mode, made.uid) == (stat.S_IFDIR | 0o755, 0)


def test_the_last_entry_wins() -> None:
    tree = Tree()
    tree.add(b"a", file(uid=1))
    tree.add(b"a", file(uid=2))
    tree.add(b"d/x", file())
    tree.add(b"d", folder(0o700))
    assert names(tree) == [b"", b"a", b"d", b"d/x"]
    found = tree.find(b"d")
    assert found and found.mode == stat.S_IFDIR | 0o700
    tree.add(b"d", file())
    assert names(tree) == [b"", b"a", b"d"]
    tree.add(b"d/y", file())
    assert names(tree) == [b"", b"a", b"d", b"d/y"]


def test_the_root_can_be_described() -> None:
    tree = Tree()
    tree.add(b"a", file())
    tree.add(b"./", folder(0o711))
    assert tree.root.mode == stat.S_IFDIR | 0o711 and names(tree) == [b"", b"a"]
    with pytest.raises(ImageError, match="root"):
        tree.add(b".", file())


@pytest.mark.parametrize(
    ("target", "where"),
    [
        (b"usr/lib", b"usr/lib/x"),
        (b"/usr/lib", b"usr/lib/x"),
        (b"../../../usr/lib", b"usr/lib/x"),
        (b"/../..", b"x"),
        (b"not/there/yet", b"not/there/yet/x"),
    ],
)
def test_symbolic_links_in_parents_stay_inside(target: bytes, where: bytes) -> None:
    tree = Tree()
    tree.add(b"lib", symlink(target))
    tree.add(b"lib/x", file())
    found = tree.find(b"lib")
    assert found and found.is_symlink
    assert where in names(tree)


def test_a_link_that_is_replaced_is_no_longer_followed() -> None:
    tree = Tree()
    tree.add(b"a/keep", file())
    tree.add(b"l", symlink(b"a"))
    tree.add(b"l/one", file())
    tree.add(b"l", folder())
    tree.add(b"l/two", file())
    assert names(tree) == [b"", b"a", b"a/keep", b"a/one", b"l", b"l/two"]


def test_symbolic_link_loops() -> None:
    tree = Tree()
    tree.add(b"a", symlink(b"b"))
    tree.add(b"b", symlink(b"a"))
    with pytest.raises(ImageError, match="too many symbolic links"):
        tree.add(b"a/x", file())


@pytest.mark.parametrize(
    "path",
    [b"../x", b"a/../../x", b"/..", b"a\0b", b"n" * 256, b"a/" * MAX_PATH, b"a/.."],
)
def test_hostile_paths(path: bytes) -> None:
    with pytest.raises(ImageError):
        Tree().add(path, file())


def test_split_does_not_care_about_dots() -> None:
    assert split(b"././a/./b/") == (b"a", b"b")
    assert split(b"") == split(b"./") == (b"", b"")
    assert split(b"..a/b..") == (b"..a", b"b..")


def test_hard_links() -> None:
    tree = Tree()
    node = file()
    tree.add(b"a", node)
    tree.link(b"d/b", b"./a")
    assert tree.find(b"d/b") is node
    with pytest.raises(ImageError, match="missing"):
        tree.link(b"c", b"nothing")
    with pytest.raises(ImageError, match="directory"):
        tree.link(b"c", b"d")
    with pytest.raises(ImageError, match=r"'\.\.'"):
        tree.link(b"c", b"../a")
    tree.link(b"a", b"d/b")  # to itself, under another name
    assert tree.find(b"a") is node


def test_remove() -> None:
    tree = Tree()
    tree.add(b"d/a", file())
    tree.remove(b"d/a")
    tree.remove(b"no/such")
    assert names(tree) == [b"", b"d"]
    tree.remove(b"d")
    tree.add(b"d/b", file())
    assert names(tree) == [b"", b"d", b"d/b"]


def test_whiteouts_spare_their_own_layer() -> None:
    tree = Tree()
    for path in (b"d/old", b"d/sub/old", b"d/both", b"e"):
        tree.add(path, file())
    tree.begin_layer()
    tree.add(b"d/new", file())
    tree.add(b"d/both", file(uid=7))
    tree.opaque(b"d")
    assert names(tree) == [b"", b"d", b"d/both", b"d/new", b"e"]
    tree.whiteout(b"e")
    tree.whiteout(b"missing/e")
    assert b"e" not in names(tree)
    tree.begin_layer()
    tree.whiteout(b"d")
    assert names(tree) == [b""]


def test_very_deep_trees_need_no_recursion() -> None:
    tree = Tree()
    tree.add(b"/".join([b"d"] * 16_000), file())
    assert len(names(tree)) == 16_001
    tree.begin_layer()
    tree.whiteout(b"d")
    assert names(tree) == [b""]
