"""Joining the layers of a running machine's disk when they are many, while nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sandlot.errors import SandboxError
from sandlot.snapshot.memory import DEEPEST

if TYPE_CHECKING:
    from pathlib import Path

    from sandlot.sandbox.owned import OwnedMachine
    from sandlot.sandbox.owner import Owner
    from sandlot.state.records import SandboxFolder

MOST_LAYERS = 2 * DEEPEST
"""How many layers a disk may have before a save waits until they are joined."""
DELAY = 5.0
"""Seconds from a save until joining begins: saves often follow one another, and what was copied for
a joining that is given up takes room."""
AT_ONCE = 8 << 20
"""Bytes in the layers that are joined while a save waits: it takes no longer than starting to."""


class Joining:
    """The joining of one owner's layers: begun after a save, given up for the next one."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._task: asyncio.Task[None] | None = None
        self._begun = False

    def soon(self) -> None:
        """Begin, if it is worth it; the machine runs on."""
        owned = self._owner.owned
        layers, _ = self._owner.folder.disk_files()
        under_way = self._task is not None and not self._task.done()
        if owned is None or not owned.alive or under_way or len(layers) < DEEPEST:
            return
        self._begun = False
        self._task = asyncio.get_running_loop().create_task(self._run(owned))

    async def _run(self, owned: OwnedMachine) -> None:
        await asyncio.sleep(DELAY)
        self._begun = True
        # Given up, or the machine ended, or its disk is full: the next save begins again.
        with contextlib.suppress(SandboxError, OSError):
            await join(owned, self._owner.folder)

    def forget(self) -> None:
        """The machine has ended."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def give_way(self) -> None:
        """Let nobody join the layers from now on: the disk is about to change. Where they are too
        many, that is waited for, or done, first."""
        owned, folder = self._owner.owned, self._owner.folder
        assert owned is not None
        layers, _ = folder.disk_files()
        task = self._task
        if task is not None:
            if not self._begun:
                task.cancel()
            while not task.done():
                if len(layers) < MOST_LAYERS:
                    await owned.machine.stop_flattening(owned.disk_place)
                # It may be about to begin, and is then not stopped yet.
                await asyncio.wait([task], timeout=0.1)
            self._task = None
            layers, _ = folder.disk_files()
        if len(layers) >= MOST_LAYERS or (len(layers) >= DEEPEST and _taken(layers) <= AT_ONCE):
            await join(owned, folder)


def _taken(layers: list[Path]) -> int:
    """The room that all layers but the lowest take, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in layers[1:])


async def join(owned: OwnedMachine, folder: SandboxFolder) -> None:
    """Have only the lowest layer below the disk of a machine that runs.

    Raises:
        SandboxError: it ended, or this was given up.
    """
    layers, active = folder.disk_files()
    await owned.machine.flatten_disk(owned.disk_place)
    # Until this is written down the layers between are still read, and say nothing new.
    folder.write_disk_files([layers[0].name], active.name)
    for path in layers[1:]:
        path.unlink(missing_ok=True)
