"""`sandlot pool`: sandboxes that stand ready, for every program of this user."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import click

from sandlot.cli.options import environment
from sandlot.errors import ConfigError, SandboxError


@click.group(epilog="Example: sandlot pool run agents ready -n 8 &  sandlot pool take agents")
def pool() -> None:
    """Keep sandboxes ready that are taken in milliseconds."""


@pool.command(
    epilog="Examples: sandlot pool run agents ml-ready -n 8; sandlot pool run py python:3.12 -m 512M"
)
@click.option("-n", "--size", default=8, show_default=True, help="How many stand ready.")
@click.option("--parallel", default=2, show_default=True, help="How many are made at once.")
@click.option(
    "--keep-free", default="512M", show_default=True, metavar="SIZE",
    help="Memory of the host that is left alone.",
)  # fmt: skip
@click.option("-m", "--memory", metavar="SIZE", help="Memory of each; for images.")
@click.option("--cpus", type=int, help="Processors of each; for images.")
@click.argument("name")
@click.argument("source")
def run(
    name: str, source: str, size: int, parallel: int, keep_free: str, memory: str | None,
    cpus: int | None,
) -> None:  # fmt: skip
    """Keep sandboxes of SOURCE ready, under NAME, until it is ended.

    SOURCE is a snapshot, its id or tag, or an image. They are paused until `sandlot pool take`
    hands one out; each lives in a process of its own, and goes on when the pool has ended.
    """
    options: dict[str, Any] = {}
    if memory is not None:
        options["memory"] = memory
    if cpus is not None:
        options["cpus"] = cpus
    asyncio.run(_run(name, source, options, size=size, parallel=parallel, keep_free=keep_free))


async def _run(name: str, source: str, options: dict[str, Any], **limits: Any) -> None:
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.pool import Pool
    from sandlot.sandbox.pool_door import PoolDoor, pool_path
    from sandlot.sandbox.sizes import check_name

    path = pool_path(Host.current().paths.sockets, check_name(name, "pool"))
    made = Pool(source, detached=True, **limits, **options)
    door = PoolDoor(made, name, source, path)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, door.stopped.set)
    await door.open()
    try:
        opening = asyncio.ensure_future(made.start())
        ended = asyncio.ensure_future(door.stopped.wait())
        await asyncio.wait([opening, ended], return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
            click.echo(f"{made.ready} of {made.size} are ready", err=True)
            await ended
        else:
            opening.cancel()
            await asyncio.wait([opening])
        ended.cancel()
    finally:
        await door.close()
        await made.close()


@pool.command(epilog="Example: sandlot exec $(sandlot pool take agents -e TASK=7) python3 work.py")
@click.option(
    "-e", "--env", multiple=True, metavar="KEY=VALUE", help="A variable for its commands."
)
@click.argument("name")
def take(name: str, env: tuple[str, ...]) -> None:
    """Take a sandbox from the pool NAME: it runs now, and its id is printed."""
    given = environment(env, ())
    click.echo(asyncio.run(_asked(name, {"take": {"env": given}}))["id"])


@pool.command(epilog="Example: sandlot pool stop agents")
@click.argument("name")
def stop(name: str) -> None:
    """End the pool NAME and remove what stands ready. What was taken goes on."""
    asyncio.run(_asked(name, {"stop": True}))
    click.echo(name)


@pool.command("ls", epilog="Example: sandlot pool ls --json")
@click.option("--json", "json_wanted", is_flag=True, help="As JSON.")
def ls(json_wanted: bool) -> None:
    """List the pools that run."""
    from sandlot.cli.output import as_json, table
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.pool_door import pools

    found = asyncio.run(pools(Host.current().paths.sockets, lambda path: path.unlink()))
    if json_wanted:
        as_json(found)
        return
    rows = [
        (each["name"], each["source"], f"{each['ready']}/{each['size']}", each["problem"] or "")
        for each in found
    ]
    table(("NAME", "SOURCE", "READY", "PROBLEM"), rows)


async def _asked(name: str, request: dict[str, Any]) -> dict[str, Any]:
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.pool_door import ask, pool_path
    from sandlot.sandbox.sizes import check_name

    path: Path = pool_path(Host.current().paths.sockets, check_name(name, "pool"))
    try:
        return await ask(path, request)
    except SandboxError:
        raise
    except (OSError, ValueError):
        raise ConfigError(
            f"no pool named {name!r} runs",
            hint="`sandlot pool ls` lists them; `pool run` starts one",
        ) from None
