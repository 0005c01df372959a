"""`sandlot push` and `sandlot pull`, and what `sandlot remote` says of what was pushed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandlot.cli.options import environment, labels, network_of, reach_options, secrets_of
from sandlot.cli.output import Progress, ago, as_json, human_size, table
from sandlot.errors import ConfigError, KeyMissing, RemoteNotFound

if TYPE_CHECKING:
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed

F = TypeVar("F", bound=Callable[..., Any])


def _remote_options(function: F) -> F:
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
        click.option("--rate", metavar="SIZE", help="Move at most so much a second, such as 2M."),
        click.option(
            "--passphrase-file", metavar="FILE", help="A passphrase that opens the remote too."
        ),
        click.option(
            "--fingerprint",
            metavar="HEX",
            default="",
            help="That of the remote's keys, as `sandlot key ls` tells it elsewhere: needed once "
            "where your key was only added to them.",
        ),
        click.option("--key", metavar="FILE", help="The key file; SANDLOT_KEY otherwise."),
        click.option(
            "--kind",
            type=click.Choice(("sandbox", "snapshot", "volume")),
            default="sandbox",
            show_default=True,
            help="What it is.",
        ),
    ):
        function = option(function)
    return function


def _remote(address: str, options: dict[str, Any]) -> Remote:
    from pathlib import Path

    from sandlot.remote.remote import Remote, read_passphrase

    file = options["passphrase_file"]
    return Remote(
        address, key=options["key"], rate=options["rate"],
        passphrase=read_passphrase(Path(file)) if file else None,
        recipients=options.get("recipient", ()), fingerprint=options["fingerprint"],
    )  # fmt: skip


@click.command(
    epilog="Examples: sandlot push web s3://bucket/work; sandlot push --memory web backup; "
    "sandlot push --kind volume data"
)
@_remote_options
@click.option("--memory", is_flag=True, help="Its programs as they run too, not only its disk.")
@click.option("--as", "name", metavar="NAME", help="What it is called there; as here otherwise.")
@click.option(
    "--keep", type=click.IntRange(1, 1000), default=10, show_default=True,
    help="How many versions of it to keep.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Push over what this did not come from.")
@click.option(
    "--level", type=click.IntRange(1, 19), default=1, show_default=True,
    help="How hard to compress.",
)  # fmt: skip
@click.option(
    "--recipient", multiple=True, metavar="AGE1...",
    help="Let this key read it too, when this makes the remote.",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="What was done, as JSON.")
@click.argument("what", metavar="SANDBOX")
@click.argument("to", metavar="[REMOTE]", default="")
def push(what: str, to: str, json_: bool, **options: Any) -> None:
    """Send SANDBOX, as it is now, to a remote, and print its version there.

    REMOTE is an address, such as s3://bucket/prefix, oci://host/repository, ssh://user@host/path or
    a folder, or the name of one that `sandlot remote add` wrote down; the default one otherwise.
    Only what is not there yet is sent, sealed with your key (`sandlot key new`); no values of
    secrets are. A push that was cut off goes on when it is asked for again.
    """
    progress = Progress(delay=0.5)
    try:
        done = asyncio.run(_push(what, to, progress, options))
    finally:
        progress.close()
    if json_:
        as_json(dataclasses.asdict(done))
        return
    click.echo(
        f"sandlot: {done.name} is version {done.version} in {done.remote}: "
        f"{human_size(done.size)}, of which {human_size(done.moved)} were sent",
        err=True,
    )
    click.echo(f"{done.name}@{done.version}")


async def _push(what: str, to: str, progress: Progress, options: dict[str, Any]) -> Pushed:
    from sandlot.remote.address import is_address
    from sandlot.remote.place import parse_place

    name = options["name"]
    if is_address(to) and "#" in to:
        place = parse_place(to)
        to, name = place.remote, name or place.name
    remote = _remote(to, options)
    common: dict[str, Any] = {
        "keep": options["keep"], "force": options["force"], "level": options["level"],
        "progress": None if options["quiet"] else progress,
    }  # fmt: skip
    if options["kind"] == "snapshot":
        from sandlot.sandbox.snapshots import Snapshot

        snapshot = await Snapshot.get(what)
        if options["memory"] and snapshot.kind == "disk":
            raise ConfigError(f"snapshot {what!r} has no memory")
        return await snapshot.push(remote, name, **common)
    if options["kind"] == "volume":
        from sandlot.volume.volume import Volume

        if options["memory"]:
            raise ConfigError("--memory is for sandboxes")
        return await (await Volume.get(what)).push(remote, name, **common)
    from sandlot.sandbox.sandbox import Sandbox

    return await (await Sandbox.get(what)).push(remote, name, memory=options["memory"], **common)


@click.command(
    epilog="Examples: sandlot pull web; sandlot pull --start web@3 s3://bucket/work; "
    "sandlot pull --kind volume data backup"
)
@_remote_options
@reach_options
@click.option("--env-file", multiple=True, metavar="FILE", help="Read variables from a file.")
@click.option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="Set a variable.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Instead of its labels.")
@click.option("--disk-only", is_flag=True, help="Its disk alone: its programs begin anew.")
@click.option(
    "--fallback", is_flag=True, help="Its disk alone if its programs cannot go on on this machine."
)
@click.option("--start", is_flag=True, help="Start it, by itself, as `sandlot start` does.")
@click.option("-n", "--name", metavar="NAME", help="What to call it here; as it was otherwise.")
@click.argument("source", metavar="NAME[@VERSION]|ADDRESS")
@click.argument("remote", metavar="[REMOTE]", default="")
def pull(source: str, remote: str, **options: Any) -> None:
    """Fetch a sandbox that was pushed, and print its id.

    What is here already is not fetched, and everything is checked. `sandlot start` lets it go on:
    its programs too, if they were pushed with --memory and this machine is like that one, which is
    told before anything is fetched. Values of secrets were not pushed: give them with --secret.
    Pull only from those whose programs you would run. Images are fetched with `sandlot image pull`.
    """
    from sandlot.sandbox.host import Host

    Host.current().tell = lambda text: click.echo(f"sandlot: {text}", err=True)
    progress = Progress(delay=0.5)
    try:
        made = asyncio.run(_pull(source, remote, progress, options))
    except (ConfigError, KeyMissing, RemoteNotFound) as error:
        if not remote and "/" not in source and "@" not in source:
            error.hint += f"; an image is fetched with `sandlot image pull {source}`"
        raise
    finally:
        progress.close()
    click.echo(f"sandlot: pulled as {made.name}", err=True)
    click.echo(made.id if options["kind"] != "volume" else made.name)


async def _pull(source: str, address: str, progress: Progress, options: dict[str, Any]) -> Any:
    from sandlot.remote.address import is_address
    from sandlot.remote.place import parse_place

    place = parse_place(source, address)
    remote: Remote = _remote(place.remote, options)
    what = source.partition("#")[2] if is_address(source) else source
    told = None if options["quiet"] else progress
    common: dict[str, Any] = {"remote": remote, "progress": told}
    if options["kind"] == "volume":
        from sandlot.volume.volume import Volume

        return await Volume.pull(what, options["name"], **common)
    common |= {"disk_only": options["disk_only"], "fallback": options["fallback"]}
    if options["kind"] == "snapshot":
        from sandlot.sandbox.snapshots import Snapshot

        return await Snapshot.pull(what, options["name"], **common)
    from sandlot.cli.mounts import volumes_of
    from sandlot.sandbox.sandbox import Sandbox

    return await Sandbox.pull(
        what, options["name"], start=options["start"], detached=True,
        env=environment(options["env"], options["env_file"]), network=network_of(options),
        ports=list(options["publish"]) or None,
        secrets=secrets_of(options["secret"], options["secret_file"]),
        labels=labels(options["label"]) if options["label"] else None,
        volumes=volumes_of(options) or None, **common,
    )  # fmt: skip


# Section: below `sandlot remote`


def list_pushed(address: str, *, json_: bool, quiet: bool = False) -> None:
    """Print what was pushed to a remote."""
    from sandlot.remote.remote import Remote

    found = asyncio.run(Remote(address).list())
    if json_:
        as_json([dataclasses.asdict(each) for each in found])
        return
    if quiet:
        for each in found:
            click.echo(each.name)
        return
    table(
        ("NAME", "KIND", "VERSIONS", "PUSHED", "SIZE"),
        [
            (each.name, each.kind, " ".join(str(v.version) for v in each.versions[-8:]),
             ago(each.versions[-1].created), human_size(each.versions[-1].size))
            for each in found
        ],
    )  # fmt: skip


@click.command(epilog="Examples: sandlot remote gc; sandlot remote gc --wait 600 backup")
@click.option(
    "--wait", type=click.IntRange(0, 86400), default=0, metavar="SECONDS",
    help="Wait so long for pushes that are under way.",
)  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="What was removed, as JSON.")
@click.argument("remote", default="")
def gc(wait: int, json_: bool, remote: str) -> None:
    """Remove from REMOTE what no version needs any more, and print how many bytes that gave back.

    Nobody can push meanwhile; who pulls is not disturbed.
    """
    from sandlot.remote.remote import Remote

    done = asyncio.run(Remote(remote).gc(patience=float(wait)))
    if json_:
        as_json(dataclasses.asdict(done))
        return
    click.echo(f"sandlot: {human_size(done.freed)} freed, {human_size(done.kept)} kept", err=True)
    click.echo(done.freed)


@click.command(epilog="Example: sandlot remote forget web backup")
@click.argument("name")
@click.argument("remote", default="")
def forget(name: str, remote: str) -> None:
    """Drop all versions of NAME from REMOTE; `sandlot remote gc` then gives back their room."""
    from sandlot.remote.remote import Remote

    asyncio.run(Remote(remote).forget(name))
    click.echo(name)
