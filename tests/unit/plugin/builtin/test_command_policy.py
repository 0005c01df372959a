"""Patterns of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandlot import CommandPolicy, ConfigError, ExecContext, Refuse


def allowed(policy: CommandPolicy, *argv: str) -> bool:
    try:
        policy.on_exec(ExecContext(sandbox="box", id=1, argv=argv))
    except Refuse:
        return False
    return True


@pytest.mark.parametrize(
    ("pattern", "argv", "matches"),
    [
        ("git *", ("git", "status", "-s"), True), ("git *", ("git",), True),
        ("git", ("git",), True), ("git", ("git", "push"), False), ("git *", ("gita",), False),
        ("git *", ("/usr/bin/git", "x"), True), ("/usr/bin/git *", ("git", "x"), False),
        ("/usr/bin/* *", ("/usr/bin/git", "x"), True), ("python3 -m *", ("python3", "-c"), False),
        ("python3 -m http.*", ("python3", "-m", "http.server"), True),
        ("python3 -m http.*", ("python3", "-m", "http.server", "1"), False),
        ("sh -c 'ls *'", ("/bin/sh", "-c", "ls -l"), True),
        ("sh -c 'ls *'", ("/bin/sh", "-c", "rm -rf / #ls"), False),
        ("[ab] *", ("a",), True), ("a ? *", ("a", "xy"), False), ("*", ("anything",), True),
    ],
)  # fmt: skip
def test_patterns(pattern: str, argv: tuple[str, ...], matches: bool) -> None:
    assert allowed(CommandPolicy(allow=[pattern]), *argv) is matches
    assert allowed(CommandPolicy(deny=[pattern]), *argv) is not matches


def test_deny_comes_first_and_words_may_be_given_apart() -> None:
    policy = CommandPolicy(allow=[["git", "*"]], deny=["git push *"])
    assert allowed(policy, "git", "pull") and not allowed(policy, "git", "push", "-f")
    assert not allowed(policy, "ls")
    with pytest.raises(Refuse, match="no pattern allows `ls -l`"):
        policy.on_exec(ExecContext(sandbox="box", id=1, argv=("ls", "-l")))
    assert not allowed(CommandPolicy(allow=[]), "ls")


def test_wrong_ones() -> None:
    wrong: Any
    for wrong in ([""], ["'"], [[]], [[1]]):
        with pytest.raises(ConfigError):
            CommandPolicy(allow=wrong)
    with pytest.raises(ConfigError):
        CommandPolicy()


def test_arguments() -> None:
    policy = CommandPolicy.from_argument("git *; ls ;!git push *", Path("/"))
    assert allowed(policy, "ls") and allowed(policy, "git", "x") and not allowed(policy, "id")
    assert not allowed(policy, "git", "push")
    assert allowed(CommandPolicy.from_argument("!rm *", Path("/")), "ls")
    with pytest.raises(ConfigError):
        CommandPolicy.from_argument("", Path("/"))
