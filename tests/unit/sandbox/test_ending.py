"""What is said of a sandbox that has stopped."""

from __future__ import annotations

from typing import Any

import pytest

from sandlot.sandbox.ending import DIED, failed, not_running, why_it_ended
from sandlot.state.records import RunState
from tests.unit.state.test_records import record

END = 1_700_000_000.0


def ended(**values: Any) -> RunState:
    return RunState(running=False, started=END - 5, finished=END, **values)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"exit_code": 0}, "stopped (0)"),
        ({}, "stopped"),
        ({"exit_code": 143, "reason": "stopped"}, "stopped (143)"),
        ({"exit_code": 137, "reason": "killed"}, "stopped (137), killed"),
        ({"exit_code": 137, "oom": True}, "stopped (137), out of memory"),
        ({"reason": "idle for 60 s"}, "stopped, idle for 60 s"),
    ],
)
def test_listings(values: dict[str, Any], text: str) -> None:
    assert why_it_ended(ended(**values)) == text


def test_a_main_command_that_ended_says_which_how_and_when() -> None:
    error = not_running(record("work", command=["sh"]), ended(exit_code=0))
    assert error.message == (
        "sandbox 'work' is not running: its main command `sh` ended with status 0 "
        "at 2023-11-14 22:13:20 UTC"
    )
    for remedy in ("`sandlot run -d -i`", "`-d -it`", "`sleep infinity`"):
        assert remedy in error.hint
    assert "sandlot start" not in error.hint


def test_other_remedies() -> None:
    failed = not_running(record("work", command=["make", "all it"]), ended(exit_code=2))
    assert "`make 'all it'` ended with status 2" in failed.message
    assert "`sandlot logs work`" in failed.hint
    shell = not_running(record("work", command=["sh"], stdin=True), ended(exit_code=0))
    assert shell.hint == "`sandlot start work` runs it again"
    for values in ({"exit_code": 143, "reason": "stopped"}, {}):
        stopped = not_running(record("work", command=["sh"]), ended(**values))
        assert stopped.message == "sandbox 'work' is not running"
        assert stopped.hint == "start it with `sandlot start work`"
    assert "(killed)" in not_running(record("work"), ended(reason="killed")).message
    assert not_running(record("work"), ended(), "nothing to do").hint == "nothing to do"
    long = not_running(record("work", command=["x" * 500]), ended(exit_code=0))
    assert len(long.message) < 200


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ({}, False), ({"reason": "stopped"}, False), ({"reason": "killed"}, False),
        ({"reason": "idle for 60 s"}, False), ({"exit_code": 1}, False), ({"reason": DIED}, True),
        ({"reason": "its keeper was killed"}, True), ({"reason": "its program ended"}, True),
        ({"owner": 17}, True),
    ],
)  # fmt: skip
def test_what_failed_is_as_after_a_power_cut(values: dict[str, Any], bad: bool) -> None:
    assert failed(ended(**values)) is bad
    assert not failed(RunState(running=True, owner=17))
