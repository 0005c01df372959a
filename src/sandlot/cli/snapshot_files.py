"""`sandlot snapshot export | import | diff`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandlot.cli.output import Progress, as_json, human_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandlot.sandbox.difference import FileChange
    from sandlot.sandbox.snapshots import Snapshot

_LETTERS = {"added": "A", "removed": "D", "changed": "C", "type": "T"}


@click.command(
    epilog="Examples: sandlot snapshot export ready ready.snapshot; "
    "sandlot snapshot export ready - | ssh other sandlot snapshot import -"
)
@click.option(
    "--level", type=click.IntRange(1, 19), default=3, show_default=True,
    help="How hard to compress.",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("name")
@click.argument("file", metavar="FILE|-")
def export(level: int, force: bool, quiet: bool, name: str, file: str) -> None:
    """Write the snapshot NAME into one file, for this machine or another of the same kind.

    A file that is there already is only replaced with --force. No value of a secret is in it, nor
    where secrets come from.
    """
    from sandlot.sandbox.snapshots import Snapshot

    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is not for a terminal: name a file")
    progress = Progress(delay=1.0)

    async def one() -> None:
        found = await Snapshot.get(name)
        await found.export(
            sys.stdout.buffer if file == "-" else Path(file), level=level, force=force,
            progress=None if quiet else progress,
        )  # fmt: skip

    try:
        asyncio.run(one())
    finally:
        progress.close()


@click.command(
    name="import",
    epilog="Examples: sandlot snapshot import ready.snapshot; "
    "sandlot snapshot import --name theirs --disk-only theirs.snapshot",
)
@click.option("-n", "--name", metavar="NAME", help="What to call it; as it was called otherwise.")
@click.option(
    "--disk-only", is_flag=True,
    help="Only its disk, also where the saved machine cannot go on.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.argument("file", metavar="FILE|-")
def import_(name: str | None, disk_only: bool, quiet: bool, file: str) -> None:
    """Take a snapshot out of a file, and print its id.

    Everything in it is checked. It needs the architecture, accelerator and QEMU that it was made
    with; what differs is told before anything is copied. Take files only from those whose programs
    you would run.
    """
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.snapshots import Snapshot

    Host.current().tell = lambda text: click.echo(f"sandlot: {text}", err=True)
    progress = Progress(delay=1.0)

    async def one() -> Snapshot:
        told = None if quiet else progress
        if file != "-":
            return await Snapshot.import_(file, name, disk_only=disk_only, progress=told)
        with os.fdopen(0, "rb", buffering=0, closefd=False) as stream:
            return await Snapshot.import_(stream, name, disk_only=disk_only, progress=told)

    try:
        made = asyncio.run(one())
    finally:
        progress.close()
    click.echo(f"sandlot: imported as {made.name}", err=True)
    click.echo(made.id)


@click.command(
    epilog="Examples: sandlot snapshot diff before after; "
    "sandlot snapshot diff --json before after | jq -r '.[].path'"
)
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.argument("before")
@click.argument("after")
def diff(json_: bool, before: str, after: str) -> None:
    """List the files that differ between two snapshots of one image.

    A is added, D removed, C changed (and what of it), T something else than before. Times and
    extended attributes are not compared.
    """
    from sandlot.sandbox.snapshots import Snapshot

    async def both() -> Sequence[FileChange]:
        return await (await Snapshot.get(before)).diff(await Snapshot.get(after))

    changes = asyncio.run(both())
    if json_:
        as_json([_json(each) for each in changes])
        return
    for each in changes:
        click.echo(_line(each))


def _line(change: FileChange) -> str:
    path = "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFF:02x}" for c in change.path)
    old, new = change.before, change.after
    notes = list(change.what)
    if change.change == "type" and old is not None and new is not None:
        notes = [f"{old.type} -> {new.type}"]
    elif "contents" in notes and old is not None and new is not None:
        notes[0] += f" {human_size(old.size)} -> {human_size(new.size)}"
    elif new is not None and new.type == "file" and change.change == "added":
        notes = [human_size(new.size)]
    note = f"  ({', '.join(notes)})" if notes else ""
    return f"{_LETTERS[change.change]} {path}{note}"


def _json(change: FileChange) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(change)
