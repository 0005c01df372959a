"""`sandlot completion`."""

from __future__ import annotations

import os
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='Example: eval "$(sandlot completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script for SHELL; source it in the shell's start-up file.

    Without SHELL it is for the one that $SHELL names.
    """
    from click.shell_completion import get_completion_class

    from sandlot.cli.main import cli
    from sandlot.errors import ConfigError

    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        why = f"there is no completion for $SHELL, {chosen!r}" if chosen else "no shell was named"
        raise ConfigError(why, hint=f"name one: `sandlot completion {'|'.join(SHELLS)}`")
    kind = get_completion_class(chosen)
    assert kind is not None
    click.echo(kind(cli, {}, "sandlot", "_SANDLOT_COMPLETE").source())
