"""Checks the health of members as long as somebody watches: `up` in the foreground."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from sandlot.errors import SandboxError
from sandlot.fleet.executing import Tell
from sandlot.fleet.health import Judge, check, last_words
from sandlot.fleet.spec import FleetSpec, Member
from sandlot.fleet.state import reached
from sandlot.sandbox.sizes import parse_duration

Stop: TypeAlias = Callable[[list[str]], Awaitable[object]]


def dependents(spec: FleetSpec, name: str) -> list[str]:
    """The members that need this one to be healthy, and those that need them."""
    found: list[str] = []
    waiting = [name]
    while waiting:
        needed = waiting.pop(0)
        for each in spec.members.values():
            condition = each.needs.get(needed)
            matters = (
                condition == "healthy" if needed == name else condition in ("started", "healthy")
            )
            if matters and each.name not in found and each.name != name:
                found.append(each.name)
                waiting.append(each.name)
    return found


async def watch(spec: FleetSpec, say: Tell, stop: Stop) -> None:
    """Check every member that has a check at its interval, until this is cancelled.

    One that becomes unhealthy is told with the reason and its last lines, and those that need it
    are stopped. Members with an idle_timeout are left alone: a check would keep them awake.
    """
    async with asyncio.TaskGroup() as group:
        for member in spec.members.values():
            if member.health is not None and member.model.idle_timeout is None:
                for sandbox in member.sandboxes:
                    group.create_task(_watch(spec, member, sandbox, say, stop))


async def _watch(spec: FleetSpec, member: Member, name: str, say: Tell, stop: Stop) -> None:
    assert member.health is not None
    pause = parse_duration(member.health.interval) or 5.0
    # It is up: the period of its start is over.
    health = member.health.model_copy(update={"start_period": "0"})
    judge = Judge(health, time.monotonic())
    told = False
    while True:
        await asyncio.sleep(pause)
        try:
            async with reached(name) as sandbox:
                if sandbox.info().status != "running":
                    continue
                reason = await check(sandbox, member.health)
                words = await last_words(sandbox) if reason else ""
        except SandboxError:
            continue  # it is stopped or made anew at this moment
        if not reason:
            if told:
                say(name, "healthy again")
            judge, told = Judge(health, time.monotonic()), False
        elif judge.failed(time.monotonic()) and not told:
            told = True
            say(name, f"unhealthy: {reason}{chr(10) + words if words else ''}")
            if affected := dependents(spec, member.name):
                await stop(affected)
