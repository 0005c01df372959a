"""Whether a sandbox's disk is as it was at an earlier moment, without saving it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandlot.sandbox.owner import Owner


@contextlib.contextmanager
def unnoticed(owner: Owner) -> Iterator[None]:
    """What is asked of the guest in the block is no use of the sandbox, which may become idle."""
    channel = owner.owned.session.channel if owner.owned is not None else None
    before = channel.last_used if channel is not None else 0.0
    try:
        yield
    finally:
        if channel is not None:
            channel.last_used = before


async def mark(owner: Owner) -> str:
    """What stands for the disk at this moment: as long as it is the same, nothing was written to the
    disk. It is empty when the sandbox sleeps or is paused: its programs do nothing then.

    The guest writes out first what it has in memory. Its device counts what it writes, so that this
    says nothing about contents: what was written again as it was counts too.

    Raises:
        SandboxDied: it has ended.
    """
    async with owner.saving:
        owned = owner.owned
        if owned is None or owner.asleep or owner.paused:
            return ""
        with unnoticed(owner):
            await owned.session.freeze(sync=True)
            try:
                count = await owned.machine.writes(owned.disk_place)
            finally:
                await owned.session.thaw()
    return f"{owned.machine.pid}-{count}"
