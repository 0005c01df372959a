"""Whom sandboxes talk to, from their flows."""

from __future__ import annotations

from typing import Any

from sandlot import FlowContext, FlowRecord, NetworkMonitor


def told(monitor: NetworkMonitor, sandbox: str = "box", **fields: Any) -> None:
    given = {"id": 1, "time": 5.0, "protocol": "tcp", "address": "1.1.1.1", "port": 443, **fields}
    monitor.on_flow(FlowContext(sandbox=sandbox, record=FlowRecord(**given)))


def test_it_counts_by_sandbox_and_host() -> None:
    new: list[str] = []
    monitor = NetworkMonitor(on_new_host=lambda use: new.append(use.host))
    told(monitor, name="a.example", protocol="dns", verdict="closed")
    told(monitor, name="a.example")
    (use,) = monitor.hosts("box")
    assert (use.questions, use.connections, use.open) == (1, 1, 1)
    told(monitor, name="a.example", verdict="closed", sent=10, received=20, ended=9.0)
    told(monitor, name="a.example", verdict="denied")
    told(monitor, name="a.example", protocol="dns", verdict="denied")
    told(monitor, verdict="open")
    told(monitor, verdict="failed", ended=11.0)
    told(monitor, "other", verdict="cut", ended=12.0)
    first, second, third = monitor.hosts()
    assert (first.host, first.open, first.sent, first.received, first.denied) == (
        "a.example", 0, 10, 20, 2,
    )  # fmt: skip
    assert (second.host, second.connections, second.failed, second.last) == ("1.1.1.1", 1, 1, 11.0)
    assert (third.sandbox, third.denied) == ("other", 1)
    assert new == ["a.example", "1.1.1.1", "1.1.1.1"]


def test_it_is_bounded() -> None:
    monitor = NetworkMonitor(most=2)
    for name in ("a", "b", "a", "c"):
        told(monitor, name=name)
    assert [use.host for use in monitor.hosts()] == ["a", "c"]
