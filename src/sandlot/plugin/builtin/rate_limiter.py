"""`RateLimiter`: how often, and how much."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from sandlot.errors import ConfigError, Refuse
from sandlot.plugin.builtin.arguments import numbers
from sandlot.plugin.hooks import ConnectContext, ExecContext, StopContext, TransferContext
from sandlot.sizes import parse_size


class Bucket:
    """Holds `full` tokens and gets `rate` of them a second."""

    def __init__(self, rate: float, full: float, clock: Callable[[], float]) -> None:
        self._rate, self._full, self._clock = rate, full, clock
        self._level, self._last = full, clock()

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._full, self._level + (now - self._last) * self._rate)
        self._last = now

    def take(self) -> float:
        """Take one token: 0, or the seconds until there is one, and none was taken."""
        self._fill()
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self._rate

    def owe(self, size: int) -> float:
        """Take them in any case; the seconds until none is owed."""
        self._fill()
        self._level -= size
        return max(0.0, -self._level / self._rate)


class RateLimiter:
    """Limits of a sandbox: commands and connections a second, which are refused above it, and bytes
    a second, for which connections wait.

        Sandbox.create(image="demo", plugins=[RateLimiter(max_exec_per_sec=100)])

    Args:
        max_exec_per_sec: commands a second.
        max_connections_per_sec: connections a second, and datagrams to somewhere new.
        max_bytes_per_sec: of all connections that are not looked into, as a number or `"1M"`.
        burst: how many seconds' worth may come at once.
        clock: tells seconds.
    """

    name = "rate-limiter"

    def __init__(
        self, *, max_exec_per_sec: float | None = None,
        max_connections_per_sec: float | None = None, max_bytes_per_sec: int | str | None = None,
        burst: float = 1.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        rate = None
        if max_bytes_per_sec is not None:
            rate = float(parse_size(max_bytes_per_sec, "max_bytes_per_sec"))
        self._rates = {
            "exec": max_exec_per_sec, "connect": max_connections_per_sec, "bytes": rate,
        }  # fmt: skip
        for name, value in {**self._rates, "burst": burst}.items():
            if value is not None and (isinstance(value, bool) or not 0 < value < float("inf")):
                raise ConfigError(f"{name}: {value!r} is no rate", hint="use a number over 0")
        if not any(self._rates.values()):
            raise ConfigError("a RateLimiter without a limit", hint="use max_exec_per_sec=10")
        self._burst, self._clock = burst, clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> RateLimiter:
        """`rate-limiter=exec:100,connections:20,bytes:1M,burst:2`."""
        given = numbers("rate-limiter", argument, ("exec", "connections", "bytes", "burst"))
        return cls(
            max_exec_per_sec=given.get("exec"), max_connections_per_sec=given.get("connections"),
            max_bytes_per_sec=int(given["bytes"]) if "bytes" in given else None,
            burst=given.get("burst", 1.0),
        )  # fmt: skip

    def _bucket(self, kind: str, sandbox: str) -> Bucket | None:
        rate = self._rates[kind]
        if rate is None:
            return None
        found = self._buckets.get((kind, sandbox))
        if found is None:
            full = max(rate * self._burst, 1.0)
            found = self._buckets[kind, sandbox] = Bucket(rate, full, self._clock)
        return found

    def _take(self, kind: str, sandbox: str, what: str) -> None:
        bucket = self._bucket(kind, sandbox)
        if bucket is not None and (wait := bucket.take()) > 0:
            raise Refuse(
                f"more than {self._rates[kind]:g} {what} a second",
                hint=f"try again in {max(wait, 0.001):.3f} s",
            )

    def on_exec(self, ctx: ExecContext) -> None:
        self._take("exec", ctx.sandbox, "commands")

    def on_connect(self, ctx: ConnectContext) -> None:
        if ctx.decision.allowed:
            self._take("connect", ctx.sandbox, "connections")

    def on_transfer(self, ctx: TransferContext) -> TransferContext | None:
        bucket = self._bucket("bytes", ctx.sandbox)
        if bucket is None:
            return None
        return dataclasses.replace(ctx, pause=max(ctx.pause, bucket.owe(ctx.size)))

    def on_stop(self, ctx: StopContext) -> None:
        for kind in self._rates:
            self._buckets.pop((kind, ctx.sandbox), None)
