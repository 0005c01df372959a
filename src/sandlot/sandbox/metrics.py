"""What a sandbox uses: as its guest sees it, and as the host does."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from sandlot.engine.usage import cpu_seconds, own_memory
from sandlot.state.records import RunState, SandboxFolder, SandboxRecord
from sandlot.wire.messages import Measured


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Sizes in bytes, times in seconds, `time` since 1970.

    `memory_*`, `disk_*`, `cpu_seconds` and `processes` are the guest's view, `host_*` what it costs
    the host: memory that the machine has written to, its processor time, space of its disk file.
    """

    time: float
    uptime: float
    cpus: int
    cpu_seconds: float
    memory_total: int
    memory_used: int
    memory_available: int
    memory_cached: int
    processes: int
    process_limit: int
    disk_total: int
    disk_used: int
    out_of_memory_kills: int
    host_memory: int
    host_cpu_seconds: float
    host_disk: int


def combine(
    measured: Measured, record: SandboxRecord, state: RunState, folder: SandboxFolder
) -> Metrics:
    """Both views in one; what the guest claims is held to what it can have."""
    total = min(measured.memory_total, record.memory)
    disk = min(measured.disk_total, record.disk)
    space = 0
    with contextlib.suppress(OSError):
        space = folder.disk.stat().st_blocks * 512
    return Metrics(
        time=time.time(), uptime=measured.uptime_us / 1e6, cpus=record.cpus,
        cpu_seconds=measured.cpu_us / 1e6, memory_total=total,
        memory_used=min(measured.memory_used, total),
        memory_available=min(measured.memory_available, total),
        memory_cached=min(measured.cached, total),
        processes=measured.processes, process_limit=measured.process_limit, disk_total=disk,
        disk_used=disk - min(measured.disk_free, disk), out_of_memory_kills=measured.oom_kills,
        host_memory=own_memory(state.monitor), host_cpu_seconds=cpu_seconds(state.monitor),
        host_disk=space,
    )  # fmt: skip
