"""The table of Docker's commands says what the commands really do."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from sandlot.cli import docker
from sandlot.cli.main import COMMANDS, cli

CONTEXT = click.Context(cli, info_name="sandlot")
FLAGS = [
    (name, flag, verdict, note)
    for name, command in docker.COMMANDS.items()
    for flag, (verdict, note) in command.flags.items()
]


def flags_of(name: str) -> set[str]:
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    return {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)}


def sandlot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True
    )


@pytest.mark.parametrize("name", docker.COMMANDS)
def test_a_command_is_there_or_refused_with_the_reason(name: str) -> None:
    command = docker.COMMANDS[name]
    assert (name in COMMANDS or name in docker.ALIASES) == (command.verdict != docker.REFUSED)
    assert command.note or command.verdict == docker.SAME
    assert not command.flags or command.verdict != docker.REFUSED


@pytest.mark.parametrize(("name", "flag", "verdict", "note"), FLAGS)
def test_a_flag_is_there_or_refused_with_the_reason(
    name: str, flag: str, verdict: str, note: str
) -> None:
    assert (flag in flags_of(name)) == (verdict != docker.REFUSED)
    assert note or verdict == docker.SAME
    assert (docker.remedy(flag, name) == note) == (verdict == docker.REFUSED) or not note


def test_our_own_short_flags_mean_what_dockers_mean() -> None:
    """A short flag that Docker does not have in a command could mean something else there later."""
    for name in ("run", "create", "exec", "ps", "rm", "stop", "logs", "kill"):
        known = docker.COMMANDS[name].flags
        short = {flag for flag in flags_of(name) if len(flag) == 2}
        assert not {f for f in short if known.get(f, ("", ""))[0] == docker.REFUSED}
        assert short <= set(known)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--network", "host", "x"], "--allow host"),
        (["run", "--ip", "10.0.0.1", "x"], "same address"),
        (["run", "--privileged", "x"], "a machine of its own"),
        (["inspect", "--format", "x", "y"], "jq"),
        (["system", "df"], "sandlot df"),
        (["swarm", "init"], "no daemon"),
        (["push", "x"], "no sandbox is named"),
    ],
)
def test_what_is_refused_says_why(words: list[str], says: str) -> None:
    r = sandlot(*words)
    assert r.returncode == 125 and says in r.stderr, r.stderr
    assert len(r.stderr.splitlines()) <= 2


def test_compose_is_fleet() -> None:
    assert sandlot("compose", "ls").stdout == sandlot("fleet", "ls").stdout != ""


def test_dockers_words_for_images(own_state: object) -> None:
    assert sandlot("images").stdout == sandlot("image", "ls").stdout
    assert sandlot("rmi", "no-such").stderr == sandlot("image", "rm", "no-such").stderr
