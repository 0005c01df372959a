"""Temporary files whose owner's death can be seen, so that anybody may clean up after it.

An owner holds a flock on `<id>.lock`; all that is called `<id>.…` is its own. The lock's
descriptor can be given to child processes: while one of them lives, nothing is taken away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scratch:
    """A place for one build: `file` and `folder` may be created by the owner.

    `lock_fd` is to be inherited by children that work in `folder`.
    """

    file: Path
    folder: Path
    lock_fd: int


Remover = Callable[[Path], None]


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[Scratch]:
    """Own a scratch place under `root` for the time of a `with` block; gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    while True:
        name = secrets.token_hex(8)
        lock = root / f"{name}.lock"
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A reaper may come between the two calls: then the file has lost its name.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                break
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    try:
        yield Scratch(root / f"{name}.file", root / f"{name}.folder", fd)
    finally:
        _remove(root, name, remove_tree)
        os.close(fd)


def reap(root: Path, remove: Remover | None = None) -> int:
    """Remove what dead owners have left under `root`; returns how many they were.

    `remove` deletes a folder; a build in a user namespace leaves files that plain deletion
    cannot touch.
    """
    count = 0
    try:
        locks = sorted(root.glob("*.lock"))
    except FileNotFoundError:
        return 0
    for lock in locks:
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                _remove(root, lock.stem, remove or remove_tree)
                count += 1
        except BlockingIOError:
            continue  # its owner lives
        finally:
            os.close(fd)
    return count


def remove_tree(path: Path) -> None:
    """Delete a folder as far as this user can."""
    shutil.rmtree(path, ignore_errors=True)


def _remove(root: Path, name: str, remove: Remover) -> None:
    (root / f"{name}.file").unlink(missing_ok=True)
    folder = root / f"{name}.folder"
    if folder.exists():
        remove(folder)
    if not folder.exists():  # else a later call may have more luck
        (root / f"{name}.lock").unlink(missing_ok=True)
