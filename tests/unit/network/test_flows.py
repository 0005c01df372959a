"""Records of flows, in memory and in their file."""

from __future__ import annotations

import itertools
from pathlib import Path

from sandlot.network.flows import FlowLog, FlowRecord, follow_flows, read_flows
from sandlot.network.relay import Counted


def record(name: str = "", verdict: str = "open", protocol: str = "tcp") -> FlowRecord:
    return FlowRecord(
        id=0, time=1.0, protocol=protocol, address="192.0.2.1", port=443, name=name or None,
        verdict=verdict,
    )  # fmt: skip


def test_the_file_has_the_latest_state_of_each(tmp_path: Path) -> None:
    path = tmp_path / "flows"
    log = FlowLog(lambda: path)
    count = Counted()
    one = log.opened(record("a.example"), count)
    log.opened(record("b.example", "denied"))
    count.sent, count.received = 10, 20
    assert [(f.verdict, f.sent) for f in log.all()] == [("open", 10), ("denied", 0)]
    assert [f.verdict for f in read_flows(path)] == ["open", "denied"]
    log.closed(one)
    log.closed(one, "cut", "again")  # the first end counts
    assert [(f.verdict, f.received) for f in read_flows(path)] == [("closed", 20), ("denied", 0)]
    changes = list(itertools.takewhile(lambda r: r is not None, follow_flows(path)))
    assert [c.verdict for c in changes if c is not None] == ["open", "denied", "closed"]
    log.close()


def test_files_are_bounded_and_damage_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "flows"
    log = FlowLog(lambda: path, limit=2000)
    for number in range(100):
        log.closed(log.opened(record(f"n{number}.example")))
    assert path.stat().st_size < 3000
    newest = read_flows(path)
    assert newest and newest[-1].name == "n99.example"
    with path.open("ab") as file:
        file.write(b'{"id": 1}\nnot json\n{"later": 1, "id": 200, "time": 2.0, "protocol": "tcp", '
                   b'"address": "192.0.2.1", "port": 1}\n')  # fmt: skip
    assert read_flows(path)[-1].id == 200
    log.close()


def test_what_goes_on_ends_with_the_log() -> None:
    log = FlowLog()
    one = log.opened(record())
    log.close()
    assert one.verdict == "closed"


def test_destinations_are_spelled_as_rules() -> None:
    assert record("a.example").destination == "a.example:443"
    assert record(protocol="udp").destination == "192.0.2.1:443/udp"
    assert record("a.example", protocol="dns").destination == "a.example"
