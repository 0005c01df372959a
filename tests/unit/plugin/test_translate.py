"""Contexts for programs, and what comes back."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from sandlot import ConnectContext, Decision, ExecContext, FlowContext, FlowRecord
from sandlot.network.flow import Flow
from sandlot.plugin.translate import plain, with_changes

EXEC = ExecContext(sandbox="box", id=1, argv=("ls",), tty=(24, 80))
CONNECT = ConnectContext(
    sandbox="box", flow=Flow("tcp", ip_address("::1"), 443, "a.example"),
    decision=Decision(True, "allow a.example", "it is allowed"),
)  # fmt: skip


def test_contexts_are_plain_data() -> None:
    said = json.loads(json.dumps(plain(CONNECT)))
    assert said["flow"] == {"protocol": "tcp", "address": "::1", "port": 443, "name": "a.example"}
    assert said["decision"]["allowed"] is True and said["sandbox"] == "box"
    assert json.loads(json.dumps(plain(EXEC)))["tty"] == [24, 80]
    record = FlowRecord(id=1, time=0.0, protocol="tcp", address="::1", port=1)
    assert plain(FlowContext(sandbox="b", record=record))["record"]["verdict"] == "open"
    assert plain(b"\xff") == "/w=="


def test_bytes_that_are_no_text_survive_json() -> None:
    context = ExecContext(sandbox="box", id=1, argv=(b"\xff".decode("utf-8", "surrogateescape"),))
    words = json.loads(json.dumps(plain(context)))["argv"]
    made = with_changes(context, {"argv": words})
    assert made.argv[0].encode("utf-8", "surrogateescape") == b"\xff"


def test_a_program_changes_what_may_be_changed() -> None:
    made = with_changes(EXEC, {"argv": ["a", "b"], "env": {"X": "1"}, "timeout": 3, "user": "1"})
    assert (made.argv, made.env, made.timeout, made.user) == (("a", "b"), {"X": "1"}, 3.0, "1")
    denied = with_changes(CONNECT, {"decision": {"allowed": False, "reason": "no"}})
    assert denied.decision == Decision(False, "plugin", "no")


@pytest.mark.parametrize(
    "changes",
    [
        [], {"id": 3}, {"sandbox": "x"}, {"argv": "ls"}, {"argv": []}, {"argv": [1]},
        {"env": {"A": 1}}, {"env": {"": "1"}}, {"env": []}, {"timeout": True}, {"timeout": -1},
        {"timeout": "5"}, {"limits": "cpu=1"}, {"user": 0}, {"workdir": "a\0b"}, {"nothing": 1},
    ],
)  # fmt: skip
def test_and_nothing_else(changes: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        with_changes(EXEC, changes)


@pytest.mark.parametrize("decision", [None, True, {}, {"allowed": 1}, {"allowed": "no"}])
def test_a_decision_says_whether(decision: Any) -> None:
    with pytest.raises(TypeError):
        with_changes(CONNECT, {"decision": decision})
