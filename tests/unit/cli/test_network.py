"""`sandlot network explain`."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from sandlot.cli.network import network


def explain(*words: str) -> Result:
    return CliRunner().invoke(network, ["explain", *words], standalone_mode=False)


def test_a_verdict_with_its_rule_and_remedy() -> None:
    done = explain("--allow", "api.example.com:443", "https://example.com/")
    assert done.return_value == 1
    assert done.output.splitlines() == [
        "refused: example.com:443",
        "rule: default deny",
        "reason: no rule allows example.com:443",
        "hint: allow example.com:443",
    ]
    done = explain("--allow", "*.example.com", "--deny", "b.example.com", "a.example.com:22")
    assert done.return_value == 0
    assert done.output.startswith("allowed: a.example.com:22\nrule: allow *.example.com\n")


def test_as_json() -> None:
    done = explain("--network", "open", "--resolves-to", "10.0.0.5", "db.corp:5432", "--json")
    assert done.return_value == 0
    found = json.loads(done.output)
    assert found["allowed"] and found["rule"] == "default open"
    assert [step["step"] for step in found["steps"]] == [
        "look up db.corp", "answer 10.0.0.5", "connect to 10.0.0.5",
    ]  # fmt: skip


def test_the_host_has_to_be_named() -> None:
    assert explain("--network", "open", "host:80").return_value == 1
    assert explain("--allow", "host:80", "host:80").return_value == 0
