"""The writable disk of a sandbox: a sparse copy of an empty ext4 file system of that size."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from sandlot.engine.config import DISK_OFFSET, MIB
from sandlot.errors import HostError, ResourceError
from sandlot.state.lock import locked
from sandlot.state.sparse import copy_sparse


def mke2fs() -> str:
    """The path of `mke2fs`; sbin is not in everybody's PATH.

    Raises:
        HostError: with the command that installs it.
    """
    found = shutil.which(
        "mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/opt/homebrew/sbin"
    )
    if found is None:
        raise HostError("`mke2fs` was not found", hint="sudo apt-get install e2fsprogs")
    return found


async def blank_disk(folder: Path, size: int) -> Path:
    """An empty file system of `size` bytes, made once, to be copied."""
    path = folder / f"ext4-v2-{size}.img"
    if path.exists():
        return path
    async with locked(folder / "lock"):
        if path.exists():
            return path
        partial = folder / f".new-{size}.img"
        try:
            with partial.open("wb") as file:
                file.truncate(size)
            # A small journal, nothing that the guest would have to initialise later, and the two
            # folders of the overlay, which would cost an emulated guest a slow first write.
            with tempfile.TemporaryDirectory(prefix=".tree-", dir=folder) as tree:
                (Path(tree) / "upper").mkdir(mode=0o755)
                (Path(tree) / "work").mkdir(mode=0o700)
                process = await asyncio.create_subprocess_exec(
                    mke2fs(), "-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-L", "sandlot",
                    "-J", "size=16" if size >= 512 * MIB else "size=4", "-O", "^resize_inode",
                    "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-d", tree,
                    str(partial),
                    stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                )  # fmt: skip
                _, said = await process.communicate()
            if process.returncode:
                raise HostError(f"mke2fs failed: {said.decode(errors='replace').strip()}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def begins_at_zero(path: Path) -> bool:
    """Whether a disk's file is a new file system, or a disk as they were before DISK_OFFSET."""
    return path.stat().st_size <= DISK_OFFSET


def copy_disk(source: Path, target: Path) -> None:
    """Put a copy of a disk at `target`, whole or not at all; it begins at DISK_OFFSET there.

    Raises:
        ResourceError: the host's disk is full.
    """
    partial = target.with_name(f".{target.name}.new")
    try:
        copy_sparse(source, partial, at=DISK_OFFSET if begins_at_zero(source) else 0)
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if error.errno == errno.EFBIG:
            raise ResourceError(
                f"the host's file system has no files of {DISK_OFFSET >> 40} TiB, even with holes",
                hint="set SANDLOT_DATA to a folder on ext4, xfs or btrfs; see `ulimit -f` too",
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"no space left on the host for the disk {target}",
                hint="free some, or set SANDLOT_DATA to a folder on another disk",
            ) from error
        raise
