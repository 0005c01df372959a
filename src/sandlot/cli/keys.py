"""The keys that leave a job: Ctrl-P Ctrl-Q, as with Docker, whatever else is typed around them."""

from __future__ import annotations

import contextlib
import os
import termios
from collections.abc import Iterator

FIRST, SECOND = b"\x10", b"\x11"  # Ctrl-P, Ctrl-Q
NAMES = "Ctrl-P Ctrl-Q"


class DetachKeys:
    """Finds the two keys in what is typed, however it is cut into pieces.

    As Docker does, it holds the first key back until the next one comes.
    """

    def __init__(self) -> None:
        self._held = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of `data` is for the job, and whether the keys were pressed; what follows is dropped."""
        if self._held:
            data = FIRST + data
        before, keys, _ = data.partition(FIRST + SECOND)
        self._held = not keys and data.endswith(FIRST)
        return (before[:-1] if self._held else before), bool(keys)

    def rest(self) -> bytes:
        """A key that is held back, when nothing comes any more."""
        held, self._held = self._held, False
        return FIRST if held else b""


@contextlib.contextmanager
def lines_that_can_be_left(descriptor: int = 0) -> Iterator[None]:
    """The terminal goes on to edit and echo lines, but gives out what was typed at Ctrl-Q too.

    A job without a terminal of its own gets whole lines. Otherwise Ctrl-Q would be seen only
    after Enter, or never: it is the key that lets stopped output go on.
    """
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    after = termios.tcgetattr(descriptor)
    after[0] &= ~termios.IXON
    after[6][termios.VEOL] = SECOND  # a second character that ends a line
    termios.tcsetattr(descriptor, termios.TCSADRAIN, after)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
