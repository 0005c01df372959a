"""Arguments of the wrong kind are told by name, with the remedy."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import sandlot
from sandlot import sync
from sandlot.errors import ConfigError
from sandlot.sandbox.arguments import explained, flag, mapping, text, text_or_none
from sandlot.sandbox.execution import arguments, check_limits, terminal_size
from sandlot.sandbox.options import check_env
from sandlot.sandbox.policy import check_policy
from sandlot.sandbox.process import signal_number
from sandlot.sandbox.sizes import check_name


@pytest.mark.parametrize(
    ("call", "says", "remedy"),
    [
        (lambda: text(5, "user", '"nobody"'), "user is int, not text", '"nobody"'),
        (lambda: text_or_none(b"", "user", "x"), "user is bytes", "x"),
        (lambda: mapping(["A=1"], "env", "env={}"), "env is list, not names and values", "env={}"),
        (lambda: mapping({1: "x"}, "env", "env={}"), "the name 1, which is int", "env={}"),
        (lambda: flag("no", "detached", "remedy"), "detached is str, not True", "remedy"),
        (lambda: check_env(["A=1"]), "env is list", 'env={"NAME": "value"}'),  # type: ignore[arg-type]
        (lambda: check_env({"A": 1}), "variable A is int", 'env={"A": "value"}'),  # type: ignore[dict-item]
        (lambda: check_limits("nofile=5"), "limits is str", "nofile"),  # type: ignore[arg-type]
        (lambda: check_policy(detached=False, auto_remove=False, labels=["a"]), "labels is list", "team"),  # type: ignore[arg-type]
        (lambda: check_policy(detached=False, auto_remove=False, restart=None), "restart is None", "on-failure"),  # type: ignore[arg-type]
        (lambda: check_name(5), "the name of a sandbox is int", "my-sandbox"),  # type: ignore[arg-type]
        (lambda: arguments(5), "the command is int", "a list of words"),  # type: ignore[arg-type]
        (lambda: arguments(b"ls"), "the command is bytes", "a list of words"),  # type: ignore[arg-type]
        (lambda: arguments({"a": "b"}), "the command is dict", "a list of words"),  # type: ignore[arg-type]
        (lambda: arguments(["sleep", 1]), "the argument 1 is int", 'write it as "1"'),  # type: ignore[list-item]
        (lambda: arguments([]), "no command was given", "a list of words"),
        (lambda: terminal_size("yes"), "tty 'yes'", "rows, columns"),
        (lambda: terminal_size((24, 0)), r"tty \(24, 0\)", "rows, columns"),
        (lambda: signal_number(None), "None is not a signal", "TERM"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_wrong_kinds(call: Callable[[], object], says: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        call()
    assert remedy in caught.value.hint


def test_right_ones() -> None:
    assert text_or_none(None, "x", "y") is None and mapping(None, "x", "y") == {}
    assert terminal_size(True) == (24, 80) and terminal_size((9, 10)) == (9, 10)
    assert terminal_size(False) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cwd": "/"}, r"exec\(\) has no argument 'cwd'; did you mean workdir="),
        ({"environment": {}}, "did you mean env="),
        ({"timout": 3}, "did you mean timeout="),
        ({"xyz": 3}, "it has command, .*workdir"),
    ],
)
def test_arguments_that_do_not_exist(given: dict[str, object], says: str) -> None:
    @explained
    def exec(command: str, *, workdir: str = "", env: object = None, timeout: int = 0) -> str:
        return command + workdir

    assert exec("a", workdir="b") == "ab"
    with pytest.raises(TypeError, match=says):
        exec("a", **given)  # type: ignore[arg-type]


def test_the_api_explains(own_state: Path) -> None:
    for kind in (sandlot.Sandbox, sync.Sandbox):
        with pytest.raises(TypeError, match="did you mean workdir"):
            kind.create(image="x", cwd="/")  # type: ignore[call-arg]
        for name in ("exec", "spawn"):
            call = getattr(kind, name)
            assert "self" in inspect.signature(call).parameters and call.__doc__
            with pytest.raises(TypeError, match=rf"{name}\(\) has no .* mean workdir"):
                made = call(None, "true", cwd="/")
                asyncio.run(made)
    assert inspect.iscoroutinefunction(sandlot.Sandbox.exec)
