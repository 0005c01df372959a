"""`sandlot volume create | ls | inspect | rm | cp | prune`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.options import Whole, labels
from sandlot.cli.output import ago, as_json, human_size, table
from sandlot.errors import ConfigError

if TYPE_CHECKING:
    from sandlot.errors import SandboxError
    from sandlot.files.extract import Transfer
    from sandlot.volume.volume import Volume


@click.group(
    cls=Whole, epilog="Example: sandlot volume create data; sandlot run -v data:/data demo ls /data"
)
def volume() -> None:
    """Make, list, copy and remove named volumes: files that outlive sandboxes and are shared."""


@volume.command(epilog="Example: sandlot volume create --size 10G --label app=web data")
@click.option(
    "-s", "--size", metavar="SIZE", help="What it may hold; without it, what the host's disk has."
)
@click.option(
    "--kind", type=click.Choice(("folder", "disk")), default="folder", show_default=True,
    help="A disk has a file system of its own, for one sandbox at a time: for databases.",
)  # fmt: skip
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="A label, for listings.")
@click.argument("name")
def create(size: str | None, kind: str, label: tuple[str, ...], name: str) -> None:
    """Make an empty volume, and print its name."""
    from sandlot.volume.volume import Volume

    made = asyncio.run(Volume.create(name, size=size, kind=kind, labels=labels(label)))
    click.echo(made.name)


_FILTERS = ("name", "label", "dangling")


@volume.command(epilog="Examples: sandlot volume ls; sandlot volume ls -q -f dangling=true")
@click.option("--json", "json_", is_flag=True, help="Everything, with the space each takes.")
@click.option("-q", "--quiet", is_flag=True, help="Only names.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help="Only those with this name, this label, or (dangling=true) that no sandbox has.",
)  # fmt: skip
def ls(json_: bool, quiet: bool, filters: tuple[str, ...]) -> None:
    """List the volumes."""
    from sandlot.cli.main import complain
    from sandlot.volume.store import VolumeStore
    from sandlot.volume.volume import Volume

    def unreadable(error: SandboxError) -> None:
        complain(error.message, error.hint)

    users = VolumeStore.current().users()
    found = [
        each for each in asyncio.run(Volume.list(unreadable=unreadable))
        if all(_matches(each, text, users) for text in filters)
    ]  # fmt: skip
    if json_:
        as_json(asyncio.run(_inspected(found)))
    elif quiet:
        for each in found:
            click.echo(each.name)
    else:
        table(
            ("NAME", "KIND", "LIMIT", "CREATED", "SANDBOXES", "LABELS"),
            [
                (
                    each.name, each.kind, human_size(each.size) if each.size else "-",
                    ago(each.record.created), ",".join(sorted(users.get(each.name, ()))) or "-",
                    ",".join(f"{k}={v}" for k, v in each.labels.items()) or "-",
                )
                for each in found
            ],
        )  # fmt: skip


def _matches(one: Volume, text: str, users: dict[str, list[str]]) -> bool:
    key, equals, value = text.partition("=")
    if not equals or key not in _FILTERS:
        raise ConfigError(
            f"the filter {text!r} is not known", hint=f"use {', '.join(_FILTERS)} with =VALUE"
        )
    if key == "name":
        return value in one.name
    if key == "dangling":
        return (one.name not in users) == (value.lower() in ("1", "true"))
    name, given, wanted = value.partition("=")
    return name in one.labels and (not given or one.labels[name] == wanted)


async def _inspected(found: list[Volume]) -> list[dict[str, Any]]:
    return [await each.inspect() for each in found]


@volume.command(epilog="Example: sandlot volume inspect data")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def inspect(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print all that is known of volumes, as a JSON list: limit, what it takes, who has it."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError
    from sandlot.volume.volume import Volume

    found, failed = [], False
    for name in names:
        try:
            found.append(asyncio.run(Volume.get(name)))
        except SandboxError as error:
            complain(error.message, error.hint)
            failed = True
    as_json(asyncio.run(_inspected(found)))
    ctx.exit(125 if failed else 0)


@volume.command(epilog="Example: sandlot volume rm data")
@click.option(
    "-f", "--force", is_flag=True,
    help="Also those of stopped sandboxes; that one is missing is no error.",
)  # fmt: skip
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def rm(ctx: click.Context, force: bool, names: tuple[str, ...]) -> None:
    """Remove volumes, with all that is in them, and print their names."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError, StateError, VolumeNotFound
    from sandlot.volume.store import VolumeStore
    from sandlot.volume.volume import Volume

    failed = False
    for name in names:
        try:
            try:
                asyncio.run(_remove(Volume, name, force))
            except StateError:
                if not force:
                    raise
                store = VolumeStore.current()
                store.remove(store.find(name), force=True)
            click.echo(name)
        except VolumeNotFound as error:
            complain(error.message, error.hint)
            failed = failed or not force
        except SandboxError as error:
            complain(error.message, error.hint)
            failed = True
    ctx.exit(125 if failed else 0)


async def _remove(kind: type[Volume], name: str, force: bool) -> None:
    await (await kind.get(name)).remove(force=force)


@volume.command(epilog="Examples: sandlot volume cp ./src data:/src; sandlot volume cp data:/out .")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all goes well.")
@click.option(
    "--links", type=click.Choice(("inside", "all", "none")), default="inside", show_default=True,
    help="From a volume: links to copy. `inside` are those that lead nowhere outside the copy.",
)  # fmt: skip
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DEST")
def cp(source: str, target: str, quiet: bool, links: str) -> None:
    """Copy a file or folder: NAME:PATH of a volume to the host, or a path of the host to NAME:PATH.

    As with `sandlot cp`, a folder that exists is copied into, one that does not is made, and SRC/.
    is what is in SRC. No sandbox that runs may have the volume: copy by that sandbox then.
    """
    from sandlot.cli.cp import side

    one, other = side(source), side(target)
    if bool(one.name) == bool(other.name):
        raise ConfigError(
            "volume cp copies between the host and one volume",
            hint="write one side as NAME:PATH, and a local path with a colon as ./PATH",
        )
    if "-" in (source, target):
        raise ConfigError(
            "volume cp copies files and folders, not an archive on stdin or stdout",
            hint="`sandlot cp` does, with a sandbox that has the volume; a file of that name is ./-",
        )
    done = asyncio.run(_into(source, target) if other.name else _out(source, target, links))
    for name, why in list(done.skipped.items())[:20]:
        click.echo(f"sandlot: left out {name}: {why}", err=True)
    if not quiet:
        files = f"{done.files} file{'' if done.files == 1 else 's'}"
        click.echo(f"copied {files}, {human_size(done.size)}, to {target}", err=True)


async def _into(source: str, target: str) -> Transfer:
    from sandlot.cli.cp import _host_kind, place, side
    from sandlot.volume.copying import kind_of
    from sandlot.volume.volume import Volume

    one, other = side(source), side(target)
    found = await Volume.get(other.name)
    local = Path(one.path)
    kind = _host_kind(local.stat() if one.says_folder else local.lstat())
    name = local.name if local.name not in ("", "..") else local.resolve().name
    there = kind_of(found._folder, other.path)
    return await found.upload(local, place(one, kind, name, other, there))


async def _out(source: str, target: str, links: str) -> Transfer:
    from sandlot.cli.cp import _host_kind, place, side
    from sandlot.volume.copying import kind_of
    from sandlot.volume.volume import Volume

    one, other = side(source), side(target)
    found = await Volume.get(one.name)
    kind = kind_of(found._folder, one.path) or "file"
    name = one.path.removesuffix("/.").rstrip("/").rpartition("/")[2]
    local = Path(other.path)
    there = _host_kind(local.stat()) if local.exists() else None
    where = f"{other.path.rstrip('/')}/{found.name}" if not name and there else other.path
    if name:
        where = place(one, kind, name, other, there)
    elif one.contents_only:
        where = other.path
    return await found.download(one.path, where, links=links)


@volume.command(epilog="Examples: sandlot volume prune; sandlot volume prune -a -f")
@click.option("-f", "--force", is_flag=True, help="Do it, instead of saying what would be done.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also named ones that nobody has.")
def prune(force: bool, everything: bool) -> None:
    """Remove volumes that no sandbox has: those that were made for a path only.

    Without -f nothing is removed: it is only said what would be.
    """
    from sandlot.sandbox.housekeeping import prune_volumes, total

    gone = prune_volumes(dry_run=not force, named=everything)
    if gone:
        table(("NAME", "SIZE", "WHY"), [(g.name, human_size(g.size), g.why) for g in gone])
    if force or not gone:
        said = f"{human_size(total(gone))} given back" if gone else "there is nothing to remove"
        click.echo(f"sandlot: {said}", err=True)
    else:
        click.echo(f"sandlot: {human_size(total(gone))} would be given back", err=True)
        click.echo("hint: the same command with -f does it", err=True)
