"""`sandlot run` and `sandlot create`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sandlot.cli.members import has_script
from sandlot.cli.options import (
    PASS_THROUGH,
    command_words,
    machine_options,
    making,
    process_options,
)

if TYPE_CHECKING:
    from sandlot.sandbox.process import Process
    from sandlot.sandbox.sandbox import Sandbox


def _main_command(config: Any, entrypoint: str | None, words: list[str]) -> list[str]:
    """As Docker: the entrypoint, then the words, or the image's own."""
    if entrypoint is not None:
        return ([entrypoint] if entrypoint else []) + words
    if words:
        return [*config.entrypoint, *words]
    return [*config.entrypoint, *config.cmd]


@click.command(
    context_settings=PASS_THROUGH,
    epilog="Examples: sandlot run --rm demo echo hi; sandlot run -it --rm demo; "
    "sandlot run -d --name web demo -- python3 -m http.server",
)
@machine_options
@process_options
@click.option("-d", "--detach", is_flag=True, help="Let it run by itself and print its id.")
@click.option("--ask", is_flag=True, help="Ask on the terminal for what no rule allows.")
@click.option("--timeout", metavar="TIME", help="Kill it after this time, such as 30s or 10m.")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, /, image: str, command: tuple[str, ...], **options: Any) -> None:
    """Make a sandbox from IMAGE and run COMMAND in it.

    The exit status is the command's; 125 means that sandlot itself failed, 126 that the command
    cannot be executed, 127 that it does not exist. Without --rm the sandbox stays, stopped.

    In a folder with a Sandboxfile the name of one of its scripts, where no image here is called so
    and no option is given, runs that script: `sandlot fleet run`.
    """
    from sandlot.cli.terminal import leave_at_once

    given = any(ctx.get_parameter_source(each) != ParameterSource.DEFAULT for each in options)
    if not given and has_script(image):
        from sandlot.cli.fleet import run as run_script

        click.echo(f"{image} is a script of the Sandboxfile here", err=True)
        ctx.invoke(run_script, script=image, arguments=command)
    status = asyncio.run(_run(image, command_words(command), **options))
    if options["interactive"]:
        leave_at_once(status)
    ctx.exit(status)


async def _run(image: str, words: list[str], **options: Any) -> int:
    from sandlot.cli.asking import asking
    from sandlot.cli.output import Progress
    from sandlot.cli.terminal import check_terminal, terminal_size
    from sandlot.errors import ConfigError, SandboxError
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.pulling import find_image
    from sandlot.sandbox.sandbox import Sandbox
    from sandlot.sandbox.sizes import parse_duration

    detach, tty, interactive = options["detach"], options["tty"], options["interactive"]
    timeout = options["timeout"]
    if not detach:
        check_terminal(tty, interactive)
        if options["ask"] and (tty or interactive):
            raise ConfigError(
                "--ask cannot be combined with -i or -t", hint="the terminal is the command's then"
            )
    elif options["ask"]:
        raise ConfigError(
            "--ask cannot be combined with -d", hint="nobody would be there to answer"
        )
    elif timeout is not None:
        raise ConfigError(
            "--timeout cannot be combined with -d", hint="use --max-duration for the sandbox"
        )
    parse_duration(timeout)
    host = Host.current()
    progress = Progress()
    host.tell = progress
    try:
        found = await find_image(
            host, image, pull=options["pull"], platform=options["platform"], progress=progress
        )
    finally:
        progress.close()
    main = _main_command(found.config, options["entrypoint"], words)
    if not main:
        raise ConfigError(f"image {image!r} has no command", hint="name one after the image")
    sandbox = await Sandbox._make(
        image=found.name, pull="never", command=main, detached=detach, hold=True,
        hooks=asking() if options["ask"] else None, **making(options),
    )  # fmt: skip
    try:
        await sandbox.start()
        progress.close()
        if detach:
            click.echo(sandbox.id)
            return 0
        process = await sandbox.spawn(
            main, stdin=interactive, tty=terminal_size() if tty else False, timeout=timeout
        )
    except BaseException:
        # Nothing ran: a name that is taken by a sandbox that never lived would only be in the way.
        with contextlib.suppress(SandboxError):
            await sandbox.remove()
        raise
    return await until_end(sandbox, process, main[0], **options)


async def until_end(
    sandbox: Sandbox, process: Process, word: str, *, interactive: bool, tty: bool,
    timeout: str | None, auto_remove: bool, memory: str,
    advice: str = "give it more with --memory", **_: Any,
) -> int:  # fmt: skip
    """Carry the input and output of a sandbox's command, end the sandbox with it, and say what
    became of it; its exit status is returned."""
    from sandlot.cli.terminal import attach
    from sandlot.sandbox.log import OutputLog
    from sandlot.sandbox.sizes import parse_duration

    log = None if auto_remove else OutputLog(sandbox.folder.log)
    try:
        status = await attach(
            process, interactive=interactive, tty=tty, tee=log.write if log else None
        )
        code = 124 if status.timed_out else status.exit_code
        sandbox.note_exit(code, status.signal, oom=status.out_of_memory)
    finally:
        if log is not None:
            log.close()
        if auto_remove:
            await sandbox.remove()
        else:
            await sandbox.stop()
    if status.timed_out:
        click.echo(
            f"sandlot: {word} ran longer than {parse_duration(timeout):g} s and was killed",
            err=True,
        )
    elif status.out_of_memory:
        click.echo(
            f"sandlot: {word} was killed: the sandbox ran out of memory ({memory})", err=True
        )
        click.echo(f"hint: {advice}", err=True)
    return code


@click.command(
    context_settings=PASS_THROUGH,
    epilog="Example: sandlot create --name box demo; sandlot start box; sandlot exec box uname -a",
)
@machine_options
@process_options
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def create(image: str, command: tuple[str, ...], **options: Any) -> None:
    """Make a sandbox from IMAGE without starting it, and print its id.

    `sandlot start` runs it; with COMMAND it ends when the command ends, without one it stays up
    until it is stopped.
    """
    made = asyncio.run(_create(image, command_words(command), options))
    click.echo(made.id)


async def _create(image: str, words: list[str], options: dict[str, Any]) -> Any:
    from sandlot.cli.output import Progress
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.pulling import find_image
    from sandlot.sandbox.sandbox import Sandbox

    progress = Progress()
    try:
        found = await find_image(
            Host.current(), image, pull=options["pull"], platform=options["platform"],
            progress=progress,
        )  # fmt: skip
    finally:
        progress.close()
    entrypoint = options["entrypoint"]
    main: list[str] = []
    if words or entrypoint:
        main = _main_command(found.config, entrypoint, words)
    return await Sandbox._make(
        image=found.name, pull="never", command=main, detached=True, **making(options)
    )
