"""`ps` and its templates, and what `inspect` says of times."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sandlot.cli.main import cli
from sandlot.errors import ConfigError
from sandlot.sandbox.host import Host
from sandlot.state.lock import FileLock
from tests.unit.state.test_records import make, record


@pytest.fixture
def boxes(own_state: Path) -> None:
    folders = Host.current().sandboxes
    now = time.time()
    make(folders, record("one", id="11" * 6, created=now, command=["sleep", "9"]))
    two = make(folders, record("two-two", id="22" * 6, created=now - 7200, labels={"a": "b"}))
    two.write_run_state(started=now - 60, finished=now, exit_code=137, reason="killed", main=5)


def ps(*words: str) -> Result:
    return CliRunner().invoke(cli, ["ps", "-a", *words])


def test_a_table_has_its_heading_and_columns(boxes: None) -> None:
    assert ps("--format", r"table {{.Names}}\t{{ .State }}\t{{.ID}}").output == (
        "NAMES    STATE    ID\none      created  111111111111\ntwo-two  exited   222222222222\n"
    )
    assert ps("--format", "table").output == ps().output
    plain = ps("--format", r"{{.Names}}:{{.Labels}}").output
    assert plain == "one:\ntwo-two:a=b\n"
    assert ps("--format", "{{json .}}").output == ps("--format", "json").output


@pytest.mark.parametrize("template", ["{{.Nothing}}", "table {{.Nothing}}", "{{upper .Names}}"])
def test_a_field_that_is_not_known_is_refused_without_rows(own_state: Path, template: str) -> None:
    error = ps("--format", template).exception
    assert isinstance(error, ConfigError)
    assert "{{" in error.message and "{{.Names}}" in error.hint


def test_an_empty_table_has_its_heading(own_state: Path) -> None:
    assert ps("--format", r"table {{.Names}}\t{{.Ports}}").output == "NAMES  PORTS\n"


def test_the_reason_is_told(boxes: None) -> None:
    assert "stopped (137), killed" in ps().output


def test_what_stands_ready_in_a_pool_is_told(boxes: None) -> None:
    two = Host.current().sandboxes.find("two-two")
    lock = FileLock.take(two.lock_path)
    assert lock is not None
    try:
        two.write_run_state(owner=1, started=time.time(), paused=True, pooled=True)
        assert "ready in a pool, started" in ps().output
        two.update_run_state(pooled=False)
        assert "paused, started" in ps().output
    finally:
        lock.release()


def test_times_are_told_in_one_way(boxes: None) -> None:
    (one, two) = json.loads(ps("--json").output)
    assert one["started"] is one["finished"] is one["main"] is None
    (seen,) = json.loads(CliRunner().invoke(cli, ["inspect", "two-two"]).output)
    for moment in (one["created"], two["finished"], seen["created"], seen["state"]["started"]):
        assert isinstance(moment, str) and moment.startswith("20") and moment.endswith("Z")
    assert two["main"] == seen["state"]["main"] == "000000000005"
    listed = json.loads(
        CliRunner().invoke(cli, ["events", "--no-follow", "--json"]).output.splitlines()[0]
    )
    assert listed["time"].endswith("Z")
    since = CliRunner().invoke(cli, ["events", "--no-follow", "--since", two["finished"]])
    assert since.exit_code == 0
