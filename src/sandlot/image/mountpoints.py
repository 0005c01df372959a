"""What every root file system needs so that the agent can mount over it without writing first.

An image need not have them, as in Docker. A folder or file that is made in the guest would be a
write to a cold file system there, 40 ms on an emulated machine; in the image it costs nothing.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from sandlot.image.tree import Node

if TYPE_CHECKING:
    from sandlot.image.tree import Tree

_FOLDERS = {b"dev": 0o755, b"etc": 0o755, b"proc": 0o555, b"run": 0o755, b"sys": 0o555,
            b"tmp": 0o1777}  # fmt: skip
_FILES = (b"etc/hostname", b"etc/hosts", b"etc/machine-id", b"etc/resolv.conf")
MOUNT_POINTS = (*_FOLDERS, *_FILES)


def add_mount_points(tree: Tree) -> None:
    """Add what is missing of them, empty; what is there stays as it is, links too."""
    for path, mode in _FOLDERS.items():
        if tree.find(path) is None:
            tree.add(path, Node(stat.S_IFDIR | mode))
    for path in _FILES:
        etc = tree.find(b"etc")
        if etc is not None and etc.is_dir and tree.find(path) is None:
            tree.add(path, Node(stat.S_IFREG | 0o644))
