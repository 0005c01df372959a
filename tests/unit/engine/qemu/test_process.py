"""QEMU's process: confined, and dead when its owner is. `cat` and `sh` stand for QEMU."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from sandlot.engine.config import DISK_OFFSET
from sandlot.engine.qemu.process import MonitorProcess, confined, guarded, launcher
from sandlot.errors import EngineUnavailable


def test_the_command_names_owner_and_paths() -> None:
    words = confined(["/usr/bin/qemu", "-x"], [Path("/k")], [Path("/ram")])
    assert words[:3] == [str(launcher()), "--parent", str(os.getpid())]
    assert words[3:5] == ["--guard-below", str(DISK_OFFSET)]
    assert words[-3:] == ["--", "/usr/bin/qemu", "-x"]
    pairs = list(itertools.pairwise(words))
    assert ("--read", "/k") in pairs
    assert ("--write", "/ram") in pairs
    assert ("--write", "/k") not in pairs


async def test_no_new_privileges_no_core_and_its_descriptors() -> None:
    reader, writer = os.pipe()
    try:
        script = f"grep NoNewPrivs /proc/self/status; ulimit -c; echo passed >&{writer}; exit 3"
        process = await MonitorProcess.start(["/bin/bash", "-c", script], [writer], [], [])
        assert await process.wait() == 3
        assert os.read(reader, 99) == b"passed\n"
        assert process.messages().split() == ["NoNewPrivs:", "1", "0"]
        process.close()
    finally:
        os.close(reader)
        os.close(writer)


async def test_killing_is_seen() -> None:
    process = await MonitorProcess.start(["/bin/sleep", "60"], [], [], [])
    assert process.exit_status is None
    process.kill()
    assert await process.wait() == -9
    process.kill()
    process.close()


def test_a_wrong_parent_is_refused() -> None:
    done = subprocess.run([str(launcher()), "--parent", "1", "--", "/bin/true"], check=False)
    assert done.returncode == 125


HOLES = """
import ctypes, errno, os, sys
PUNCH = 3  # and keep the size
libc = ctypes.CDLL(None, use_errno=True)
def call(mode, offset, length):
    failed = libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
    return ctypes.get_errno() if failed else 0
fd, high = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2])
for offset in (0, 4096, high - 4096):
    assert call(PUNCH, offset, 1 << 20) == 0, offset  # it only says so
    for mode in (0, 1, 2, 8, 16, 17, 32, 64):
        assert call(mode, offset, 4096) == errno.EOPNOTSUPP, (offset, mode)
assert call(PUNCH, -4096, 4096) == errno.EINVAL
assert os.pread(fd, 8 << 20, 0) == b"m" * (8 << 20)
full = os.fstat(fd).st_blocks
assert call(PUNCH, high, 1 << 20) == 0
assert os.fstat(fd).st_blocks <= full - 2000
assert os.pread(fd, 1 << 20, high) == bytes(1 << 20)
"""


async def test_holes_come_only_into_what_lies_high(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(b"m" * (8 << 20))
    with memory.open("r+b") as file:
        file.seek(DISK_OFFSET)
        file.write(b"d" * (2 << 20))
        os.fsync(file.fileno())
    assert guarded()
    argv = [sys.executable, "-c", HOLES, str(memory), str(DISK_OFFSET)]
    # Landlock would take the interpreter's own files away, and is not what is tried here.
    done = subprocess.run(
        [str(launcher()), "--parent", str(os.getpid()), "--guard-below", str(DISK_OFFSET), "--", *argv],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# A program that may not take a filter: prctl(PR_SET_SECCOMP) is refused to it and its children.
REFUSED = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 157, "aarch64": 167}[platform.machine()]
words = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 22),
         (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *word) for word in words))
header = struct.pack("HxxxxxxP", len(words), ctypes.addressof(program))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header) == 0
os.execv(sys.argv[1], [*sys.argv[1:2], "--parent", str(os.getppid()), *sys.argv[2:]])
"""


@pytest.mark.parametrize("limit", ["0", "x", "-1", "4096", str(DISK_OFFSET + 1)])
def test_a_limit_that_cannot_be_kept_starts_nothing(limit: str) -> None:
    parent = str(os.getpid())
    command = [
        str(launcher()),
        "--parent",
        parent,
        "--guard-below",
        limit,
        "--",
        "/bin/echo",
        "ran",
    ]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 125 and done.stdout == b""


def test_without_the_filter_nothing_is_started() -> None:
    tail = ["--guard-below", str(DISK_OFFSET), "--", "/bin/echo", "ran"]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(launcher()), *tail], check=False, capture_output=True
    )
    assert done.returncode == 125 and done.stdout == b"" and b"seccomp" in done.stderr


OWNER = """
import subprocess, sys, os
from sandlot.engine.qemu.process import confined
child = subprocess.Popen(confined(["/bin/sh", "-c", "echo up; exec sleep 60"], [], []))
child.wait()
"""


def test_it_dies_with_a_killed_owner() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()
        # The child holds the pipe too: its end is the end of the child.
        assert select.select([owner.stdout], [], [], 10)[0]
        assert owner.stdout.read() == b""


async def test_what_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.engine.qemu.process.launcher", lambda: None)
    with pytest.raises(EngineUnavailable, match="cannot start /no/such"):
        await MonitorProcess.start(["/no/such"], [], [], [])
