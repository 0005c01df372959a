"""`sandlot snapshot create | ls | inspect | rm | rename | tag`, and what snapshot_files.py has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.options import Whole
from sandlot.cli.output import ago, as_json, human_size, table
from sandlot.cli.snapshot_files import diff, export, import_

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandlot.errors import SandboxError
    from sandlot.sandbox.snapshots import Snapshot


@click.group(cls=Whole, epilog="Example: sandlot snapshot create box ready; sandlot restore ready")
def snapshot() -> None:
    """Save sandboxes with all that runs in them; list, name and remove what was saved."""


for command in (export, import_, diff):
    snapshot.add_command(command)


@snapshot.command(
    epilog="Examples: sandlot snapshot create box ready; "
    "sandlot snapshot create --disk-only -t nightly box"
)
@click.option(
    "--disk-only", is_flag=True, help="Only the disk, which is also possible when it is stopped."
)
@click.option(
    "-t", "--tag", "tags", multiple=True, metavar="TAG",
    help="Another name, by which the newest that has it is found; repeat it.",
)  # fmt: skip
@click.argument("sandbox")
@click.argument("name", required=False)
def create(disk_only: bool, tags: tuple[str, ...], sandbox: str, name: str | None) -> None:
    """Save the running SANDBOX, memory, devices and disk, and print the snapshot's id.

    Its programs stand still for some tens of milliseconds, and run on. NAME is chosen when it is
    left out.
    """
    from sandlot.sandbox.sandbox import Sandbox

    async def one() -> Snapshot:
        found = await Sandbox.get(sandbox)
        return await found.snapshot(name, disk_only=disk_only, tags=tags)

    made = asyncio.run(one())
    pause = f", its programs stood still for {made.record.pause * 1000:.0f} ms"
    click.echo(
        f"sandlot: {made.record.sandbox} is saved as {made.name}"
        f"{pause if made.record.pause else ''}",
        err=True,
    )
    click.echo(made.id)


@snapshot.command(epilog="Examples: sandlot snapshot ls --tree; sandlot snapshot ls --json")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--tree", is_flag=True, help="Below each the snapshots of what was restored from it.")
def ls(json_: bool, quiet: bool, tree: bool) -> None:
    """List the snapshots.

    OWN is what the removal of one gives back at once, SHARED what others have too, CACHED what is
    made again when it is needed.
    """
    from sandlot.cli.main import complain
    from sandlot.sandbox.snapshots import Snapshot

    def unreadable(error: SandboxError) -> None:
        complain(error.message, error.hint)

    found = asyncio.run(Snapshot.list(unreadable=unreadable))
    lines = list(branches(found)) if tree else [("", each) for each in found]
    if json_:
        as_json(_described([each for _, each in lines]))
    elif quiet:
        for _, each in lines:
            click.echo(each.id)
    else:
        table(
            ("NAME", "KIND", "SANDBOX", "CREATED", "OWN", "SHARED", "CACHED", "TAGS", "ID"),
            [_row(before, each) for before, each in lines],
        )


def _described(snapshots: list[Snapshot]) -> list[dict[str, Any]]:
    """As `inspect` does it of each, without reading all of them for each."""
    from sandlot.sandbox.listing import list_sandboxes

    below: dict[str, list[str]] = {}
    restored: dict[str, list[str]] = {}
    for each in snapshots:
        below.setdefault(each.parent, []).append(each.name)
    for info in list_sandboxes():
        restored.setdefault(info.record.snapshot, []).append(info.record.name)
    return [
        each._described(sorted(below.get(each.id, ())), restored.get(each.id, ()))
        for each in snapshots
    ]


def _row(before: str, each: Snapshot) -> tuple[str, ...]:
    usage = each.usage()
    return (
        before + each.name, each.kind, each.record.sandbox, ago(each.record.created),
        human_size(usage.own), human_size(usage.shared), human_size(usage.cached),
        ",".join(each.tags), each.id,
    )  # fmt: skip


def branches(snapshots: list[Snapshot]) -> Iterator[tuple[str, Snapshot]]:
    """Each after its parent, the older first, with the lines that are drawn before its name.

    One whose parent was removed stands at the top.
    """
    ids = {each.id for each in snapshots}
    below: dict[str, list[Snapshot]] = {}
    for each in sorted(snapshots, key=lambda each: (each.record.created, each.name)):
        below.setdefault(each.parent if each.parent in ids else "", []).append(each)
    # Of each that waits: what is drawn before its children, and before itself. The depth of a tree
    # has no bound, so that it is no recursion.
    waiting = [("", "", each) for each in reversed(below.get("", []))]
    while waiting:
        margin, mark, each = waiting.pop()
        yield margin + mark, each
        if mark:
            margin += "│  " if mark.startswith("├") else "   "
        children = below.get(each.id, [])
        waiting += [
            (margin, "└─ " if child is children[-1] else "├─ ", child)
            for child in reversed(children)
        ]


@snapshot.command(epilog="Example: sandlot snapshot inspect ready | jq '.[0].children'")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_context
def inspect(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print all that is known of snapshots, as a JSON list. Sizes are in bytes."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError
    from sandlot.sandbox.snapshots import Snapshot

    found: list[dict[str, Any]] = []
    failed = False
    for name in names:
        try:
            found.append(asyncio.run(Snapshot.get(name)).inspect())
        except SandboxError as error:
            complain(error.message, error.hint)
            failed = True
    as_json(found)
    ctx.exit(125 if failed else 0)


@snapshot.command(
    epilog="Examples: sandlot snapshot rm ready; sandlot snapshot rm --cascade ready; "
    "sandlot snapshot rm $(sandlot snapshot ls -q)"
)
@click.option(
    "--cascade", is_flag=True,
    help="Also the sandboxes that were restored from it, and the snapshots of those.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="That one is missing is no error.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_context
def rm(ctx: click.Context, cascade: bool, force: bool, names: tuple[str, ...]) -> None:
    """Remove snapshots, by name, id or tag, and print what was named.

    One that sandboxes or snapshots came from stays, unless all of them are named, or --cascade is
    given.
    """
    ctx.exit(125 if asyncio.run(_remove(names, cascade, force)) else 0)


async def _remove(names: tuple[str, ...], cascade: bool, force: bool) -> int:
    """Remove what is named, children before their parents; how many could not be."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError, SnapshotDamaged, SnapshotNotFound
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.snapshots import Snapshot

    store = Host.current().snapshots
    failures = 0
    found: dict[str, tuple[str, Snapshot]] = {}
    for name in names:
        try:
            each = await Snapshot.get(name)
            found.setdefault(each.id, (name, each))
        except SnapshotDamaged:
            store.remove(store.find(name))  # nobody can tell what came from it
            click.echo(name)
        except SnapshotNotFound as error:
            complain(error.message, "" if force else error.hint)
            failures += not force
    # In the tree of all of them children come after their parents.
    order = {each.id: at for at, (_, each) in enumerate(branches(await Snapshot.list()))}
    gone: set[str] = set()
    for id in sorted(found, key=lambda id: order.get(id, 0), reverse=True):
        name, each = found[id]
        try:
            await each.remove(cascade=cascade)
        except SnapshotNotFound as error:
            complain(error.message)
            failures += not force
            continue
        except SandboxError as error:
            complain(error.message, error.hint)
            failures += 1
            continue
        gone.add(id)
    for id, (name, _) in found.items():
        if id in gone:
            click.echo(name)
    return failures


@snapshot.command(epilog="Example: sandlot snapshot rename ready ready-old")
@click.argument("name")
@click.argument("new")
def rename(name: str, new: str) -> None:
    """Give a snapshot another name, and print that."""
    from sandlot.sandbox.snapshots import Snapshot

    async def one() -> None:
        await (await Snapshot.get(name)).rename(new)

    asyncio.run(one())
    click.echo(new)


@snapshot.command(
    epilog="Examples: sandlot snapshot tag ready good latest; "
    "sandlot snapshot tag ready --add latest --remove good; sandlot snapshot tag ready"
)
@click.option("--add", multiple=True, metavar="TAG", help="Besides those that it has; repeat it.")
@click.option("--remove", multiple=True, metavar="TAG", help="Take this one away; repeat it.")
@click.option("--clear", is_flag=True, help="Take all away.")
@click.argument("name")
@click.argument("tags", metavar="[TAG...]", nargs=-1)
def tag(
    add: tuple[str, ...], remove: tuple[str, ...], clear: bool, name: str, tags: tuple[str, ...]
) -> None:
    """Give a snapshot these tags instead of those that it has, and print what it has then.

    `sandlot restore TAG` takes the newest snapshot that has the tag.
    """
    from sandlot.sandbox.snapshots import Snapshot

    if ((tags or clear) and (add or remove)) or (tags and clear):
        raise click.UsageError("name all tags, or change some with --add and --remove, or --clear")

    async def one() -> Snapshot:
        found = await Snapshot.get(name)
        if missing := [each for each in remove if each not in found.tags]:
            raise click.UsageError(f"snapshot {found.name!r} has no tag {missing[0]!r}")
        if tags or clear:
            await found.set_tags(tags)
        elif add or remove:
            await found.set_tags([t for t in (*found.tags, *add) if t not in remove])
        return found

    for each in asyncio.run(one()).tags:
        click.echo(each)
