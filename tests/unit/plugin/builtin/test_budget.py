"""What is left, and what is refused when nothing is."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sandlot import (
    Budget,
    ConfigError,
    ConnectContext,
    Decision,
    ExecContext,
    ExecEndContext,
    Refuse,
    SecretUseContext,
    StartContext,
    TransferContext,
)
from sandlot.network.flow import Flow

FLOW = Flow("tcp", ip_address("1.1.1.1"), 443, "api.example")
EXEC = ExecContext(sandbox="box", id=1, argv=("ls",))
START = StartContext(sandbox="box", id="1", image="demo")
END = ExecEndContext(sandbox="box", id=1, argv=("ls",), exit_code=0, duration=1, user_time=3)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_seconds_of_the_processor() -> None:
    budget = Budget(cpu_seconds=10)
    assert budget.on_exec(EXEC).limits == ("cpu=10",)
    budget.on_exec_end(dataclasses.replace(END, system_time=1.5))
    assert budget.cpu_used == 4.5
    assert budget.on_exec(dataclasses.replace(EXEC, limits=("nofile=9", "cpu=2:4"))).limits == (
        "nofile=9", "cpu=2",
    )  # fmt: skip
    assert budget.on_exec(dataclasses.replace(EXEC, limits=("cpu=unlimited",))).limits == ("cpu=6",)
    budget.on_exec_end(dataclasses.replace(END, user_time=-50))  # by the guest's word
    budget.on_exec_end(dataclasses.replace(END, user_time=6))
    with pytest.raises(Refuse, match="10 seconds of the processor is used up"):
        budget.on_exec(EXEC)


def test_seconds_since_the_first_start() -> None:
    clock = Clock()
    budget = Budget(wall_seconds=60, clock=clock)
    budget.on_start(START)
    clock.now += 20
    assert budget.on_exec(EXEC).timeout == 40
    assert budget.on_exec(dataclasses.replace(EXEC, timeout=5)).timeout == 5
    assert budget.on_exec(dataclasses.replace(EXEC, timeout=500)).timeout == 40
    clock.now += 40
    for refused in (lambda: budget.on_exec(EXEC), lambda: budget.on_start(START)):
        with pytest.raises(Refuse, match="60 seconds of time"):
            refused()


def test_bytes() -> None:
    budget = Budget(bytes="1K")
    allowed = ConnectContext(sandbox="box", flow=FLOW, decision=Decision(True, "", ""))
    budget.on_connect(allowed)
    budget.on_transfer(TransferContext(sandbox="box", size=1024))
    with pytest.raises(Refuse, match="1024 bytes is used up"):
        budget.on_transfer(TransferContext(sandbox="box", size=1))
    with pytest.raises(Refuse):
        budget.on_connect(allowed)
    budget.on_connect(dataclasses.replace(allowed, decision=Decision(False, "", "")))


def test_money() -> None:
    budget = Budget(money=0.3, prices={"KEY": 0.1})
    use = SecretUseContext(
        sandbox="box", flow=FLOW, secret="KEY", host="api.example", place="header", replaced=True
    )
    for _ in range(3):
        budget.on_secret_use(use)
    with pytest.raises(Refuse, match="is used up"):
        budget.on_secret_use(use)
    budget.on_secret_use(dataclasses.replace(use, replaced=False))
    budget.on_secret_use(dataclasses.replace(use, secret="FREE"))
    assert budget.money_used == pytest.approx(0.3)


@pytest.mark.parametrize(
    "options", [{}, {"cpu_seconds": 0}, {"wall_seconds": -1}, {"money": 1.0}, {"bytes": "many"}]
)
def test_wrong_ones(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Budget(**options)


def test_arguments() -> None:
    budget = Budget.from_argument("cpu:5,bytes:1M", Path("/"))
    assert budget.on_exec(EXEC).limits == ("cpu=5",)
    for wrong in ("", "cpu", "cpu:x", "money:1"):
        with pytest.raises(ConfigError):
            Budget.from_argument(wrong, Path("/"))
