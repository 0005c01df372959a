"""Token buckets by a clock of the test's own."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from sandlot import (
    ConfigError,
    ConnectContext,
    Decision,
    ExecContext,
    RateLimiter,
    Refuse,
    StopContext,
    TransferContext,
)
from sandlot.network.flow import Flow

EXEC = ExecContext(sandbox="box", id=1, argv=("ls",))
OTHER = ExecContext(sandbox="other", id=1, argv=("ls",))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def connect(*, allowed: bool = True) -> ConnectContext:
    flow = Flow("tcp", ip_address("1.1.1.1"), 443)
    return ConnectContext(sandbox="box", flow=flow, decision=Decision(allowed, "", ""))


def test_commands_are_refused_above_the_rate_of_each_sandbox() -> None:
    clock = Clock()
    limiter = RateLimiter(max_exec_per_sec=2, clock=clock)
    limiter.on_exec(EXEC)
    limiter.on_exec(EXEC)
    with pytest.raises(Refuse, match="more than 2 commands a second") as caught:
        limiter.on_exec(EXEC)
    assert caught.value.hint == "try again in 0.500 s"
    limiter.on_exec(OTHER)
    clock.now += 0.5
    limiter.on_exec(EXEC)
    with pytest.raises(Refuse):
        limiter.on_exec(EXEC)
    clock.now += 100  # no more than the burst is saved up
    limiter.on_exec(EXEC)
    limiter.on_exec(EXEC)
    with pytest.raises(Refuse):
        limiter.on_exec(EXEC)
    limiter.on_stop(StopContext(sandbox="box"))
    limiter.on_exec(EXEC)


def test_connections_that_are_refused_anyway_do_not_count() -> None:
    limiter = RateLimiter(max_connections_per_sec=1, burst=2, clock=Clock())
    for _ in range(5):
        limiter.on_connect(connect(allowed=False))
    limiter.on_connect(connect())
    limiter.on_connect(connect())
    with pytest.raises(Refuse, match="1 connections a second"):
        limiter.on_connect(connect())
    limiter.on_exec(EXEC)  # has no limit


def test_bytes_wait() -> None:
    clock = Clock()
    limiter = RateLimiter(max_bytes_per_sec="1K", clock=clock)
    told = limiter.on_transfer(TransferContext(sandbox="box", size=1024))
    assert told is not None and told.pause == 0
    told = limiter.on_transfer(TransferContext(sandbox="box", size=2048, pause=1))
    assert told is not None and told.pause == 2
    clock.now += 2
    told = limiter.on_transfer(TransferContext(sandbox="box", size=512, pause=3))
    assert told is not None and told.pause == 3
    assert RateLimiter(max_exec_per_sec=1).on_transfer(TransferContext(sandbox="b", size=1)) is None


def test_arguments() -> None:
    made = RateLimiter.from_argument("exec:1,connections:5,bytes:1M,burst:1", Path("/"))
    made.on_exec(EXEC)
    with pytest.raises(Refuse):
        made.on_exec(EXEC)
    for wrong in ("", "exec", "exec:x", "exec:0", "other:1", "bytes:much", "exec:nan", "burst:1"):
        with pytest.raises(ConfigError):
            RateLimiter.from_argument(wrong, Path("/"))
