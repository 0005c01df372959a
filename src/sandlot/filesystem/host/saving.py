"""Nodes and open files of a host folder as JSON, for snapshots, and back again.

Nodes are rows `[row of the folder, name, device, number, stamp]`, folders before what is in them; the
root is row -1. A node is found again by its path. Another inode there (the folder was copied to
another machine, or the file was replaced) is taken for it, too: a program that has the file's name
would find it as well.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Any

from sandlot.filesystem.host.tree import Node, Stamp, Tree

ROOT, MISSING = -1, -2


def save_nodes(root: Node, nodes: Iterable[Node]) -> tuple[list[list[Any]], list[int]]:
    """Rows for nodes and the folders above them, and the row of each node."""
    rows: list[list[Any]] = []
    numbers: dict[Node, int] = {root: ROOT}
    which = []
    for node in nodes:
        chain = []
        here: Node | None = node
        while here is not None and here not in numbers:
            chain.append(here)
            here = here.parent
        for each in reversed(chain):
            above = numbers[each.parent] if each.parent is not None else ROOT
            numbers[each] = len(rows)
            stamp = list(each.stamp) if each.stamp is not None and each.cached else None
            gone = each.gone or above == MISSING
            rows.append([MISSING if gone else above, each.name, *each.key, stamp])
        which.append(numbers[node])
    return rows, which


def recall_nodes(tree: Tree, rows: list[list[Any]]) -> tuple[list[Node | None], list[Node]]:
    """The nodes of rows, None where nothing has the name now; and those that may have changed."""
    found: list[Node | None] = []
    changed: list[Node] = []
    for above, name, device, number, stamp in rows:
        parent = tree.root if above == ROOT else found[above] if above >= 0 else None
        node = _recall(tree, parent, name) if parent is not None else None
        found.append(node)
        if node is None:
            continue
        same = node.key == (device, number)
        if stamp is not None and not node.cached:
            node.cached = True
            node.stamp = _stamp(stamp) if same else (0, 0, -1)
        if stamp is not None or not same or node.kind == stat.S_IFDIR:  # it may have its listing
            changed.append(node)
    return found, changed


def _stamp(saved: list[int]) -> Stamp:
    mtime, ctime, size = saved
    return mtime, ctime, size


def _recall(tree: Tree, parent: Node, name: str) -> Node | None:
    if parent.kind != stat.S_IFDIR:
        return None
    try:
        folder = tree.folder(parent)
        st = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
        return tree.known(st, parent, name)
    except OSError:
        return None
