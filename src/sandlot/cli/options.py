"""Flags that several commands share, in Docker's spelling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sandlot.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

PASS_THROUGH = {"allow_interspersed_args": False}


def environment(pairs: Sequence[str], files: Sequence[str] = ()) -> dict[str, str]:
    """`-e KEY=VALUE`, `-e KEY` (from our own environment, left out when it is not set), `--env-file`.

    Raises:
        ConfigError: a file cannot be read, or a name is empty.
    """
    lines: list[str] = []
    for name in files:
        try:
            text = Path(name).read_text()
        except OSError as error:
            raise ConfigError(f"cannot read env file {name}: {error.strerror}") from error
        stripped = (line.strip() for line in text.splitlines())
        lines += [line for line in stripped if line and not line.startswith("#")]
    values = {}
    for pair in [*lines, *pairs]:
        key, equals, value = pair.partition("=")
        if not key:
            raise ConfigError(f"{pair!r} is not an environment variable", hint="use -e KEY=VALUE")
        if equals:
            values[key] = value
        elif key in os.environ:
            values[key] = os.environ[key]
    return values


def command_words(words: Sequence[str]) -> list[str]:
    """The command after the image or name, with or without `--`."""
    return list(words[1:] if words and words[0] == "--" else words)


def whole_cpus(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Docker allows fractions of a processor; a machine has whole ones."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if number < 1 or number != int(number):
        raise click.BadParameter(f"{value} is not a whole number of processors", ctx, param)
    return int(number)


def process_options(function: F) -> F:
    """-e, --env-file, -w, -u, -i, -t: what a process gets."""
    for option in (
        click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
        click.option("-i", "--interactive", is_flag=True, help="Keep its standard input open."),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="Run as this user."),
        click.option("-w", "--workdir", metavar="DIR", help="Start in this folder."),
        click.option(
            "--env-file", multiple=True, metavar="FILE", help="Read variables from a file."
        ),
        click.option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="Set a variable."),
    ):
        function = option(function)
    return function


def machine_options(function: F) -> F:
    """--name, --memory, --cpus, --disk, --hostname, --entrypoint, --pull, --rm: what a sandbox gets."""
    for option in (
        click.option("--entrypoint", metavar="PROGRAM", help="Instead of the image's entrypoint."),
        click.option("-h", "--hostname", metavar="NAME", help="Its host name; the name otherwise."),
        click.option("--disk", default="4G", show_default=True, help="Size of its writable disk."),
        click.option(
            "--cpus", default="1", show_default=True, callback=whole_cpus, help="Processors."
        ),
        click.option("-m", "--memory", default="1G", show_default=True, help="Memory."),
        click.option(
            "--platform", metavar="OS/ARCH", help="Of the image, when it is pulled; this machine's."
        ),
        click.option(
            "--pull",
            type=click.Choice(["missing", "always", "never"]),
            help="When to ask a registry for the image; when it is missing.",
        ),
        click.option("--rm", "auto_remove", is_flag=True, help="Remove it when it ends."),
        click.option("--name", help="A name, unique on this machine."),
    ):
        function = option(function)
    return function
