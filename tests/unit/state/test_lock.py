"""Locks that end with their holder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandlot.errors import StateError
from sandlot.state.lock import FileLock, is_held, locked

HOLDER = """
import sys
from pathlib import Path
from sandlot.state.lock import FileLock
held = FileLock.take(Path(sys.argv[1]))
print("held" if held else "taken", flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen[bytes]:
    """Another process that has the lock until its input ends or it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock.take(path)
    assert lock is not None
    assert is_held(path)
    assert FileLock.take(path) is None
    lock.release()
    lock.release()
    assert not is_held(path)
    again = FileLock.take(path)
    assert again is not None
    again.release()


def test_asking_creates_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold(path) as holder:
        assert is_held(path)
        assert FileLock.take(path) is None
        holder.kill()
        holder.wait()
    lock = FileLock.take(path)
    assert lock is not None
    lock.release()


def test_a_lock_whose_file_was_removed_is_worth_nothing(tmp_path: Path) -> None:
    """Who waited for it gets a lock on the file that is there now."""
    path = tmp_path / "lock"
    first = FileLock.take(path)
    assert first is not None
    got: list[FileLock | None] = []
    waiter = threading.Thread(target=lambda: got.append(FileLock.take(path, wait=True)))
    waiter.start()
    path.unlink()
    first.release()
    waiter.join()
    assert got[0] is not None
    assert FileLock.take(path) is None
    got[0].release()


def test_no_folder_means_no_lock(tmp_path: Path) -> None:
    assert FileLock.take(tmp_path / "gone" / "lock") is None


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateError, match="cannot lock"):
        FileLock.take(tmp_path / "lock")


async def test_waiting_does_not_block_and_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    async def worker(name: str) -> None:
        async with locked(path):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(*(worker(name) for name in "abc"))
    assert [line.split()[1] for line in order] == ["in", "out"] * 3
    held = FileLock.take(path)
    assert held is not None
    waiting = asyncio.ensure_future(worker("late"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.release()
    assert not is_held(path)


def test_the_lock_is_not_inherited(tmp_path: Path) -> None:
    lock = FileLock.take(tmp_path / "lock")
    assert lock is not None
    assert not os.get_inheritable(lock._descriptor)
    lock.release()
