"""The pages that a process has written over a file that it mapped: here of this very process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from sandlot.engine.memory import PAGE, GuestMemory, buffer, prepare
from sandlot.errors import SandboxError

SIZE = 256 * PAGE


def mapped(path: Path) -> mmap.mmap:
    path.write_bytes(b"f" * SIZE)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), SIZE, flags=mmap.MAP_PRIVATE, prot=3)


def test_only_pages_that_were_written_are_own(tmp_path: Path) -> None:
    memory = mapped(tmp_path / "ram")
    guest = GuestMemory(os.getpid(), tmp_path / "ram", SIZE)
    assert memory[5 * PAGE] == ord("f")  # read: it stays the file's
    assert guest.own() == []
    memory[3 * PAGE] = memory[4 * PAGE + 17] = memory[255 * PAGE] = 1
    runs = guest.own()
    assert runs == [(3, 2), (255, 1)]
    descriptor = os.open(f"/proc/{os.getpid()}/pagemap", os.O_RDONLY)
    try:
        assert guest._read(descriptor) == runs  # what older kernels offer says the same
    finally:
        os.close(descriptor)
    memory.close()


def test_pages_are_copied_to_their_places(tmp_path: Path) -> None:
    memory = mapped(tmp_path / "ram")
    for number in range(0, 256, 2):
        memory[number * PAGE] = number
    guest = GuestMemory(os.getpid(), tmp_path / "ram", SIZE)
    runs = guest.own()
    assert len(runs) == 128
    room = buffer(SIZE)
    prepare(room, runs)
    guest.copy(runs, room)
    for number in range(0, 256, 2):
        assert (
            room[number * PAGE : (number + 1) * PAGE] == memory[number * PAGE : (number + 1) * PAGE]
        )
        assert room[(number + 1) * PAGE] == 0
    memory.close()
    room.close()


def test_more_runs_than_one_call_takes(tmp_path: Path) -> None:
    size = 4096 * PAGE
    (tmp_path / "ram").write_bytes(bytes(size))
    with (tmp_path / "ram").open("rb") as file:
        memory = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=3)
    for number in range(0, 4096, 2):
        memory[number * PAGE] = 7
    guest = GuestMemory(os.getpid(), tmp_path / "ram", size)
    room = buffer(size)
    guest.copy(guest.own(), room)
    assert sum(room[number * PAGE] for number in range(4096)) == 7 * 2048
    memory.close()
    room.close()


def test_another_file_is_not_taken_for_the_memory(tmp_path: Path) -> None:
    memory = mapped(tmp_path / "ram")
    (tmp_path / "other").write_bytes(b"f" * SIZE)
    with pytest.raises(SandboxError, match="not mapped"):
        GuestMemory(os.getpid(), tmp_path / "other", SIZE)
    with pytest.raises(SandboxError, match="not mapped"):
        GuestMemory(os.getpid(), tmp_path / "ram", 2 * SIZE)
    memory.close()


def test_a_process_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(SandboxError, match="cannot be found"):
        GuestMemory(2**22 - 1, Path(__file__), SIZE)


@pytest.mark.parametrize("most", [7, 100, 511, 512, 513, 65536])
def test_each_page_is_told_once_however_many_runs_there_are(tmp_path: Path, most: int) -> None:
    """Also where the kernel's own buffer of regions is full on the way."""
    size = 8192 * PAGE
    with (tmp_path / "ram").open("wb") as file:
        file.truncate(size)
    with (tmp_path / "ram").open("rb") as file:
        memory = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=3)
    guest = GuestMemory(os.getpid(), tmp_path / "ram", size)
    descriptor = os.open(f"/proc/{os.getpid()}/pagemap", os.O_RDONLY)
    try:
        for count in (300, 600, 1100, 2000):
            for number in range(count):
                memory[number * 4 * PAGE] = 1
            expected = [(number * 4, 1) for number in range(count)]
            assert guest._read(descriptor) == expected
            try:
                assert guest._scan(descriptor, most) == expected
            except OSError:
                # Before Linux 6.7 there is nothing to test: `own` reads entry by entry there.
                pytest.skip("this kernel tells page by page only")
    finally:
        os.close(descriptor)
        memory.close()
