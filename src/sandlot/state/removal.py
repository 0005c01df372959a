"""Removing folders whose contents a guest chose, and volumes that go with a sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Collection
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a folder and all that is in it, as far as that can be done; never through a link.

    Folders are moved up to the top before they are emptied: a tree may be deeper than paths can be
    long, or than descriptors can be open.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return
    try:
        left = os.listdir(top)  # noqa: PTH208 (of a descriptor)
        count = 0
        while left:
            name = left.pop()
            if not _unlink(name, top):
                continue
            try:
                folder = os.open(
                    name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top
                )
            except OSError:
                continue
            try:
                with contextlib.suppress(OSError):
                    os.fchmod(folder, 0o700)
                for inner in os.listdir(folder):  # noqa: PTH208
                    if _unlink(inner, folder):
                        count += 1
                        up = f".up-{os.getpid()}-{count}"
                        with contextlib.suppress(OSError):
                            os.rename(inner, up, src_dir_fd=folder, dst_dir_fd=top)
                            left.append(up)
            finally:
                os.close(folder)
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        path.rmdir()


def _unlink(name: str, folder: int) -> bool:
    """Remove a file; True when it is a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return True
    except PermissionError:  # what macOS says of a folder
        with contextlib.suppress(OSError):
            return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        pass
    return False


def remove_volumes(volumes: Path, names: Collection[str], sandboxes: Path) -> None:
    """Remove volumes that were made with a sandbox that is no more, but for those that others have,
    such as its twins."""
    kept = set()
    for path in sandboxes.glob("[!.]*/sandbox.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            kept |= {each.get("name") for each in json.loads(path.read_text())["volumes"]}
    for name in names:
        if name in kept or "/" in name or name.startswith("."):
            continue
        doomed = volumes / f".rm-{os.urandom(6).hex()}"
        with contextlib.suppress(OSError):
            (volumes / name).rename(doomed)
            remove_tree(doomed)
