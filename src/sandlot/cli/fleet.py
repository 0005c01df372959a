"""`sandlot up`, `down`, `config`, `diff` and `sandlot fleet`: the sandboxes of one file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sandlot.cli.exec import run_in
from sandlot.cli.options import PASS_THROUGH, Whole, command_words, process_options
from sandlot.cli.output import as_json, table

if TYPE_CHECKING:
    from sandlot.fleet.fleet import Fleet

F = TypeVar("F", bound=Callable[..., Any])
FILE_OPTIONS = ("file", "project", "profiles")


def file_options(function: F) -> F:
    """-f, -p and --profile: which fleet."""
    return click.option(
        "-f", "--file", metavar="FILE",
        help="A Sandboxfile or a compose file; Sandboxfile.yaml or Sandboxfile otherwise.",
    )(project_options(function))  # fmt: skip


def project_options(function: F) -> F:
    """-p and --profile."""
    for option in (
        click.option(
            "--profile", "profiles", multiple=True, metavar="PROFILE",
            help="Members of this profile too; `*` is all.",
        ),
        click.option(
            "-p", "--project-name", "--name", "project", metavar="NAME",
            help="The name of the fleet; the file's, or its folder's otherwise.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


async def load(options: dict[str, Any]) -> Fleet:
    """The fleet that the options name; what is to be said of its file is said.

    Options of `sandlot fleet` itself count where the command has none.
    """
    from sandlot.cli.main import complain
    from sandlot.fleet.fleet import Fleet

    above = click.get_current_context().obj or {}
    found = {name: options[name] or above.get(name) for name in FILE_OPTIONS}
    fleet = await Fleet.from_file(
        found["file"], name=found["project"], profiles=found["profiles"] or ()
    )
    for warning in fleet.warnings:
        complain(warning)
    return fleet


def say(sandbox: str, text: str) -> None:
    """What happens to a sandbox, for people."""
    click.echo(f"{sandbox}: {text}", err=True)


@click.command(
    epilog="Examples: sandlot up -d; sandlot up -f compose.yaml; sandlot up --dry-run; "
    "sandlot up -d api"
)
@file_options
@click.option("-d", "--detach", is_flag=True, help="Return when all is up, and let it run.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--no-build", is_flag=True, help="Build only images that are missing.")
@click.option("--force-recreate", is_flag=True, help="Make all sandboxes anew.")
@click.option("-t", "--timeout", "grace", type=float, metavar="SECONDS",
              help="At Ctrl-C: seconds until SIGKILL; each one's own otherwise.")  # fmt: skip
@click.option("--json", "json_", is_flag=True, help="What was or would be done, as JSON; with -d.")
@click.argument("members", nargs=-1)
@click.pass_context
def up(
    ctx: click.Context, /, detach: bool, dry_run: bool, no_build: bool, force_recreate: bool,
    grace: float | None, json_: bool, members: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Bring the sandboxes of a Sandboxfile to what it says.

    What is missing is made, in the order of needs and in parallel where that allows, what changed
    is made anew, what is not in the file is removed, and the rest is left alone. It waits until
    all health checks go well. Without -d it then shows what the members say until they have all
    ended, and Ctrl-C stops them. With MEMBERS only those and what they need.
    """
    if json_ and not (detach or dry_run):
        raise click.UsageError("--json needs -d or --dry-run", ctx)

    async def bring_up() -> int:
        fleet = await load(options)
        if dry_run:
            _show(await fleet.plan(members, recreate=force_recreate), json_)
            return 0
        work = fleet.up(members, build=not no_build, recreate=force_recreate, tell=say)
        if not detach:
            return await _attached(fleet, work, members, grace)
        steps = await work
        if json_:
            as_json([_plain(step) for step in steps])
        return 0

    ctx.exit(asyncio.run(bring_up()))


async def _attached(
    fleet: Fleet, work: Coroutine[Any, Any, Any], members: tuple[str, ...], grace: float | None
) -> int:
    """Bring it up and show what it says; Ctrl-C, at any moment, stops it."""
    from sandlot.cli.fleet_logs import Lines

    lines = Lines(fleet.name)
    began = time.time()
    watching: asyncio.Task[None] | None = None
    try:
        await work
        click.echo("Ctrl-C stops the fleet", err=True)
        watching = asyncio.create_task(fleet._watch(members, say))
        async for name, entry in fleet.logs(members, follow=True, since=began):
            lines(name, entry)
    except asyncio.CancelledError:
        if watching is not None:
            watching.cancel()
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        click.echo("\nstopping the fleet", err=True)
        await fleet.stop(members, grace=grace, tell=say)
        return 130
    finally:
        if watching is not None:
            watching.cancel()
        lines.close()
    return 0


def _plain(step: Any) -> dict[str, Any]:
    return {
        "action": step.action, "sandbox": step.sandbox, "member": step.member,
        "reason": step.reason, "needs": dict(step.needs),
    }  # fmt: skip


def _show(steps: list[Any], json_: bool) -> None:
    if json_:
        as_json([_plain(step) for step in steps])
        return
    for step in steps:
        click.echo(str(step))


@click.command(epilog="Examples: sandlot down; sandlot down -v; sandlot down -f compose.yaml")
@file_options
@click.option("-v", "--volumes", is_flag=True, help="Also the named volumes and what is in them.")
@click.option("-t", "--timeout", "grace", type=float, metavar="SECONDS",
              help="Seconds until SIGKILL; each one's own otherwise.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.argument("members", nargs=-1)
def down(
    volumes: bool, grace: float | None, dry_run: bool, members: tuple[str, ...], **options: Any
) -> None:
    """Stop and remove the sandboxes of a Sandboxfile; named volumes stay without -v."""

    async def end() -> None:
        fleet = await load(options)
        if dry_run:
            _show(await fleet.plan(members, down=True), False)
        else:
            await fleet.down(members, volumes=volumes, grace=grace, tell=say)

    asyncio.run(end())


@click.command(
    epilog="Examples: sandlot config; sandlot config -f compose.yaml --json; "
    "sandlot config --schema > sandboxfile.schema.json"
)
@file_options
@click.option("--schema", is_flag=True, help="The JSON Schema of Sandboxfiles instead.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only say what is wrong.")
def config(schema: bool, json_: bool, quiet: bool, **options: Any) -> None:
    """Check a Sandboxfile and print it with everything put in; no value of a secret is printed."""
    if schema:
        from sandlot.fleet.models import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    fleet = asyncio.run(load(options))
    if quiet:
        return
    if json_:
        as_json(fleet.config())
        return
    from sandlot.fleet.writing import yaml_text

    click.echo(yaml_text(fleet.config()), nl=False)


@click.command(epilog="Examples: sandlot diff; sandlot diff -q && echo nothing to do")
@file_options
@click.option("--json", "json_", is_flag=True, help="As JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Only the exit status.")
@click.argument("members", nargs=-1)
@click.pass_context
def diff(
    ctx: click.Context, /, json_: bool, quiet: bool, members: tuple[str, ...], **options: Any
) -> None:
    """Show what `up` would do now; nothing is built and nothing is changed.

    The exit status is 0 when everything is as the file says, and 1 when there is something to do.
    """

    async def compare() -> list[Any]:
        return await (await load(options)).plan(members)

    steps = asyncio.run(compare())
    if not quiet:
        _show(steps, json_)
    ctx.exit(1 if any(step.action != "leave" for step in steps) else 0)


class _Fleet(Whole):
    """The commands of `sandlot fleet`; those of the first level are there too."""


@click.group(
    cls=_Fleet,
    epilog="Examples: sandlot fleet ps; sandlot fleet exec api ls; sandlot fleet -f compose.yaml up -d",
)
@file_options
@click.pass_context
def fleet(ctx: click.Context, /, **options: Any) -> None:
    """Work on the sandboxes of a Sandboxfile by the names that they have in it."""
    ctx.obj = {name: options[name] for name in FILE_OPTIONS}


for _each in (up, down, config, diff):
    fleet.add_command(_each)


@fleet.command(epilog="Examples: sandlot fleet ps; sandlot fleet ps --json")
@file_options
@click.option("-q", "--quiet", is_flag=True, help="Only the sandboxes' names.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def ps(quiet: bool, json_: bool, **options: Any) -> None:
    """List the members, whether they run, and whether their health checks go well now."""

    async def look() -> list[Any]:
        return await (await load(options)).ps()

    found = asyncio.run(look())
    if json_:
        as_json([each.to_json() for each in found])
    elif quiet:
        for each in found:
            if each.status != "missing":
                click.echo(each.sandbox)
    else:
        table(
            ("MEMBER", "SANDBOX", "STATUS", "HEALTH", "IMAGE", "PORTS"),
            [
                (e.member or "(not in the file)", e.sandbox, e.status, e.health, e.image,
                 ", ".join(e.ports))
                for e in found
            ],
        )  # fmt: skip


@fleet.command(epilog="Example: sandlot fleet ls")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def ls(json_: bool) -> None:
    """List all fleets that have sandboxes on this machine."""
    from sandlot.fleet.spec import FILE_LABEL
    from sandlot.fleet.state import fleets

    found = sorted(fleets().items())
    if json_:
        as_json(
            [
                {
                    "name": name, "file": infos[0].record.labels.get(FILE_LABEL, ""),
                    "running": sum(each.state.running for each in infos),
                    "sandboxes": [each.record.name for each in infos],
                }
                for name, infos in found
            ]
        )  # fmt: skip
        return
    rows = [
        (name, f"{sum(each.state.running for each in infos)}/{len(infos)}",
         infos[0].record.labels.get(FILE_LABEL, ""))
        for name, infos in found
    ]  # fmt: skip
    table(("NAME", "RUNNING", "FILE"), rows)


@fleet.command(
    epilog="Examples: sandlot fleet logs; sandlot fleet logs -f api; "
    "sandlot fleet -f compose.yaml logs"
)
@click.option("--file", metavar="FILE", help="A Sandboxfile or a compose file.")
@project_options
@click.option("-f", "--follow", is_flag=True, help="Go on until all have stopped.")
@click.option("-n", "--tail", type=int, metavar="LINES", help="Only the last lines of each.")
@click.option("--since", metavar="TIME", help="From this time ago (10m) or this date (ISO) on.")
@click.option("--json", "json_", is_flag=True, help="One JSON object for each piece of output.")
@click.argument("members", nargs=-1)
def logs(
    follow: bool, tail: int | None, since: str | None, json_: bool, members: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Show what the commands of the members said, each line behind its sandbox's name."""
    from sandlot.cli.fleet_logs import Lines
    from sandlot.cli.look import moment

    async def show() -> None:
        found = await load(options)
        lines = Lines(found.name, json_=json_)
        start = moment(since) if since else 0.0
        async for name, entry in found.logs(members, follow=follow, tail=tail, since=start):
            lines(name, entry)
        lines.close()

    asyncio.run(show())


@fleet.command(
    "exec", context_settings=PASS_THROUGH,
    epilog="Examples: sandlot fleet exec api ls /; sandlot fleet exec -it api-2 bash",
)  # fmt: skip
@file_options
@process_options
@click.option("-d", "--detach", is_flag=True, help="Start a job, print its id, return.")
@click.option("--timeout", metavar="TIME", help="Kill it after this time, such as 30s or 10m.")
@click.argument("member")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, /, member: str, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND in a running MEMBER; the exit status is the command's."""
    chosen = {name: options.pop(name) for name in FILE_OPTIONS}

    async def find() -> str:
        return (await (await load(chosen)).sandbox(member)).name

    run_in(ctx, asyncio.run(find()), command_words(command), options)


@fleet.command(
    context_settings=PASS_THROUGH,
    epilog="Examples: sandlot fleet run test; sandlot fleet run test -- -k login; "
    "sandlot fleet run --in worker migrate",
)
@file_options
@process_options
@click.option("--in", "member", metavar="MEMBER", help="The member, when several have the script.")
@click.option("--timeout", metavar="TIME", help="Kill it after this time, such as 30s or 10m.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context, /, script: str, arguments: tuple[str, ...], member: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Run a SCRIPT of the file in the member that has it; the exit status is the script's."""
    chosen = {name: options.pop(name) for name in FILE_OPTIONS}

    async def find() -> tuple[str, list[str]]:
        found = await load(chosen)
        name, words = found.script(script, command_words(arguments), member=member)
        return (await found.sandbox(name)).name, words

    name, words = asyncio.run(find())
    run_in(ctx, name, words, {**options, "detach": False})


def _grace(function: F) -> F:
    return click.option(
        "-t", "--timeout", "grace", type=float, metavar="SECONDS",
        help="Seconds until SIGKILL; each one's own otherwise.",
    )(function)  # fmt: skip


@fleet.command(epilog="Examples: sandlot fleet restart; sandlot fleet restart api")
@file_options
@_grace
@click.argument("members", nargs=-1)
def restart(grace: float | None, members: tuple[str, ...], **options: Any) -> None:
    """Stop members and start them again, on the same disks, in the order of their needs."""

    async def again() -> None:
        await (await load(options)).restart(members, grace=grace, tell=say)

    asyncio.run(again())


@fleet.command(epilog="Examples: sandlot fleet stop; sandlot fleet stop worker")
@file_options
@_grace
@click.argument("members", nargs=-1)
def stop(grace: float | None, members: tuple[str, ...], **options: Any) -> None:
    """Stop members, dependents first; their disks stay, and `sandlot up` starts them again."""

    async def end() -> None:
        await (await load(options)).stop(members, grace=grace, tell=say)

    asyncio.run(end())
