"""The command line as a program: what it says, where, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sandlot.cli import docker
from sandlot.cli.main import COMMANDS, cli
from sandlot.errors import ConfigError


def sandlot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandlot.cli.main", *words], capture_output=True, text=True,
        env=os.environ, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", [name for name, each in docker.COMMANDS.items() if each.verdict == docker.REFUSED]
)
def test_commands_of_docker_that_are_not_there_have_the_note_as_a_hint(name: str) -> None:
    """As docs/reference/docker.md says."""
    if name in COMMANDS:
        return  # it is there by now, as something else
    with pytest.raises(ConfigError, match=f"'{name}' is not a sandlot command") as caught:
        CliRunner().invoke(cli, [name, "x"], catch_exceptions=False)
    assert caught.value.hint == docker.COMMANDS[name].note


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rnu x", "did you mean `sandlot run`"),
        ("frobnicate", "'frobnicate' is not a sandlot command"),
        ("run --gpus all demo", "--gpus"),
        ("run no-such-image x", "no-such-image"),
        ("run -it no-such-image sh", "the input is not a terminal"),
        ("run --cpus 1.5 x", "1.5 is not a whole number of processors"),
        ("run -d --timeout 3s x", "--timeout cannot be combined"),
        ("run --timeout soon x", "'soon' is not a duration"),
        ("exec nobody ls", "no sandbox is named 'nobody'"),
        ("stop nobody", "no sandbox is named 'nobody'"),
        ("image rm nothing", "nothing"),
        ("completion tcsh", "tcsh"),
        ("create no-such-image", "no-such-image"),
        ("logs nobody", "nobody"),
        ("run", "IMAGE"),
        ("network ls", "sandboxes share no networks"),
        ("run --upstream-ca /etc/hostname no-such-image x", "no-such-image"),
    ],
)
def test_our_failures_are_125_with_one_line(own_state: Path, words: str, said: str) -> None:
    done = sandlot(*words.split())
    assert done.returncode == 125
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("sandlot: ")
    assert said in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))


@pytest.mark.parametrize("words", ["ps --json", "ps -a --json", "image ls --json"])
def test_an_empty_state_is_an_empty_list(own_state: Path, words: str) -> None:
    done = sandlot(*words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run --alow x y", "did you mean --allow?"),
        ("run --frobnicate x", "see `sandlot run --help`"),
        ("network inspect box", "`sandlot network show NAME` says what a sandbox may reach"),
        ("run no-such-image x", "make one with `sandlot build` or `sandlot image build`"),
    ],
)  # fmt: skip
def test_hints(own_state: Path, words: str, hint: str) -> None:
    assert hint in sandlot(*words.split()).stderr.partition("hint: ")[2].rstrip()


def test_rm_force_of_a_missing_one_is_no_error(own_state: Path) -> None:
    done = sandlot("rm", "-f", "nobody")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "sandlot: no sandbox is named 'nobody'\n"


@pytest.mark.parametrize("words", ["ps", "ps --json", "--help", "completion bash"])
def test_output_that_cannot_be_written(own_state: Path, words: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sandlot.cli.main", *words.split()], stdout=full, text=True,
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 125
    assert done.stderr == "sandlot: the output cannot be written: no space left on device\n"


def test_every_command_has_help() -> None:
    from sandlot.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.help
        assert command.epilog


def test_no_list_of_commands_is_cut() -> None:
    from click.testing import CliRunner

    from sandlot.cli.main import COMMANDS, cli

    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        if isinstance(command, click.Group):
            listed = CliRunner().invoke(cli, [name, "--help"]).output.partition("Commands:")[2]
            assert listed and "..." not in listed, name


@pytest.mark.parametrize(("word", "status"), [("--help", 0), ("--nonsense", 125)])
def test_the_program_ends_with_its_status_and_what_was_registered_for_its_end(
    word: str, status: int
) -> None:
    script = (
        "import atexit, sys\n"
        "from sandlot.cli.main import run\n"
        "atexit.register(print, 'the end', flush=True)\n"
        f"sys.argv = ['sandlot', {word!r}]\n"
        "run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stdout.endswith("the end\n")
    assert ("Commands:" in done.stdout) == (status == 0)
    assert ("not supported" in done.stderr) == (status == 125)


def test_the_program_waits_for_its_threads() -> None:
    script = (
        "import sys, threading\n"
        "from sandlot.cli.main import run\n"
        "main = threading.main_thread()\n"
        "threading.Thread(target=lambda: (main.join(), print('thread', flush=True))).start()\n"
        "sys.argv = ['sandlot', '--version']\n"
        "run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "thread")
