"""The ends that a sandbox comes to by itself: when nobody has used it for long, or its time is over."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sandlot.errors import SandboxError

if TYPE_CHECKING:
    from sandlot.sandbox.owner import Owner


async def watch_idleness(owner: Owner) -> None:
    """Wait until it was idle for its limit, and stop it or let it sleep."""
    limit = owner.record.idle_timeout
    while limit:
        idle = time.monotonic() - owner.last_use()
        if idle < limit:
            await asyncio.sleep(limit - idle)
            continue
        if owner.paused or await _has_jobs(owner):
            owner.touch()
            continue
        if owner.record.idle_action == "hibernate":
            owner.hibernate_soon()
        else:
            owner.stop_soon(f"idle for {limit:g} s")
        return


async def _has_jobs(owner: Owner) -> bool:
    try:
        jobs = await (await owner.session()).jobs()
    except SandboxError:
        return False
    return any(job.flags & job.RUNNING and job.process != owner.main for job in jobs)


async def watch_duration(owner: Owner) -> None:
    """Wait until it ran for as long as it may, and stop it."""
    if limit := owner.record.max_duration:
        now = time.monotonic()
        if owner.deadline is None:
            owner.deadline = now + limit
        await asyncio.sleep(max(owner.deadline - now, 0.0))
        owner.stop_soon(f"ran for {limit:g} s")
