"""Saved sandboxes from elsewhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sandlot.errors import SnapshotDamaged
from sandlot.sandbox.foreign import checked_source, without_host
from tests.unit.snapshot.fakes import source_record


def source(**fields: object) -> dict[str, object]:
    return {**dataclasses.asdict(source_record()), **fields}


def test_nothing_of_a_host_comes_along() -> None:
    """Neither from an honest file nor from another: the same is done where it is read."""
    record, _ = checked_source(source())
    assert record.secrets["KEY"]["source"] == {"given": "value"}
    assert record.upstream_ca == "" and record.dns == [] and record.snapshot == ""
    assert record.ports == [
        {"address": "127.0.0.1", "host_port": 0, "port": 8000, "protocol": "tcp"}
    ]
    assert record.env == source_record().env and record.network["allow"] == ["api.example.com"]
    assert without_host(dataclasses.asdict(record)) == dataclasses.asdict(record)


def test_nothing_is_lent() -> None:
    record, _ = checked_source(
        source(runtime={"max_sandboxes": 99}, started_by="0123", read_only=True)
    )
    assert (record.runtime, record.started_by, record.read_only) == ({}, "", False)


@pytest.mark.parametrize(
    ("allow", "default", "left", "narrowed"),
    [
        (["api.example.com", "9.9.9.9"], "deny", ["api.example.com", "9.9.9.9"], "deny"),
        (["10.0.0.1", "host:80", "169.254.169.254", "::1", "*:443"], "deny", ["*:443"], "deny"),
        (["0.0.0.0/0", "172.0.0.0/8"], "deny", [], "deny"),
        (["api.example.com"], "open", ["api.example.com"], "public"),
        ([], "public", [], "public"),
    ],
)
def test_a_policy_opens_nothing_that_is_not_public(
    allow: list[str], default: str, left: list[str], narrowed: str
) -> None:
    stored = {"default": default, "allow": allow, "deny": ["8.8.8.8"], "hidden_names": False}
    record, dropped = checked_source(source(network=stored))
    assert record.network == {
        "default": narrowed, "allow": left, "deny": ["8.8.8.8"], "hidden_names": False
    }  # fmt: skip
    assert len(dropped) == len(allow) - len(left) + (default == "open")


def test_peers_of_a_snapshot_from_elsewhere_are_left_out() -> None:
    stored = {"default": "deny", "allow": [], "deny": [], "hidden_names": False,
              "peers": {"db": ["mine"]}}  # fmt: skip
    record, dropped = checked_source(source(network=stored))
    assert "peers" not in record.network and dropped == ["peer db"]


def test_records_that_cannot_be_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [
        {"name": "../x"}, {"hostname": "-"}, {"env": {"": "x"}}, {"memory": 5}, {"cpus": 0},
        {"pids": 3}, {"restart": "maybe"}, {"idle_timeout": -1}, {"labels": {"a b": "c"}},
        {"ports": [{}]}, {"ports": [5]}, {"secrets": {"KEY": {}}}, {"secrets": {"KEY": 5}},
        {"placeholders": {}}, {"placeholders": {"KEY": "x"}}, {"inspect": ["http://x/"]},
        {"network": {"default": "all"}}, {"more": 1},
        {"network": {"default": "deny", "allow": [], "deny": [], "peers": {"db": 5}}},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(SnapshotDamaged):
            checked_source(source(**wrong))


def test_plugins_stay_behind_they_name_programs_of_the_host() -> None:
    """Neither is one written down, nor taken from a file that has one."""
    evil = source(plugins=[{"process": ["sh", "-c", "touch /tmp/x"], "on_failure": "open"}])
    assert without_host(evil)["plugins"] == []
    record, _ = checked_source(evil)
    assert record.plugins == []
