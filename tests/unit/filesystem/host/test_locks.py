from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.filesystem.host import locks
from sandlot.filesystem.locks import with_lock
from sandlot.filesystem.types import NO_LOCK, READ_LOCK, WHOLE_FILE, WRITE_LOCK, Lock
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import OpenFile
from tests.unit.filesystem.host.test_names import failed


async def take(file: OpenFile, lock: Lock, *, wait: bool = False) -> None:
    await file.guest.fs.setlk(file.guest.ctx, file.node, file.handle, lock, wait)


async def blocked(file: OpenFile, lock: Lock) -> Lock | None:
    return await file.guest.fs.getlk(file.guest.ctx, file.node, file.handle, lock)


def write(start: int, end: int, owner: int = 1, pid: int = 0) -> Lock:
    return Lock(start, end, WRITE_LOCK, owner, pid)


def free(start: int = 0, end: int = WHOLE_FILE, owner: int = 1) -> Lock:
    return Lock(start, end, NO_LOCK, owner)


async def two(mounted: Mounted, folder: Path) -> tuple[OpenFile, OpenFile]:
    (folder / "file").write_text("x" * 100)
    one, other = await mounted(), await mounted(sandbox="two")
    return await one.open("file"), await other.open("file")


async def test_locks_hold_between_sandboxes(folder: Path, mounted: Mounted) -> None:
    one, other = await two(mounted, folder)
    await take(one, write(0, 9, owner=1))
    with pytest.raises(BlockingIOError):
        await take(other, write(5, 5, owner=1))  # the same number, of another sandbox
    await take(other, write(10, 20, owner=1))
    found = await blocked(other, write(0, 50, owner=1))
    assert found is not None and (found.start, found.end, found.kind) == (0, 9, WRITE_LOCK)
    await take(one, free())
    assert len(one.guest.fs.locks) == 0
    assert await blocked(other, write(0, 50, owner=1)) is None
    await take(other, write(0, 9, owner=1))
    await other.guest.close()
    await take(one, write(0, WHOLE_FILE))


async def test_owners_in_one_sandbox(folder: Path, mounted: Mounted) -> None:
    file, _ = await two(mounted, folder)
    await take(file, write(0, 9, owner=1, pid=77))
    with pytest.raises(BlockingIOError):
        await take(file, write(0, 0, owner=2))
    found = await blocked(file, write(0, 0, owner=2))
    assert found is not None and found.pid == 77
    await take(file, Lock(0, 9, READ_LOCK, 1))  # it changes its own
    await take(file, Lock(0, 9, READ_LOCK, 2))
    await take(file, free(5, 9, owner=1))
    assert len(file.guest.fs.locks) == 2
    await take(file, free(0, 4, owner=1))
    assert len(file.guest.fs.locks) == 1


async def test_locks_hold_against_programs_of_the_host(folder: Path, mounted: Mounted) -> None:
    file, _ = await two(mounted, folder)
    await take(file, write(0, WHOLE_FILE))
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+')\n"
        "try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(3)\n"
    )

    def other() -> int:
        command = [sys.executable, "-c", program, str(folder / "file")]
        return subprocess.run(command, check=False).returncode

    assert await asyncio.to_thread(other) == 3
    await take(file, free())
    assert await asyncio.to_thread(other) == 0


async def test_flock(folder: Path, mounted: Mounted) -> None:
    one, other = await two(mounted, folder)
    whole = Lock(0, WHOLE_FILE, WRITE_LOCK, 1, whole=True)
    await take(one, whole)
    await take(one, write(0, 9))  # the other kind of lock is another matter
    with pytest.raises(BlockingIOError):
        await take(other, whole)
    with (folder / "file").open() as mine, pytest.raises(BlockingIOError):
        fcntl.flock(mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
    await one.close()  # which ends it, without a word of the guest's kernel
    await take(other, whole)
    await take(other, Lock(0, WHOLE_FILE, NO_LOCK, 1, whole=True))


async def test_waiting(folder: Path, mounted: Mounted) -> None:
    one, other = await two(mounted, folder)
    await take(one, write(0, 9))
    waiting = asyncio.create_task(take(other, write(0, 9), wait=True))
    given_up = asyncio.create_task(take(other, write(0, 9, owner=2), wait=True))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await take(one, free())
    async with asyncio.timeout(60):
        await waiting


async def test_two_that_wait_for_each_other(folder: Path, mounted: Mounted) -> None:
    one, other = await two(mounted, folder)
    same = other.guest
    same.fs = one.guest.fs
    other = await same.open("file")
    await take(one, write(0, 0))
    await take(other, write(1, 1))
    waiting = asyncio.create_task(take(one, write(1, 1), wait=True))
    await asyncio.sleep(0.01)
    with failed(errno.EDEADLK):
        await take(other, write(0, 0), wait=True)
    await take(other, free())
    async with asyncio.timeout(60):
        await waiting


async def test_locks_of_a_file_without_a_name(folder: Path, mounted: Mounted) -> None:
    one, _ = await two(mounted, folder)
    await one.guest.unlink("file")
    await take(one, write(0, 9))
    with pytest.raises(BlockingIOError):
        await take(one, write(0, 9, owner=2))


async def test_locks_in_a_read_only_volume(folder: Path, mounted: Mounted) -> None:
    (folder / "file").touch()
    guest = await mounted(readonly=True)
    file = await guest.open("file", os.O_RDONLY)
    await take(file, Lock(0, 9, READ_LOCK, 1))
    with failed(errno.EBADF):
        await take(file, write(0, 9))
    await take(file, Lock(0, WHOLE_FILE, WRITE_LOCK, 1, whole=True))


async def test_locks_are_bounded(
    folder: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = await two(mounted, folder)
    monkeypatch.setattr(locks, "MOST_OWNERS", 1)
    monkeypatch.setattr(locks, "MOST_RANGES", 2)
    await take(file, write(0, 0))
    await take(file, write(2, 2))
    with failed(errno.ENOLCK):
        await take(file, write(4, 4))
    with failed(errno.ENOLCK):
        await take(file, write(50, 50, owner=2))


class Model:
    """Bytes, each with the kind of lock that it has."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def add(self, lock: Lock) -> None:
        for at in range(lock.start, lock.end + 1):
            self.bytes[at] = lock.kind


ranges = st.builds(
    lambda a, b, k: Lock(min(a, b), max(a, b), k, 1),
    st.integers(0, 20), st.integers(0, 20), st.sampled_from([READ_LOCK, WRITE_LOCK, NO_LOCK]),
)  # fmt: skip


@given(st.lists(ranges, max_size=20))
def test_ranges_are_what_was_locked_last(many: list[Lock]) -> None:
    model = Model()
    have: list[Lock] = []
    for lock in many:
        have = with_lock(have, lock)
        model.add(lock)
    found = {at: r.kind for r in have for at in range(r.start, r.end + 1)}
    assert found == {at: k for at, k in model.bytes.items() if k != NO_LOCK}
    assert sum(r.end - r.start + 1 for r in have) == len(found)
