"""`sandlot exec` and `sandlot shell`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from sandlot.cli.members import sandboxes_of
from sandlot.cli.options import PASS_THROUGH, command_words, environment, process_options

SHELL = "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi"


@click.command(
    "exec",
    context_settings=PASS_THROUGH,
    epilog="Examples: sandlot exec box ls /; sandlot exec -it box bash; "
    "sandlot exec -d box make -j; sandlot exec -d -i box cat",
)
@process_options
@click.option("-d", "--detach", is_flag=True, help="Start a job, print its id, return.")
@click.option("--timeout", metavar="TIME", help="Kill it after this time, such as 30s or 10m.")
@click.argument("sandbox")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, /, sandbox: str, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND in the running SANDBOX; the exit status is the command's.

    With -d it is a job: it goes on by itself, `sandlot jobs` lists it, and its output is kept for
    `sandlot attach`. With -d -i its input stays open too, and `sandlot attach -i` feeds it.
    """
    run_in(ctx, sandboxes_of(sandbox)[0], command_words(command), options)


def run_in(ctx: click.Context, sandbox: str, words: list[str], options: dict[str, Any]) -> None:
    """Run a command in a sandbox and exit as it does; `options` are those of `exec`."""
    _finish(ctx, asyncio.run(_exec(sandbox, words, **options)), options)


@click.command(epilog="Examples: sandlot shell box; echo 'ls | wc -l' | sandlot shell box")
@process_options
@click.argument("sandbox")
@click.pass_context
def shell(ctx: click.Context, /, sandbox: str, **options: Any) -> None:
    """Open a shell (bash where there is one) in the running SANDBOX."""
    options |= {"interactive": True, "tty": os.isatty(0), "detach": False, "timeout": None}
    _finish(ctx, asyncio.run(_exec(sandbox, ["/bin/sh", "-c", SHELL], **options)), options)


def _finish(ctx: click.Context, status: int, options: dict[str, Any]) -> None:
    from sandlot.cli.terminal import leave_at_once

    if options["interactive"]:
        leave_at_once(status)
    ctx.exit(status)


async def _exec(
    name: str,
    words: list[str],
    *,
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    workdir: str | None,
    user: str | None,
    interactive: bool,
    tty: bool,
    detach: bool,
    timeout: str | None,
) -> int:
    from sandlot.cli.terminal import attach, check_terminal, terminal_size
    from sandlot.sandbox.sandbox import Sandbox
    from sandlot.sandbox.sizes import parse_duration

    if not detach:
        check_terminal(tty, interactive)
    sandbox = await Sandbox.get(name)
    size = terminal_size() if tty else False
    if detach:
        job = await sandbox.spawn(
            words, stdin=interactive, tty=size, env=environment(env, env_file), workdir=workdir,
            user=user, timeout=timeout, detached=True,
        )  # fmt: skip
        click.echo(job.id)
        return 0
    process = await sandbox.spawn(
        words, stdin=interactive, tty=size, env=environment(env, env_file), workdir=workdir,
        user=user, timeout=timeout,
    )  # fmt: skip
    status = await attach(process, interactive=interactive, tty=tty)
    if status.timed_out:
        click.echo(
            f"sandlot: {words[0]} ran longer than {parse_duration(timeout):g} s and was killed",
            err=True,
        )
        return 124
    if status.out_of_memory:
        click.echo(f"sandlot: {words[0]} was killed: the sandbox ran out of memory", err=True)
    return status.exit_code
