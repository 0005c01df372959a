"""`sandlot ps`, `start`, `stop` and `rm`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import click

from sandlot.cli.output import ago, as_json, human_size, table


@click.command(epilog="Examples: sandlot ps -a; sandlot ps --json | jq '.[].name'")
@click.option("-a", "--all", "everything", is_flag=True, help="Also the ones that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
def ps(everything: bool, quiet: bool, json_: bool) -> None:
    """List the running sandboxes."""
    from sandlot.sandbox.sandbox import Sandbox, SandboxInfo

    infos = [i for i in asyncio.run(Sandbox.list()) if everything or i.state.running]

    def status(info: SandboxInfo) -> str:
        if info.status == "running":
            return f"running, started {ago(info.state.started)}"
        if info.status == "stopped" and info.state.exit_code is not None:
            return f"stopped ({info.state.exit_code})"
        return info.status

    if json_:
        as_json([{**asdict(i.record), **asdict(i.state), "status": i.status} for i in infos])
    elif quiet:
        for info in infos:
            click.echo(info.record.id)
    else:
        table(
            ("NAME", "IMAGE", "STATUS", "CREATED", "MEMORY", "CPUS", "COMMAND", "ID"),
            [
                (
                    i.record.name, i.record.image, status(i), ago(i.record.created),
                    human_size(i.record.memory), str(i.record.cpus),
                    " ".join(i.record.command)[:30], i.record.id,
                )
                for i in infos
            ],
        )  # fmt: skip


def _each(names: tuple[str, ...], work: Callable[[str], Awaitable[None]]) -> None:
    """Do something to each name, all at once; every failure is told, the first one counts."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError

    async def every() -> list[BaseException | None]:
        return await asyncio.gather(*(work(name) for name in names), return_exceptions=True)

    failures = 0
    for name, result in zip(names, asyncio.run(every()), strict=True):
        if isinstance(result, SandboxError):
            complain(result.message, result.hint)
            failures += 1
        elif result is not None:
            raise result
        else:
            click.echo(name)
    if failures:
        click.get_current_context().exit(125)


@click.command(epilog="Example: sandlot start box")
@click.argument("names", nargs=-1, required=True)
def start(names: tuple[str, ...]) -> None:
    """Start stopped sandboxes; each lives on by itself until it is stopped."""
    from sandlot.sandbox.keeper import start_keeper
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        await start_keeper((await Sandbox.get(name)).name)

    _each(names, one)


@click.command(epilog="Example: sandlot stop -t 3 box")
@click.option(
    "-t", "--time", "grace", default=10.0, show_default=True, help="Seconds until SIGKILL."
)
@click.argument("names", nargs=-1, required=True)
def stop(grace: float, names: tuple[str, ...]) -> None:
    """Stop running sandboxes; their disks stay."""
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        await (await Sandbox.get(name)).stop(grace=grace)

    _each(names, one)


@click.command(epilog="Examples: sandlot rm box; sandlot rm -f $(sandlot ps -aq)")
@click.option("-f", "--force", is_flag=True, help="Also running ones; a missing one is no error.")
@click.argument("names", nargs=-1, required=True)
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove sandboxes and their disks."""
    from sandlot.errors import SandboxNotFound, StateError, WrongState
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        try:
            sandbox = await Sandbox.get(name)
        except SandboxNotFound:
            if not force:
                raise
            return
        except StateError:
            if not force:
                raise
            folders = Host.current().sandboxes
            folders.remove(folders.find(name))
            return
        if not force and sandbox.status == "running":
            raise WrongState(
                f"sandbox {name!r} is running", hint=f"use `sandlot rm -f {name}`, or stop it first"
            )
        await sandbox.remove()

    _each(names, one)
