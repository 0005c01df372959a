"""Whether a member works, by its own check."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from sandlot.errors import ExecTimeout, SandboxError
from sandlot.fleet.models import HealthModel
from sandlot.sandbox.sizes import parse_duration

if TYPE_CHECKING:
    from sandlot.sandbox.sandbox import Sandbox

_FIRST_PAUSE = 0.1
_SHOWN = 300


async def check(sandbox: Sandbox, health: HealthModel) -> str:
    """Run the check once; what is wrong, or nothing."""
    try:
        result = await sandbox.exec(list(health.command), timeout=health.timeout, max_output="1M")
    except ExecTimeout:
        return f"its health check took longer than {health.timeout}"
    except SandboxError as error:
        return f"its health check cannot run: {error.message}"
    if result.exit_code == 0:
        return ""
    said = printable((result.stdout + result.stderr)[-_SHOWN:]).strip()
    return f"its health check ended with {result.exit_code}{': ' + said if said else ''}"


class Judge:
    """Counts the checks of one start: pure but for the times that it is told."""

    def __init__(self, health: HealthModel, began: float) -> None:
        grace = 0.0 if health.start_period == "0" else parse_duration(health.start_period) or 0.0
        self._interval = parse_duration(health.interval) or 5.0
        self._retries = health.retries
        self._counts_from = began + grace
        self._last_counted = began
        self._failures = 0
        self._pause = _FIRST_PAUSE

    def failed(self, now: float) -> bool:
        """Count a check that failed; whether it is one too many.

        It is looked more often than each interval as long as nothing was well yet, so that what
        comes up quickly is waited for no longer; one failure is counted in each interval.
        """
        if now >= self._counts_from and now - self._last_counted >= self._interval:
            self._failures += 1
            self._last_counted = now
        return self._failures >= self._retries

    def pause(self) -> float:
        """Seconds until the next check."""
        now, self._pause = self._pause, min(self._pause * 2, self._interval)
        return now


async def until_healthy(sandbox: Sandbox, health: HealthModel) -> str:
    """Wait until its check goes well; why it will not, or nothing."""
    judge = Judge(health, time.monotonic())
    while True:
        reason = await check(sandbox, health)
        if not reason:
            return ""
        if not sandbox.info().state.running:
            return await ended(sandbox)
        if judge.failed(time.monotonic()):
            return reason
        await asyncio.sleep(judge.pause())


async def ended(sandbox: Sandbox) -> str:
    """How a sandbox ended that was to go on."""
    from sandlot.sandbox.ending import why_it_ended

    try:
        state = sandbox.info().state
    except SandboxError:
        return "it was removed"
    return f"it is {why_it_ended(state)}"


async def last_words(sandbox: Sandbox, lines: int = 10) -> str:
    """The last lines of what its command said, each behind its name."""
    said = b"".join([each.data async for each in sandbox.logs(tail=lines)])
    return "\n".join(f"  {sandbox.name} | {line}" for line in printable(said[-4000:]).splitlines())


def printable(data: bytes) -> str:
    """Text of a guest's, without what a terminal would obey."""
    text = data.decode(errors="replace").replace("\r", "")
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)
