"""Folders that the guest lists without having opened them: its kernel was told that it need not, and
asks for names by node and offset only. Each reading is kept from its first request until its end;
`MOST_READINGS` of them, then the one that was used longest ago is forgotten, and begun anew for who
goes on with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandlot.filesystem.known import OpenFile

if TYPE_CHECKING:
    from sandlot.filesystem.listing import Listing
    from sandlot.filesystem.mount import Mount
    from sandlot.filesystem.types import Context

MOST_READINGS = 256


@dataclass(slots=True, eq=False)
class Reading:
    """A folder that is being listed, and by whom."""

    file: OpenFile
    listing: Listing
    pid: int
    keeps: bool
    """Whether the guest may keep the names, until it is told that they have changed."""


class Folders:
    """The readings of one mount."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._readings: dict[Reading, None] = {}  # in the order of use

    async def find(self, ctx: Context, number: int, offset: int) -> Reading:
        """The reading that a request goes on with; a new one at the beginning of a folder.

        Raises:
            OSError: the folder is not there, or cannot be opened.
        """
        found = self._best(ctx, number, offset) if offset else None
        if found is None:
            node = self._mount.node(number)
            opened = await self._mount.fs.opendir(ctx, node)
            file = OpenFile(number, node, opened.handle, 0)
            keeps = opened.keep_cache and self._mount.fs.cache != "none"
            found = Reading(file, self._mount.listing(file), ctx.pid, keeps)
        self._readings.pop(found, None)
        self._readings[found] = None
        if len(self._readings) > MOST_READINGS:
            await self._close(ctx, next(iter(self._readings)))
        return found

    def _best(self, ctx: Context, number: int, offset: int) -> Reading | None:
        """Two that list one folder at a time are told apart by how far they are, and by who asks."""
        best, most = None, -1
        for each in self._readings:
            if each.file.number == number:
                fits = 2 * (each.listing.offset == offset) + (each.pid == ctx.pid)
                if fits >= most:
                    best, most = each, fits
        return best

    async def end(self, ctx: Context, reading: Reading) -> None:
        """All of it was read."""
        await self._close(ctx, reading)
        if not reading.keeps:  # its kernel keeps what it has listed, unless it is told after that
            loop = asyncio.get_running_loop()
            loop.call_soon(self._mount.forget_data, reading.file.node)

    async def _close(self, ctx: Context, reading: Reading) -> None:
        if self._readings.pop(reading, False) is None:
            await self._mount.fs.releasedir(ctx, reading.file.node, reading.file.handle)

    async def close(self, ctx: Context) -> None:
        """The mount is no more."""
        for each in list(self._readings):
            await self._close(ctx, each)
