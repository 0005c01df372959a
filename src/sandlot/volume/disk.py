"""Named volumes that are disks: a sparse file with an ext4 file system, for one machine at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sandlot.engine.config import DISK_OFFSET
from sandlot.errors import HostError, ResourceError

_BLOCK = 4096


def format_disk(path: Path, size: int) -> None:
    """Make an empty file system of `size` bytes in a new file, from DISK_OFFSET on. Blocking.

    Raises:
        HostError: `mke2fs` is missing, or fails.
        ResourceError: the host's file system has no files of that length.
    """
    program = shutil.which(
        "mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/opt/homebrew/sbin"
    )
    if program is None:
        raise HostError("`mke2fs` was not found", hint="sudo apt-get install e2fsprogs")
    size = size // _BLOCK * _BLOCK
    try:
        with path.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(DISK_OFFSET + size)
    except OSError as error:
        raise ResourceError(
            f"a disk of {size} bytes cannot be made: {error.strerror}",
            hint="set SANDLOT_DATA to a folder on ext4, xfs or btrfs; see `ulimit -f` too",
        ) from error
    options = f"offset={DISK_OFFSET},lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    done = subprocess.run(
        [program, "-q", "-F", "-t", "ext4", "-m", "0", "-b", str(_BLOCK), "-L", "sandlot",
         "-E", options, str(path), str(size // _BLOCK)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise HostError(f"mke2fs failed: {done.stderr.decode(errors='replace').strip()}")
