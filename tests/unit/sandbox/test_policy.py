"""Limits of processes and time, and restarts, as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.policy import Backoff, RestartPolicy, check_policy


@pytest.mark.parametrize(
    ("text", "ends"),
    [  # (failed, times restarted) -> again
        ("no", {(True, 0): False, (False, 0): False}),
        ("always", {(True, 99): True, (False, 99): True}),
        ("unless-stopped", {(True, 99): True, (False, 0): True}),
        ("on-failure", {(True, 99): True, (False, 0): False}),
        ("on-failure:2", {(True, 1): True, (True, 2): False, (False, 0): False}),
    ],
)
def test_restart_policies(text: str, ends: dict[tuple[bool, int], bool]) -> None:
    policy = RestartPolicy.parse(text)
    assert {end: policy.again(*end) for end in ends} == ends


def test_the_wait_before_a_restart_doubles_and_is_bounded() -> None:
    backoff = Backoff()
    waits = [backoff.delay(0.1) for _ in range(15)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8] and waits[-1] == 60
    assert backoff.delay(100) == 0.1


def test_fields_of_a_record() -> None:
    fields = check_policy(
        pids=100, idle_timeout="10m", max_duration=5, restart="on-failure:1", detached=True,
        stop_grace="0", labels={"a": "b"},
    )  # fmt: skip
    assert fields["idle_timeout"] == 600 and fields["max_duration"] == 5
    assert fields["stop_grace"] == 0 and fields["labels"] == {"a": "b"} and fields["pids"] == 100
    assert check_policy()["stop_grace"] == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pids": -1}, "out of range"),
        ({"pids": 20_000}, "out of range"),
        ({"pids": True}, "out of range"),
        ({"pids": 3}, "too few"),
        ({"idle_timeout": "soon"}, "idle_timeout 'soon'"),
        ({"max_duration": 0}, "max_duration 0"),
        ({"idle_action": "sleep"}, "is not known"),
        ({"idle_action": "hibernate"}, "needs idle_timeout"),
        ({"idle_action": "explode"}, "not known"),
        ({"restart": "sometimes", "detached": True}, "not a restart policy"),
        ({"restart": "always:3", "detached": True}, "not a restart policy"),
        ({"restart": "on-failure:x", "detached": True}, "not a restart policy"),
        ({"restart": "always"}, "needs a detached sandbox"),
        ({"restart": "always", "detached": True, "auto_remove": True}, "--rm"),
        ({"labels": {"a b": "c"}}, "not a label"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check_policy(**options)
    assert "\n" not in caught.value.message
