"""`sandlot df` and `prune`."""

from __future__ import annotations

from dataclasses import asdict

import click

from sandlot.cli.output import as_json, human_size, table


@click.command(epilog="Example: sandlot df")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
def df(json_: bool) -> None:
    """Show what Sandlot has on disk, and what `prune -a --stopped` would give back."""
    from sandlot.sandbox.housekeeping import disk_usage

    usage = disk_usage()
    if json_:
        as_json([asdict(each) for each in usage])
        return
    table(
        ("KIND", "COUNT", "SIZE", "RECLAIMABLE"),
        [(u.kind, str(u.count), human_size(u.size), human_size(u.reclaimable)) for u in usage],
    )
    if any(u.reclaimable for u in usage):
        click.echo("hint: `sandlot prune -a --stopped` gives back what is reclaimable", err=True)


@click.command(epilog="Examples: sandlot prune; sandlot prune -f; sandlot prune -a --stopped -f")
@click.option("-f", "--force", is_flag=True, help="Do it, instead of saying what would be done.")
@click.option(
    "-a", "--all", "everything", is_flag=True,
    help="Also what would be made again: templates, empty disks, old kernels, the memory of "
    "snapshots in one piece.",
)  # fmt: skip
@click.option("--stopped", is_flag=True, help="Also stopped sandboxes, with their disks.")
@click.option("--volumes", is_flag=True, help="Also named volumes that no sandbox has.")
@click.option("--json", "json_", is_flag=True, help="What is removed, as JSON.")
def prune(force: bool, everything: bool, stopped: bool, volumes: bool, json_: bool) -> None:
    """Remove what dead programs have left, and caches that were not used for two weeks.

    Without -f nothing is removed: it is only said what would be.
    """
    from sandlot.sandbox.housekeeping import prune as remove
    from sandlot.sandbox.housekeeping import total

    gone = remove(dry_run=not force, everything=everything, stopped=stopped, volumes=volumes)
    if json_:
        as_json([asdict(each) for each in gone])
    elif gone:
        table(
            ("KIND", "NAME", "SIZE", "WHY"),
            [(g.kind, g.name, human_size(g.size), g.why) for g in gone],
        )
    space = human_size(total(gone))
    if force:
        click.echo(f"sandlot: {space} given back", err=True)
    elif gone:
        click.echo(f"sandlot: {space} would be given back", err=True)
        click.echo("hint: the same command with -f does it", err=True)
    else:
        click.echo("sandlot: there is nothing to remove", err=True)
        if more := total(remove(everything=True, stopped=True)):
            click.echo(
                f"hint: `sandlot prune -a --stopped` would give back {human_size(more)}: stopped "
                "sandboxes, and caches that are made again",
                err=True,
            )
