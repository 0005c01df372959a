"""What an operation does to the disk and to machines, step by step; at one of the steps something
happens: the program is killed, the disk is full, the machine dies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sandlot.engine.qemu.machine import QemuMachine
from sandlot.guest.session import GuestSession
from sandlot.sandbox.owned import OwnedMachine

FILES = ("mkdir", "link", "rename", "replace", "unlink", "rmdir", "fsync")
WRITES = ("pwrite", "pwritev", "sendfile")
MACHINE = (
    "start", "pause", "resume", "prepare_overlay", "switch_disk", "drop_overlay", "save_devices",
    "close",
)  # fmt: skip
GUEST = ("freeze", "thaw", "configure")
NEEDS_ROOM = ("mkdir", "link", "rename", "replace", "fsync", *WRITES)
"""The steps that a full disk can refuse."""


class Steps:
    """The steps that were taken while it was watching, by name."""

    def __init__(
        self, act: Callable[[str], None], at: int, only: Collection[str] | None = None
    ) -> None:
        self.taken: list[str] = []
        self._act = act
        self._at = at
        self._only = only
        self._guard = threading.Lock()
        self._series = ("", 0)

    def step(self, name: str) -> None:
        """One is about to be taken."""
        with self._guard:
            before, count = self._series
            self._series = (name, count + 1 if name == before else 1)
            if self._only is not None and name not in self._only:
                return
            # Of a series of writes the first, and one in its middle.
            if name in WRITES and self._series[1] not in (1, 3):
                return
            self.taken.append(name)
            now = len(self.taken) == self._at
        if now:
            self._act(name)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Steps]:
        """Count, and act, until the end of the block."""
        with contextlib.ExitStack() as stack:
            for holder, names in (
                (os, FILES + WRITES), (QemuMachine, MACHINE), (GuestSession, GUEST),
                (OwnedMachine, ("thaw",)),
            ):  # fmt: skip
                for name in names:
                    stack.enter_context(self._patched(holder, name))
            yield self

    @contextlib.contextmanager
    def _patched(self, holder: Any, name: str) -> Iterator[None]:
        raw = inspect.getattr_static(holder, name)
        function = raw.__func__ if isinstance(raw, classmethod) else raw
        label = name if holder is os else f"{holder.__name__}.{name}"

        @functools.wraps(function)
        def taken(*args: Any, **named: Any) -> Any:
            self.step(label)
            return function(*args, **named)

        @functools.wraps(function)
        async def awaited(*args: Any, **named: Any) -> Any:
            self.step(label)
            await asyncio.sleep(0)  # where a cancellation is seen
            return await function(*args, **named)

        mine: Any = awaited if inspect.iscoroutinefunction(function) else taken
        setattr(holder, name, classmethod(mine) if isinstance(raw, classmethod) else mine)
        try:
            yield
        finally:
            setattr(holder, name, raw)
