"""How much a sandbox may move, and how many connections it may have at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_CONNECTIONS = 1024


@dataclass(frozen=True, kw_only=True)
class NetworkLimits:
    """Limits of one sandbox's network.

    Args:
        connections: how many TCP connections it may have at once.
        bytes_per_second: of both directions and all connections together; 0 is no limit.
    """

    connections: int = MOST_CONNECTIONS
    bytes_per_second: int = 0


class Pace:
    """A bucket that fills with `rate` bytes a second and holds those of a quarter second.

    Called with what was moved, it says how many seconds its mover must wait. Everyone who moves
    bytes calls the same one, so that all together stay within the rate.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._full = max(rate / 4, 1.0)
        self._level = self._full
        self._last = clock()

    def __call__(self, moved: int) -> float:
        """Seconds to wait after `moved` bytes."""
        now = self._clock()
        self._level = min(self._full, self._level + (now - self._last) * self._rate) - moved
        self._last = now
        return max(0.0, -self._level / self._rate)
