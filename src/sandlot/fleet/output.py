"""The output of several sandboxes as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from sandlot.errors import SandboxNotFound
from sandlot.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from sandlot.sandbox.log import LogEntry

_AHEAD = 1000


async def output(
    names: Sequence[str], *, follow: bool, tail: int | None, since: float
) -> AsyncGenerator[tuple[str, LogEntry], None]:
    """What their commands said, in the order of time, and with `follow` what they say until all
    have stopped. A sandbox that is not there said nothing."""
    sandboxes = []
    for name in names:
        with contextlib.suppress(SandboxNotFound):
            sandboxes.append(await Sandbox.get(name))
    if not follow:
        found: list[tuple[float, str, LogEntry]] = []
        for each in sandboxes:
            said = each.logs(tail=tail, since=since)
            found += [(entry.time, each.name, entry) async for entry in said]
        for _, name, entry in sorted(found, key=lambda piece: piece[:2]):
            yield name, entry
        return
    queue: asyncio.Queue[tuple[str, LogEntry] | None] = asyncio.Queue(_AHEAD)

    async def one(sandbox: Sandbox) -> None:
        try:
            async for entry in sandbox.logs(follow=True, tail=tail, since=since):
                await queue.put((sandbox.name, entry))
        finally:
            await queue.put(None)

    tasks = [asyncio.create_task(one(each)) for each in sandboxes]
    try:
        left = len(tasks)
        while left:
            piece = await queue.get()
            if piece is None:
                left -= 1
            else:
                yield piece
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
