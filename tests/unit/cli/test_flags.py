"""Errors of the library, for who has flags."""

from __future__ import annotations

import inspect

import pytest

from sandlot import Sandbox
from sandlot.cli.flags import FLAGS, in_flags
from sandlot.cli.run import run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KEY is a secret and in env=", "KEY is a secret and in -e"),
        ("leave it out of env=", "leave it out of -e"),
        ("ask for less with memory= or --memory", "ask for less with --memory"),
        ("an attached one ends; use detached=True or -d", "an attached one ends; use -d"),
        ("all of them with cascade=True (--cascade)", "all of them with --cascade"),
        ("upstream_ca: there is no file /x", "--upstream-ca: there is no file /x"),
        ("name them with secrets= or inspect=; others", "name them with --secret or --inspect; others"),
        ("use idle_action='stop'", "use --idle-action stop"),
        ("idle_action 'x' is not known", "--idle-action 'x' is not known"),
        ("environment variable A=B=C has no_such word", "environment variable A=B=C has no_such word"),
        ("sandbox 'my_box' is not running", "sandbox 'my_box' is not running"),
    ],
)  # fmt: skip
def test_arguments_become_flags(text: str, expected: str) -> None:
    assert in_flags(text) == expected


def test_every_flag_and_every_argument_exists() -> None:
    flags = {name for parameter in run.params for name in parameter.opts}
    assert set(FLAGS.values()) <= flags
    arguments = set(inspect.signature(Sandbox.create).parameters)
    assert set(FLAGS) - {"stop_grace"} <= arguments
