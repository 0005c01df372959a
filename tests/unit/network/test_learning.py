"""The smallest list of rules."""

from __future__ import annotations

from sandlot.network.flows import FlowRecord
from sandlot.network.learning import smallest_rules
from sandlot.network.policy import Network


def flow(address: str, port: int, name: str | None = None, **more: str) -> FlowRecord:
    kept = {"protocol": "tcp", "verdict": "closed", **more}
    return FlowRecord(id=0, time=0.0, address=address, port=port, name=name, **kept)  # type: ignore[arg-type]


def test_each_once_and_nothing_that_was_refused() -> None:
    rules = smallest_rules(
        [
            flow("93.184.216.34", 443, "b.example.com"), flow("93.184.216.35", 443, "b.example.com"),
            flow("93.184.216.34", 80, "a.example.com"), flow("8.8.8.8", 123, protocol="udp"),
            flow("2606:2800::1", 443), flow("10.0.0.1", 80, verdict="denied"),
            flow("10.0.0.5", 5432, "db.example.com"), flow("10.231.0.1", 80, "host.sandlot.internal"),
            flow("", 53, "c.example.com", protocol="dns", verdict="denied"),
        ]
    )  # fmt: skip
    assert rules == [
        "10.0.0.5:5432", "[2606:2800::1]:443", "8.8.8.8:123/udp", "a.example.com:80", "b.example.com:443",
        "db.example.com:5432", "host:80",
    ]  # fmt: skip
    assert list(Network(rules).allow) == rules
