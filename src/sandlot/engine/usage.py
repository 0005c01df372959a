"""What a machine's process uses on the host, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from sandlot.engine.base import MachineStats


def usage(pid: int) -> MachineStats:
    """Memory and processor time of a process; zeros where they cannot be known."""
    return MachineStats(_private_bytes(pid), _cpu_seconds(pid))


def _private_bytes(pid: int) -> int:
    """Private memory of a process in bytes (Linux: smaps_rollup), 0 where it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    wanted = ("Private_Clean:", "Private_Dirty:")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


def _cpu_seconds(pid: int) -> float:
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
