"""`sandlot completion`."""

from __future__ import annotations

import click


@click.command(epilog='Example: eval "$(sandlot completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; source it in the shell's start-up file."""
    from click.shell_completion import get_completion_class

    from sandlot.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "sandlot", "_SANDLOT_COMPLETE").source())
