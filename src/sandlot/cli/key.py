"""`sandlot key new | ls | rotate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from sandlot.cli.options import Whole
from sandlot.cli.output import as_json


@click.group(cls=Whole, epilog="Example: sandlot key new; sandlot key ls")
def key() -> None:
    """Make keys for what is pushed, and say who may read it."""


def _path(file: str | None) -> Path:
    from sandlot.settings import Settings

    return Path(file or Settings.read().key).expanduser()


@key.command(epilog="Examples: sandlot key new; sandlot key new ~/work.key")
@click.argument("file", required=False)
def new(file: str | None) -> None:
    """Make a key in FILE, or where it is looked for, and print its recipient.

    Bring the same file to every machine that is to pull what you push, and keep a copy of it in a
    safe place: without it what was pushed cannot be read by anybody. It is a key of age. Others may
    know the recipient, and need it to let you read what they push.
    """
    from sandlot.remote.keys import new_key_file

    path = _path(file)
    recipient = new_key_file(path)
    click.echo(f"sandlot: {path} opens what you push: keep a copy of it", err=True)
    click.echo(recipient)


@key.command(epilog="Examples: sandlot key ls; sandlot key ls --key ~/work.key s3://bucket/work")
@click.option("--key", "file", metavar="FILE", help="The key file; SANDLOT_KEY otherwise.")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.argument("remote", required=False)
def ls(file: str | None, json_: bool, remote: str | None) -> None:
    """Print the recipients of your key; with REMOTE, of all who may read what is pushed there.

    Compare the fingerprint with that of whom you share the remote with: it is the same if the store
    has not put keys of its own there.
    """
    from sandlot.remote.keys import Keys, read_key_file
    from sandlot.remote.remote import Remote

    if remote is None:
        recipients = Keys(read_key_file(_path(file))).recipients()
        if json_:
            as_json({"file": str(_path(file)), "recipients": recipients})
            return
        for each in recipients:
            click.echo(each)
        return
    readers = asyncio.run(Remote(remote, key=file).readers())
    if json_:
        as_json(
            {"fingerprint": readers.fingerprint, "recipients": list(readers.recipients),
             "passphrase": readers.passphrase, "endorsed": readers.endorsed}
        )  # fmt: skip
        return
    how = "" if readers.endorsed else " (compare it: your key does not prove that it is right)"
    click.echo(f"sandlot: the keys have the fingerprint {readers.fingerprint}{how}", err=True)
    for each in readers.recipients:
        click.echo(each)
    if readers.passphrase:
        click.echo("(a passphrase)")


@key.command(
    epilog="Examples: sandlot key rotate --recipient age1... s3://bucket/work; "
    "sandlot key rotate --remove age1... backup"
)
@click.option("--recipient", "add", multiple=True, metavar="AGE1...", help="Let this key read too.")
@click.option(
    "--remove", multiple=True, metavar="AGE1...", help="Do not encrypt to this key any more."
)
@click.option("--key", "file", metavar="FILE", help="The key file; SANDLOT_KEY otherwise.")
@click.option(
    "--passphrase-file", metavar="FILE", help="Let the passphrase in this file open it from now on."
)
@click.option(
    "--fingerprint", metavar="HEX", default="",
    help="That of the remote's keys, where nothing else proves that they are right.",
)  # fmt: skip
@click.argument("remote", default="")
def rotate(
    add: tuple[str, ...], remove: tuple[str, ...], file: str | None, passphrase_file: str | None,
    fingerprint: str, remote: str,
) -> None:  # fmt: skip
    """Encrypt the keys of REMOTE anew, to other recipients, and print these.

    Nothing that was pushed is sent again. Who could read before may have kept the keys: to shut
    somebody out of what comes, push to a new remote.
    """
    from sandlot.remote.remote import Remote, read_passphrase

    passphrase = read_passphrase(Path(passphrase_file)) if passphrase_file else None
    readers = asyncio.run(
        Remote(remote, key=file, fingerprint=fingerprint).rotate(
            add=add, remove=remove, passphrase=passphrase
        )
    )
    for each in readers.recipients:
        click.echo(each)
