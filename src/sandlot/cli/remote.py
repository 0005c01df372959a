"""`sandlot remote add | ls | rm`, and what push.py has: `gc | forget`."""

from __future__ import annotations

import click

from sandlot.cli.options import Whole
from sandlot.cli.output import as_json, table
from sandlot.cli.push import forget, gc, list_pushed
from sandlot.errors import ConfigError


@click.group(cls=Whole, epilog="Example: sandlot remote add --default team s3://bucket/sandboxes")
def remote() -> None:
    """Name the places that sandboxes are pushed to: folders, S3, registries, SSH."""


@remote.command(
    epilog="Examples: sandlot remote add nas /mnt/nas/sandboxes; "
    "sandlot remote add --endpoint https://minio.example.com:9000 team s3://bucket/sandboxes; "
    "sandlot remote add --default box ssh://me@box.example.com/~/sandboxes"
)
@click.option("--default", is_flag=True, help="The one that is meant when none is named.")
@click.option(
    "--endpoint", metavar="URL", default="",
    help="The server of an s3:// address; without it, AWS_ENDPOINT_URL or AWS.",
)  # fmt: skip
@click.argument("name")
@click.argument("address")
def add(default: bool, endpoint: str, name: str, address: str) -> None:
    """Give the remote at ADDRESS a NAME, and print it.

    ADDRESS is a folder, s3://BUCKET/PREFIX, oci://REGISTRY/REPOSITORY or ssh://USER@HOST/PATH.
    Credentials are not kept: they are found as `aws`, `docker login` and `ssh` find them.
    """
    from sandlot.remote.address import parse_address
    from sandlot.remote.configured import add_remote
    from sandlot.settings import Settings

    add_remote(name, parse_address(address, endpoint), Settings.read(), default=default)
    click.echo(name)


for command in (gc, forget):
    remote.add_command(command)


@remote.command(
    epilog="Examples: sandlot remote ls; sandlot remote ls --json; sandlot remote ls team"
)
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.argument("remote", default="")
def ls(json_: bool, quiet: bool, remote: str) -> None:
    """List the remotes that have names; with REMOTE, what was pushed to it."""
    from sandlot.remote.configured import read_remotes
    from sandlot.settings import Settings

    if remote:
        list_pushed(remote, json_=json_, quiet=quiet)
        return
    settings = Settings.read()
    remotes = read_remotes(settings)
    default = settings.remote or remotes.default
    if json_:
        as_json(
            [
                {"name": name, "address": address, "default": name == default}
                for name, address in sorted(remotes.addresses.items())
            ]
        )
    elif quiet:
        for name in sorted(remotes.addresses):
            click.echo(name)
    else:
        table(
            ("NAME", "ADDRESS", "DEFAULT"),
            [
                (name, address, "yes" if name == default else "-")
                for name, address in sorted(remotes.addresses.items())
            ],
        )


@remote.command(epilog="Example: sandlot remote rm team")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def rm(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Forget remotes, and print their names. What was pushed to them stays there."""
    from sandlot.cli.main import complain
    from sandlot.remote.configured import remove_remote
    from sandlot.settings import Settings

    failed = False
    for name in names:
        try:
            remove_remote(name, Settings.read())
            click.echo(name)
        except ConfigError as error:
            complain(error.message, error.hint)
            failed = True
    ctx.exit(125 if failed else 0)
