"""Letting programs of the guest that watch a volume's files (inotify) hear of what the host does to
them.

The guest's kernel tells watchers only what is done in the guest. So the agent does it once more
there, on a thread of its own whose requests are answered without doing anything
(filesystem/echoes.py). What is lost when too much happens at once is only that news: what the guest
sees of the files is told apart from this.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections import deque
from typing import Any

from sandlot.errors import SandboxError
from sandlot.filesystem.mount import Mount
from sandlot.guest.session import GuestSession
from sandlot.wire.messages import Started
from sandlot.wire.volumes import Nudge

MOST_PENDING = 1024
_BATCH = 64
KINDS = {
    "created": b"c", "folder": b"f", "deleted": b"d", "folder-deleted": b"r", "modified": b"m",
    "attributes": b"a",
}  # fmt: skip


class Nudger:
    """Carries what was done on the host to one volume of one guest."""

    def __init__(self, session: GuestSession, served: Mount) -> None:
        self._session = session
        self._served = served
        self._pending: deque[tuple[str, str]] = deque(maxlen=MOST_PENDING)
        self._task: asyncio.Task[None] | None = None

    def note(self, kind: str, path: str, other: str = "") -> None:
        """Something was done on the host.

        Args:
            kind: one of `KINDS`, or `moved`.
            path: of what, below the volume; `.` is the volume itself.
            other: where it was moved to.
        """
        if kind == "moved":  # what it was called is forgotten in the guest by now
            self.note("deleted", path)
            self.note("created", other)
            return
        if self._pending and self._pending[-1] == (kind, path):
            return
        self._pending.append((kind, path))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def forget_all(self) -> None:
        """Have the guest's kernel forget the names that it remembers, as far as they are not in use."""
        self._served.nudger = await self._send((b"*.",))

    async def _run(self) -> None:
        try:
            if not self._served.nudger:
                self._served.nudger = await self._ask([])
            while self._pending:
                batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
                self._served.creating = _names(batch, "created", "folder")
                self._served.deleting = dict.fromkeys(_names(batch, "deleted"), False) | (
                    dict.fromkeys(_names(batch, "folder-deleted"), True)
                )
                await self._ask(batch)
                self._served.creating, self._served.deleting = set(), {}
        except SandboxError:
            self._pending.clear()  # it ends, or is saved; what was changed is told without this

    async def _ask(self, batch: list[tuple[str, str]]) -> int:
        return await self._send(tuple(KINDS[kind] + os.fsencode(path) for kind, path in batch))

    async def _send(self, changes: tuple[bytes, ...]) -> int:
        answer: Any = (await self._session.ask(Nudge(volume=self._served.path, changes=changes)))[0]
        return answer.pid if isinstance(answer, Started) else 0

    def close(self) -> None:
        """The machine has ended, or the volume was unmounted."""
        if self._task is not None:
            self._task.cancel()


def _names(batch: list[tuple[str, str]], *kinds: str) -> set[str]:
    return {posixpath.basename(path) for kind, path in batch if kind in kinds}
