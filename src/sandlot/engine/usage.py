"""What a machine's process uses on the host, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from sandlot.engine.base import MachineStats


def usage(pid: int) -> MachineStats:
    """Memory and processor time of a process; zeros where they cannot be known."""
    return MachineStats(_private_bytes(pid), cpu_seconds(pid))


def own_memory(pid: int) -> int:
    """Memory that a process has written to, in bytes; 0 where it cannot be known.

    Other than `private_bytes` it leaves out what is mapped from files and can be had again, and
    costs no walk through all of the memory, which takes milliseconds.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    _, found, rest = status.partition("RssAnon:")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else 0


def _private_bytes(pid: int) -> int:
    """Private memory of a process in bytes (Linux: smaps_rollup), 0 where it cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    wanted = ("Private_Clean:", "Private_Dirty:")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has spent, 0 where it cannot be known."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
