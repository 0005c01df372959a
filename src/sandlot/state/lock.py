"""Locks that end with their holder: flock(2)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from sandlot.errors import StateError


class FileLock:
    """An exclusive lock on a file, held until `release` or the death of the process."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> FileLock | None:
        """The lock, or None when somebody holds it and `wait` is False.

        Raises:
            StateError: the file cannot be made.
        """
        tries = 5
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                if not path.parent.exists():
                    return None
                raise
            except OSError as error:
                raise StateError(f"cannot lock {path}: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(descriptor)
                if not tries:
                    return None
                tries -= 1  # it may only be somebody who looks whether it is held
                time.sleep(0.01)
                continue
            except BaseException:
                os.close(descriptor)
                raise
            # The file may have been removed between open and flock: then the lock is worth nothing.
            with contextlib.suppress(OSError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return cls(descriptor, path)
            os.close(descriptor)
            if not path.parent.exists():
                return None

    @classmethod
    def adopt(cls, descriptor: int, path: Path) -> FileLock:
        """The lock that another program took and left to this one with an inherited descriptor."""
        os.set_inheritable(descriptor, False)
        return cls(descriptor, path)

    @property
    def descriptor(self) -> int:
        """For a child that is to have the lock; see `hand_over`."""
        return self._descriptor

    def hand_over(self) -> None:
        """Forget the lock without releasing it: a child holds it now."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release(self) -> None:
        """Let others have it. Releasing twice is allowed."""
        if self._descriptor >= 0:
            # Closing alone is not enough: a child between fork and exec still holds a copy.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(path: Path) -> bool:
    """Whether some process holds the lock on this file; creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return True
    FileLock(descriptor, path).release()
    return False


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock on `path`, waiting for it without blocking the event loop."""
    import asyncio  # here: a listing needs locks, and no event loop

    held = FileLock.take(path)
    delay = 0.005
    while held is None:
        # Polled, so that a cancelled waiter leaves no thread behind that takes the lock later.
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, 0.1)
        held = FileLock.take(path)
    try:
        yield
    finally:
        held.release()
