from __future__ import annotations

import stat
from pathlib import Path

from sandlot.image.erofs import ErofsWriter
from sandlot.image.mountpoints import add_mount_points
from sandlot.image.tree import Node, Tree


def completed(tmp_path: Path, tree: Tree) -> dict[bytes, Node]:
    add_mount_points(tree)
    with (tmp_path / "image").open("w+b") as file:
        ErofsWriter().finish(tree, file.fileno())
    return dict(tree.walk())


def test_an_empty_tree_gets_them_all(tmp_path: Path) -> None:
    found = completed(tmp_path, Tree())
    assert {b"dev", b"etc", b"proc", b"run", b"sys", b"tmp", b"etc/hosts"} < found.keys()
    assert stat.S_IMODE(found[b"tmp"].mode) == 0o1777
    assert stat.S_ISREG(found[b"etc/machine-id"].mode)


def test_what_is_there_stays(tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"tmp", Node(stat.S_IFDIR | 0o700))
    tree.add(b"etc/hosts", Node(stat.S_IFLNK | 0o777, target=b"/run/hosts"))
    tree.add(b"run", Node(stat.S_IFLNK | 0o777, target=b"var/run"))
    found = completed(tmp_path, tree)
    assert stat.S_IMODE(found[b"tmp"].mode) == 0o700
    assert found[b"etc/hosts"].is_symlink
    assert found[b"run"].is_symlink


def test_an_etc_that_is_no_folder_is_left_alone(tmp_path: Path) -> None:
    tree = Tree()
    tree.add(b"etc", Node(stat.S_IFLNK | 0o777, target=b"nowhere"))
    assert not any(path.startswith(b"etc/") for path in completed(tmp_path, tree))
