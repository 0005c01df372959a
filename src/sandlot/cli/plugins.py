"""`sandlot plugins` and `sandlot audit`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, BinaryIO

import click

from sandlot.cli.options import Whole
from sandlot.cli.output import as_json, table

if TYPE_CHECKING:
    from sandlot.plugin.process import PluginProcess

BROKEN = 1


class Plugins(Whole):
    """Lists without a word after it."""


@click.group(
    cls=Plugins,
    invoke_without_command=True,
    epilog="Examples: sandlot plugins; sandlot plugins --json; "
    "sandlot plugins check node ./monitor.js",
)
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.pass_context
def plugins(ctx: click.Context, json_: bool) -> None:
    """List the plugins that can be named with --plugin, with what they cost to load.

    They come with Sandlot or with installed packages (entry points of the group sandlot.plugins).
    """
    if ctx.invoked_subcommand is not None:
        return
    from sandlot.plugin.discovery import discovered

    found = discovered()
    if json_:
        as_json([dataclasses.asdict(each) for each in found])
        return
    rows = [
        [
            each.name, each.version, each.package, f"{each.cost * 1000:.1f} ms",
            each.error or ", ".join(each.hooks),
        ]
        for each in found
    ]  # fmt: skip
    table(["NAME", "VERSION", "PACKAGE", "LOAD", "HOOKS"], rows)


@plugins.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples: sandlot plugins check node ./monitor.js; "
    "sandlot plugins check --timeout 2 python3 monitor.py",
)
@click.option(
    "--timeout", type=float, default=5.0, show_default=True, help="Seconds for an answer."
)
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def check(ctx: click.Context, timeout: float, json_: bool, command: tuple[str, ...]) -> None:
    """Exercise a program that is a plugin: COMMAND is started, greeted, asked and ended.

    Every hook that it wants is asked with an example, and many requests come at once. The exit status
    is 0 when all of it went well and 1 when something did not.
    """
    from sandlot.plugin.process import PluginProcess

    words = list(command) if len(command) > 1 else command[0]
    process = PluginProcess(words, timeout=timeout)
    ctx.exit(0 if asyncio.run(_check(process, json_)) else BROKEN)


async def _check(process: PluginProcess, json_: bool) -> bool:
    from sandlot.plugin.check import check as checked

    steps = []
    async for step in checked(process):
        steps.append(step)
        if not json_:
            cost = f"{step.cost * 1e6:.0f} us" if step.cost else ""
            verdict = "ok" if step.ok else "FAILED"
            click.echo(f"{verdict:<7} {step.what:<16} {cost:>9}  {step.note}".rstrip())
    if json_:
        as_json([dataclasses.asdict(step) for step in steps])
    return all(step.ok for step in steps)


@click.group(cls=Whole, epilog="Example: sandlot audit verify audit.jsonl")
def audit() -> None:
    """Audit logs that the plugin audit-log wrote."""


@audit.command(
    epilog="Examples: sandlot audit verify audit.jsonl; "
    "sandlot audit verify --key-file key --json audit.jsonl"
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--key-file", type=click.File("rb"), help="The key that it was written with, byte for byte."
)
@click.option("--head", metavar="DIGEST", help="Of a line that has to be in it.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.pass_context
def verify(
    ctx: click.Context, file: str, key_file: BinaryIO | None, head: str | None,
    json_: bool,
) -> None:  # fmt: skip
    """Check that no line of FILE, and of the older FILE.1, FILE.2, was changed, moved or left out.

    The exit status is 0 when all is well and 1 when it is not. What is missing at the end leaves no
    trace: compare the digest that is printed with one that was noted before, or give it as --head.
    """
    from sandlot.plugin.builtin.audit_log import verify as verified

    key = key_file.read() if key_file is not None else None
    found = verified(file, key=key, head=head or "")
    if json_:
        as_json(dataclasses.asdict(found))
    elif found.problem:
        click.echo(f"{found.problem}; the {found.lines} lines before it are whole")
    else:
        last = f", the last has the digest {found.head}" if found.lines else ""
        files = f" in {found.files} files" if found.files > 1 else ""
        click.echo(f"{found.lines} lines{files} are whole, from number {found.first}{last}")
    ctx.exit(BROKEN if found.problem else 0)
