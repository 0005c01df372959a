"""`Budget`: how much altogether."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sandlot.errors import ConfigError, Refuse
from sandlot.plugin.builtin.arguments import numbers
from sandlot.plugin.hooks import (
    ConnectContext,
    ExecContext,
    ExecEndContext,
    SecretUseContext,
    StartContext,
    TransferContext,
)
from sandlot.sizes import parse_size


class Budget:
    """What all sandboxes that have this plugin may use together; after that it refuses.

        Budget(cpu_seconds=600, wall_seconds=3600, bytes="1G", money=5.0,
               prices={"OPENAI_API_KEY": 0.02})

    Args:
        cpu_seconds: of the processor, by the guest's word, of commands that have ended; each command
            gets what is left as its limit `cpu`, which holds for each of its processes.
        wall_seconds: since the first start; each command gets what is left as its timeout.
        bytes: of connections, both ways, as a number or text such as `"1G"`. Connections that are
            looked into do not count.
        money: in any currency.
        prices: what each use of a secret costs, by its name.
        clock: tells seconds.
    """

    name = "budget"

    def __init__(
        self, *, cpu_seconds: float | None = None, wall_seconds: float | None = None,
        bytes: int | str | None = None, money: float | None = None,
        prices: Mapping[str, float] | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._cpu, self._wall, self._money = cpu_seconds, wall_seconds, money
        self._bytes = parse_size(bytes, "bytes") if bytes is not None else None
        self._prices = dict(prices or {})
        self._clock = clock
        self._began: float | None = None
        given = (self._cpu, self._wall, self._bytes, self._money)
        if all(each is None for each in given):
            raise ConfigError("a Budget without a limit", hint="use for example cpu_seconds=600")
        if any(each is not None and not 0 < each < math.inf for each in given):
            raise ConfigError("a limit of a Budget is a number over 0")
        if money is not None and not self._prices:
            raise ConfigError("money needs prices", hint='use prices={"API_KEY": 0.01}')
        self.cpu_used = 0.0
        self.bytes_used = 0
        self.money_used = 0.0

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> Budget:
        """`budget=cpu:600,wall:3600,bytes:1G`."""
        given = numbers("budget", argument, ("cpu", "wall", "bytes"))
        return cls(
            cpu_seconds=given.get("cpu"), wall_seconds=given.get("wall"),
            bytes=int(given["bytes"]) if "bytes" in given else None,
        )  # fmt: skip

    @property
    def wall_used(self) -> float:
        """Seconds since the first start."""
        return self._clock() - self._began if self._began is not None else 0.0

    def _check(self) -> None:
        for limit, used, what in (
            (self._cpu, self.cpu_used, "seconds of the processor"),
            (self._wall, self.wall_used, "seconds of time"),
            (self._bytes, self.bytes_used, "bytes"),
        ):  # fmt: skip
            if limit is not None and used >= limit:
                raise Refuse(f"the budget of {limit:g} {what} is used up")

    def on_start(self, ctx: StartContext) -> None:
        if self._began is None:
            self._began = self._clock()
        self._check()

    def on_exec(self, ctx: ExecContext) -> ExecContext:
        self._check()
        if self._cpu is not None:
            left = max(1, math.ceil(self._cpu - self.cpu_used))
            limits = [each for each in ctx.limits if not each.startswith("cpu=")]
            own = [_soft(each) for each in ctx.limits if each.startswith("cpu=")]
            least = min([left, *(each for each in own if each is not None)])
            ctx = dataclasses.replace(ctx, limits=(*limits, f"cpu={least}"))
        if self._wall is not None:
            rest = self._wall - self.wall_used
            ctx = dataclasses.replace(
                ctx, timeout=min(rest, ctx.timeout) if ctx.timeout is not None else rest
            )
        return ctx

    def on_exec_end(self, ctx: ExecEndContext) -> None:
        self.cpu_used += max(0.0, ctx.user_time) + max(0.0, ctx.system_time)

    def on_connect(self, ctx: ConnectContext) -> None:
        if ctx.decision.allowed:
            self._check()

    def on_transfer(self, ctx: TransferContext) -> None:
        self.bytes_used += ctx.size
        if self._bytes is not None and self.bytes_used > self._bytes:
            raise Refuse(f"the budget of {self._bytes} bytes is used up")

    def on_secret_use(self, ctx: SecretUseContext) -> None:
        if self._money is None or not ctx.replaced:
            return
        price = self._prices.get(ctx.secret, 0.0)
        if price and self.money_used + price > self._money + 1e-9:
            raise Refuse(f"the budget of {self._money:g} is used up")
        self.money_used += price


def _soft(limit: str) -> int | None:
    text = limit.partition("=")[2].partition(":")[0]
    return int(text) if text.isdigit() else None
