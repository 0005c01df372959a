"""`sandlot start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`, `rename` and `rm`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from sandlot.cli.members import all_sandboxes_of

if TYPE_CHECKING:
    from sandlot.errors import SandboxError


def _each(names: tuple[str, ...], work: Callable[[str], Awaitable[object]]) -> None:
    """Do something to each name, all at once, and print it; every failure is told.

    Work that answers False was not needed, and its name is not printed.
    """
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxError

    async def every() -> list[object]:
        return await asyncio.gather(*(work(name) for name in names), return_exceptions=True)

    failures = 0
    for name, result in zip(names, asyncio.run(every()), strict=True):
        if isinstance(result, SandboxError):
            complain(result.message, result.hint)
            failures += 1
        elif isinstance(result, BaseException):
            raise result
        elif result is not False:
            click.echo(name)
    if failures:
        click.get_current_context().exit(125)


def _wrong(name: str, what: str, hint: str) -> SandboxError:
    from sandlot.errors import WrongState

    return WrongState(f"sandbox {name!r} is {what}", hint=hint)


@click.command(epilog="Example: sandlot start box")
@click.option("--no-plugins", is_flag=True, help="Without the plugins that they had, from now on.")
@click.argument("names", nargs=-1, required=True)
def start(names: tuple[str, ...], no_plugins: bool) -> None:
    """Start stopped sandboxes; each lives on by itself until it is stopped.

    One that runs already is left as it is.
    """
    import dataclasses

    from sandlot.sandbox.keeper import start_keeper
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        sandbox = await Sandbox.get(name)
        pause = 0.01
        while sandbox.status == "starting":
            # Another program starts it, and only a file tells how that goes.
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        if sandbox.status == "paused":
            raise _wrong(name, "paused", f"let it go on with `sandlot unpause {name}`")
        if sandbox.status not in ("running", "restarting"):
            if no_plugins:
                record = dataclasses.replace(sandbox.folder.record(), plugins=[])
                sandbox.folder.write_record(record)
            await start_keeper(sandbox.name)

    _each(names, one)


_grace = click.option(
    "-t", "--time", "--timeout", "grace", metavar="SECONDS", type=float,
    help="Seconds until SIGKILL; what it was made with (10) otherwise.",
)  # fmt: skip


@click.command(epilog="Example: sandlot stop -t 3 box")
@_grace
@click.argument("names", nargs=-1, required=True)
def stop(grace: float | None, names: tuple[str, ...]) -> None:
    """Stop running sandboxes; their disks stay.

    The main command gets its stop signal and everything else SIGTERM, and SIGKILL what does not
    end in time.
    """
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        await (await Sandbox.get(name)).stop(grace=grace)

    _each(names, one)


@click.command(epilog="Example: sandlot restart box")
@_grace
@click.argument("names", nargs=-1, required=True)
def restart(grace: float | None, names: tuple[str, ...]) -> None:
    """Stop sandboxes and start them again, on the same disks."""
    from sandlot.sandbox.keeper import start_keeper
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        sandbox = await Sandbox.get(name)
        if sandbox.status in ("created", "stopped"):
            await start_keeper(sandbox.name)
        else:
            await sandbox.restart(grace=grace)

    _each(all_sandboxes_of(names), one)


@click.command(epilog="Examples: sandlot kill box; sandlot kill -s HUP box")
@click.option(
    "-s", "--signal", "signal_", default="KILL", show_default=True, metavar="SIGNAL",
    help="What the main command gets; KILL ends the machine at once.",
)  # fmt: skip
@click.argument("names", nargs=-1, required=True)
def kill(signal_: str, names: tuple[str, ...]) -> None:
    """End sandboxes at once, or send their main commands a signal."""
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        await (await Sandbox.get(name)).kill(signal_)

    _each(names, one)


@click.command(epilog="Example: sandlot pause box; sandlot unpause box")
@click.argument("names", nargs=-1, required=True)
def pause(names: tuple[str, ...]) -> None:
    """Stop the processors of running sandboxes; their memory stays."""
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        sandbox = await Sandbox.get(name)
        if sandbox.status == "paused":
            raise _wrong(name, "paused already", f"let it go on with `sandlot unpause {name}`")
        await sandbox.pause()

    _each(names, one)


@click.command(epilog="Example: sandlot unpause box")
@click.argument("names", nargs=-1, required=True)
def unpause(names: tuple[str, ...]) -> None:
    """Let paused sandboxes go on, with the right time."""
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> None:
        sandbox = await Sandbox.get(name)
        if sandbox.status == "running":
            raise _wrong(name, "not paused", "it runs; there is nothing to do")
        await sandbox.resume()

    _each(names, one)


@click.command(epilog="Example: sandlot wait job")
@click.argument("names", nargs=-1, required=True)
def wait(names: tuple[str, ...]) -> None:
    """Wait until sandboxes have stopped, and print how the main command of each ended."""
    from sandlot.sandbox.sandbox import Sandbox

    async def every() -> list[int | None]:
        async def one(name: str) -> int | None:
            return await (await Sandbox.get(name)).wait()

        return await asyncio.gather(*(one(name) for name in names))

    for code in asyncio.run(every()):
        click.echo(0 if code is None else code)


@click.command(epilog="Example: sandlot rename box other")
@click.argument("name")
@click.argument("new")
def rename(name: str, new: str) -> None:
    """Give a stopped sandbox another name."""
    from sandlot.sandbox.sandbox import Sandbox

    async def one() -> None:
        await (await Sandbox.get(name)).rename(new)

    asyncio.run(one())


@click.command(epilog="Examples: sandlot rm box; sandlot rm -f $(sandlot ps -aq)")
@click.option(
    "-f", "--force", is_flag=True, help="Also running ones; that one is missing is no error."
)
@click.option(
    "-v", "--volumes", is_flag=True,
    help="Also volumes that were made with one, for a path only; named ones stay.",
)  # fmt: skip
@click.argument("names", nargs=-1, required=True)
def rm(force: bool, volumes: bool, names: tuple[str, ...]) -> None:
    """Remove sandboxes and their disks."""
    from sandlot.cli.main import complain
    from sandlot.errors import SandboxNotFound, StateError, WrongState
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.sandbox import Sandbox

    async def one(name: str) -> bool:
        try:
            sandbox = await Sandbox.get(name)
        except SandboxNotFound as error:
            if not force:
                raise
            complain(error.message)
            return False
        except StateError:
            if not force:
                raise
            folders = Host.current().sandboxes
            folders.remove(folders.find(name))
            return True
        if not force and sandbox.status not in ("created", "stopped"):
            raise WrongState(
                f"sandbox {name!r} is running", hint=f"use `sandlot rm -f {name}`, or stop it first"
            )
        await sandbox.remove(volumes=volumes)
        return True

    _each(names, one)
