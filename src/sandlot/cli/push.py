"""`sandlot push` and `sandlot pull`, and what `sandlot remote` says of what was pushed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandlot.cli.live import refuse
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
    "sandlot push --kind volume data; sandlot push --live --interval 10s web; "
    "sandlot push --live --after-exec web backup"
)
@_remote_options
@click.option("--memory", is_flag=True, help="Its programs as they run too, not only its disk.")
@click.option("--as", "name", metavar="NAME", help="What it is called there; as here otherwise.")
@click.option(
    "--keep", type=click.IntRange(1, 1000), help="How many versions of it to keep; 10 otherwise, 5 "
    "with --live.",
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
@click.option("--live", is_flag=True, help="Stay, and push its changes as they come.")
@click.option(
    "--interval", metavar="TIME", help="With --live: how often, such as 10s; 30s otherwise."
)
@click.option("--after-exec", is_flag=True, help="With --live: when a program in it has ended.")
@click.option("--json", "json_", is_flag=True, help="What was done, as JSON.")
@click.argument("what", metavar="SANDBOX")
@click.argument("to", metavar="[REMOTE]", default="")
def push(what: str, to: str, json_: bool, **options: Any) -> None:
    """Send SANDBOX, as it is now, to a remote, and print its version there.

    REMOTE is an address, such as s3://bucket/prefix, oci://host/repository, ssh://user@host/path or
    a folder, or the name of one that `sandlot remote add` wrote down; the default one otherwise.
    Only what is not there yet is sent, sealed with your key (`sandlot key new`); no values of
    secrets are. A push that was cut off goes on when it is asked for again.

    With --live a version is pushed at once, then at each point at which something was written since,
    and at the end, which is Ctrl-C or the end of the sandbox. What cannot be pushed is told, and
    tried again at the next point. `sandlot pull --follow` looks into it elsewhere.
    """
    live = {name: options.pop(name) for name in ("live", "interval", "after_exec")}
    if live.pop("live"):
        _live(what, to, live, options, json_)
        return
    refuse(live, {"interval": "--interval", "after_exec": "--after-exec"}, "for --live")
    options["keep"] = options["keep"] or 10
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


def _live(what: str, to: str, live: dict[str, Any], options: dict[str, Any], json_: bool) -> None:
    from sandlot.cli.live import push_live

    if options["kind"] != "sandbox":
        raise ConfigError(f"--live is for sandboxes, not for a {options['kind']}")
    remote, name = _to(to, options)
    chosen = {each: options[each] for each in ("memory", "force", "level")}
    if options["keep"]:
        chosen["keep"] = options["keep"]
    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C before the first version, or twice
        asyncio.run(
            push_live(
                what, remote, name, {**chosen, **live}, quiet=options["quiet"], json_=json_
            )
        )  # fmt: skip
        return
    raise click.Abort


def _to(to: str, options: dict[str, Any]) -> tuple[Remote, str | None]:
    """Where to push to, and under which name."""
    from sandlot.remote.address import is_address
    from sandlot.remote.place import parse_place

    name = options["name"]
    if is_address(to) and "#" in to:
        place = parse_place(to)
        to, name = place.remote, name or place.name
    return _remote(to, options), name


async def _push(what: str, to: str, progress: Progress, options: dict[str, Any]) -> Pushed:
    remote, name = _to(to, options)
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
    epilog="Examples: sandlot pull web; sandlot pull --start --lazy web@3 s3://bucket/work; "
    "sandlot pull --kind volume data backup; sandlot pull --follow -n look web"
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
@click.option(
    "--lazy", is_flag=True,
    help="Do not wait for all of its disk: what it reads comes first, the rest while it runs.",
)  # fmt: skip
@click.option("--start", is_flag=True, help="Start it, by itself, as `sandlot start` does.")
@click.option("-n", "--name", metavar="NAME", help="What to call it here; as it was otherwise.")
@click.option("--follow", is_flag=True, help="Stay, and have the newest version to look into.")
@click.option(
    "--interval",
    metavar="TIME",
    help="With --follow: how often to look for a new one; 5s otherwise.",
)
@click.option("--keep", is_flag=True, help="With --follow: leave it here at the end, stopped.")
@click.argument("source", metavar="NAME[@VERSION]|ADDRESS")
@click.argument("remote", metavar="[REMOTE]", default="")
def pull(source: str, remote: str, **options: Any) -> None:
    """Fetch a sandbox that was pushed, and print its id.

    What is here already is not fetched, and everything is checked. `sandlot start` lets it go on:
    its programs too, if they were pushed with --memory and this machine is like that one, which is
    told before anything is fetched. Values of secrets were not pushed: give them with --secret.
    Pull only from those whose programs you would run. Images are fetched with `sandlot image pull`.

    With --follow a sandbox stands at the newest version until Ctrl-C, to look into with `sandlot
    exec`, `cp` and the like. Nothing can be written to it, it has no network, and what ran elsewhere
    does not run in it. When a version comes, another one takes its place under its name, and
    programs that run in the old one end. It is removed at the end.
    """
    from sandlot.sandbox.host import Host

    following = {name: options.pop(name) for name in ("interval", "keep")}
    if options.pop("follow"):
        _follow(source, remote, following, options)
        return
    refuse(following, {"interval": "--interval", "keep": "--keep"}, "for --follow")
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


# What one that is looked into has none of.
_NOT_FOLLOWED = {
    "env": "-e", "env_file": "--env-file", "label": "-l", "fallback": "--fallback",
    "start": "--start", "publish": "-p", "secret": "--secret", "secret_file": "--secret-file",
    "volume": "-v", "mount": "--mount", "tmpfs": "--tmpfs", "allow": "--allow", "deny": "--deny",
    "network": "--network", "peer": "--peer",
}  # fmt: skip


def _follow(source: str, address: str, following: dict[str, Any], options: dict[str, Any]) -> None:
    from sandlot.cli.live import follow

    if options["kind"] != "sandbox":
        raise ConfigError(f"--follow is for sandboxes, not for a {options['kind']}")
    refuse(options, _NOT_FOLLOWED, "not for --follow: it is only looked into")
    what, remote = _from(source, address, options)
    how = {"keep": following["keep"]} | (
        {"interval": following["interval"]} if following["interval"] else {}
    )
    asyncio.run(follow(what, remote, options["name"], how, quiet=options["quiet"]))


def _from(source: str, address: str, options: dict[str, Any]) -> tuple[str, Remote]:
    """What to pull, and where from."""
    from sandlot.remote.address import is_address
    from sandlot.remote.place import parse_place

    place = parse_place(source, address)
    what = source.partition("#")[2] if is_address(source) else source
    return what, _remote(place.remote, options)


async def _pull(source: str, address: str, progress: Progress, options: dict[str, Any]) -> Any:
    what, remote = _from(source, address, options)
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
        what, options["name"], start=options["start"], lazy=options["lazy"], detached=True,
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
