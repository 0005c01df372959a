"""What a guest asks, and what hostile ones do."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot import ConfigError, GuestProtocolError, Network
from sandlot.runtime import requests
from sandlot.runtime.requests import Exec, Hello, ListPeers, Start, Wanted, WriteFile, parse_request


def asked(op: str, **given_: Any) -> requests.Request:
    return parse_request(json.dumps({"version": 1, "op": op, **given_}).encode())


def test_what_is_asked_is_understood() -> None:
    assert asked("hello") == Hello()
    assert asked("list") == ListPeers()
    assert asked(
        "start", name="researcher", image="python:3.12", memory="512M", env={"A": "1"},
        command=["python", "-i"], network={"allow": ["api.example.com"]}, secrets=["K", "K"],
        runtime={"max_sandboxes": 2, "network": {"default": "deny"}}, workdir=None,
    ) == Start(
        name="researcher", image="python:3.12", memory=512 << 20, env={"A": "1"},
        command=("python", "-i"), network=Network(allow=["api.example.com"]), secrets=("K",),
        runtime=Wanted(max_sandboxes=2, network=Network.deny_all()),
    )  # fmt: skip
    assert asked("exec", peer="a", command=["true"], timeout=5) == Exec(
        peer="a", command=("true",), timeout=5.0
    )
    assert asked("write", peer="a", path="/b", mode=0o600) == WriteFile(
        peer="a", path="/b", mode=0o600
    )


def test_every_field_has_a_check() -> None:
    for kind in (*requests.OPERATIONS.values(), Wanted):
        assert {each.name for each in fields(kind)} <= requests.CHECKS.keys()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"5", b"{}", b'{"version": 1}', b'{"version": 2, "op": "hello"}',
     b'{"version": true, "op": "hello"}', b'{"version": 1, "op": ["hello"]}',
     b'{"version": 1, "op": "reboot"}', b"[" * 60000, b"9" * 60000, b"\xff\xfe\xfd"],
)  # fmt: skip
def test_what_is_no_request_is_a_breach(data: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        parse_request(data)


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("hello", {"more": 1}), ("start", {"name": "../x"}), ("start", {"name": "A" * 33}),
        ("start", {"image": ""}), ("start", {"image": 5}), ("start", {"image": "a\0b"}),
        ("start", {"image": "\ud800"}), ("start", {"memory": -1}), ("start", {"memory": 1e300}),
        ("start", {"memory": True}), ("start", {"memory": "9" * 400}), ("start", {"cpus": 65}),
        ("start", {"env": []}), ("start", {"env": {"A=B": "1"}}), ("start", {"env": {"A": 1}}),
        ("start", {"env": {str(n): "" for n in range(600)}}), ("start", {"ports": {"80": 80}}),
        ("start", {"volumes": {"/": "/"}}), ("start", {"detached": True}),
        ("start", {"network": {"allow": "x"}}), ("start", {"network": {"ceiling": {}}}),
        ("start", {"network": {"default": "all"}}), ("start", {"network": {"allow": ["x y"]}}),
        ("start", {"network": {"allow": ["a.example"] * 257}}), ("start", {"secrets": "K"}),
        ("start", {"runtime": {"lifetime": "detached"}}), ("start", {"runtime": 5}),
        ("start", {"runtime": {"max_depth": 0}}), ("exec", {"peer": "a"}),
        ("exec", {"command": ["x"]}), ("exec", {"peer": "a", "command": []}),
        ("exec", {"peer": "a", "command": "ls"}), ("exec", {"peer": "a", "command": ["x"] * 1025}),
        ("exec", {"peer": "a", "command": ["x"], "timeout": float("nan")}),
        ("exec", {"peer": "a", "command": ["x"], "stdin": 1}), ("read", {"peer": "a"}),
        ("write", {"peer": "a", "path": "/a", "mode": 0o10000}), ("logs", {"peer": "", "tail": 1}),
        ("logs", {"peer": "a", "tail": -1}), ("stop", {"peer": "a", "grace": -1}),
    ],
)  # fmt: skip
def test_a_wrong_field_is_told(op: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        asked(op, **wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)


@given(
    st.sampled_from([*requests.OPERATIONS, "?"]),
    st.dictionaries(st.sampled_from([*requests.CHECKS, "?"]), JSON),
)
def test_any_request_is_understood_or_refused(op: str, given_: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError, GuestProtocolError):
        asked(op, **given_)


@given(st.binary())
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    with contextlib.suppress(ConfigError, GuestProtocolError):
        parse_request(data)
