"""Changing one's own file that has no write bit: the guest's root may, and so must its host's user."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TypeVar

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.tree import Descriptor

T = TypeVar("T")


def chmod(exact: Descriptor, mode: int) -> None:
    """Change the mode of the very inode of a descriptor, also of one that only names it."""
    if syscalls.has_proc():
        os.chmod(f"{syscalls.PROC}{exact.number}", mode)
    else:
        os.fchmod(exact.number, mode)


def forced(exact: Descriptor, change: Callable[[], T]) -> T:
    """Do something that needs the write bit of a file, lending it that bit where it is our own."""
    try:
        return change()
    except PermissionError:
        st = os.fstat(exact.number)
        if st.st_uid != os.geteuid() or st.st_mode & stat.S_IWUSR or stat.S_ISLNK(st.st_mode):
            raise
        mode = stat.S_IMODE(st.st_mode)
        chmod(exact, mode | stat.S_IWUSR)
        try:
            return change()
        finally:
            chmod(exact, mode)


def writing(exact: Descriptor, change: Callable[[str], T]) -> T:
    """Change something of the very inode of a descriptor, by a path that leads to it."""
    path = f"{syscalls.PROC}{exact.number}"
    return forced(exact, lambda: change(path))
