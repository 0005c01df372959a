"""Looks for what a test has left behind in its own process."""

from __future__ import annotations

import os
import time
from pathlib import Path


def children() -> list[str]:
    """The living child processes of this one, in words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (
                (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and "qemu" in command:
            found.append(f"{process.name}: {command[:120]}")
    return found


def open_sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(descriptor).startswith("socket:")  # noqa: PTH115
        except OSError:
            continue
    return count


def assert_nothing_left(state: Path) -> None:
    """Fail when a machine, a mount or a memory window of this process still exists."""
    deadline = time.monotonic() + 5
    while left := children():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)
    mounts = Path("/proc/self/mounts").read_text()
    assert str(state) not in mounts
    windows = [
        d
        for d in Path("/proc/self/fd").iterdir()
        if d.is_symlink() and "sandlot-window" in os.readlink(d)  # noqa: PTH115
    ]
    assert not windows, f"memory windows are still open: {windows}"
