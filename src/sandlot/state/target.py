"""Files of the user's own that are written at their wish: archives of images and of snapshots."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from sandlot.errors import ResourceError, StateError


@contextlib.contextmanager
def target_faults(target: Path) -> Iterator[None]:
    """Say in one line why a file could not be written.

    Raises:
        ResourceError: the disk is full.
        StateError: anything else of the operating system's.
    """
    try:
        yield
    except OSError as error:
        kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StateError
        raise kind(
            f"{target} cannot be written: {error.strerror or error}",
            hint="write to a folder that is yours and has room",
        ) from error
