"""`sandlot jobs` and `sandlot attach`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.output import ago, as_json, table
from sandlot.sandbox.sizes import iso_time

if TYPE_CHECKING:
    from sandlot.sandbox.job import Attachment, Job


@click.command(epilog="Examples: sandlot jobs box; sandlot jobs --json box")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON.")
@click.argument("sandbox")
def jobs(quiet: bool, json_: bool, sandbox: str) -> None:
    """List the jobs of the running SANDBOX: what `exec -d` started, and how it ended."""
    from sandlot.sandbox.sandbox import Sandbox

    async def find() -> list[Job]:
        return await (await Sandbox.get(sandbox)).jobs()

    found = asyncio.run(find())
    if json_:
        as_json([_plain(job) for job in found])
    elif quiet:
        for job in found:
            click.echo(job.id)
    else:
        table(
            ("JOB", "STATUS", "STARTED", "OUTPUT", "COMMAND"),
            [
                (j.id, _status(j), ago(j.started), str(j.kept.stop), " ".join(j.command)[:60])
                for j in found
            ],
        )


def _plain(job: Job) -> dict[str, Any]:
    return {
        "id": job.id, "command": job.command, "pid": job.pid, "status": job.status,
        "started": iso_time(job.started),
        "tty": job.tty, "takes_input": job.takes_input,
        "output": {"oldest": job.kept.start, "newest": job.kept.stop},
        "exit": asdict(job.exit_status) if job.exit_status is not None else None,
    }  # fmt: skip


def _status(job: Job) -> str:
    end = job.exit_status
    return "running" if end is None else f"exited ({end.exit_code})"


@click.command(
    epilog="Examples: sandlot attach box; sandlot attach box 3fa2; sandlot attach -i box 3fa2"
)
@click.option("-i", "--interactive", is_flag=True, help="Own its input, if no other program does.")
@click.option("--take", is_flag=True, help="Own its input even if another program does.")
@click.option(
    "--from-offset", "--from", "offset", type=int, default=0, show_default=True, metavar="BYTES",
    help="Where in its output to begin.",
)  # fmt: skip
@click.option("--new", "new", is_flag=True, help="Only what comes from now on.")
@click.option("--no-follow", is_flag=True, help="What is kept so far, and return.")
@click.argument("sandbox")
@click.argument("job", required=False)
@click.pass_context
def attach(
    ctx: click.Context, interactive: bool, take: bool, offset: int, new: bool, no_follow: bool,
    sandbox: str, job: str | None,
) -> None:  # fmt: skip
    """Watch JOB of the running SANDBOX until it ends; without JOB, its main command.

    The status is the job's. Ctrl-C ends the watching, not the job. With -i Ctrl-C goes to the job,
    and Ctrl-P Ctrl-Q ends the watching; a job without a terminal gets what is typed line by line.
    """
    from sandlot.cli.terminal import leave_at_once

    own = interactive or take
    status = asyncio.run(_attach(sandbox, job, None if new else offset, own, take, no_follow))
    if own:
        leave_at_once(status)
    ctx.exit(status)


async def _attach(
    name: str, job: str | None, offset: int | None, own: bool, take: bool, no_follow: bool
) -> int:
    from sandlot.sandbox.sandbox import Sandbox

    sandbox = await Sandbox.get(name)
    found = await (sandbox.job(job) if job else sandbox.main_job())
    if no_follow:
        for piece in await found.logs(from_offset=offset or 0):
            _show(piece.stream, piece.data, piece.dropped)
        return 0
    async with await found.attach(from_offset=offset, input=own, take_input=take) as attachment:
        return await _carry(found, attachment, own)


def _show(stream: str, data: bytes, dropped: int) -> None:
    if dropped:
        click.echo(f"sandlot: {dropped} bytes of output are not kept any more", err=True)
    target = 1 if stream == "stdout" else 2
    while data:
        data = data[os.write(target, data) :]


async def _carry(job: Job, attachment: Attachment, own: bool) -> int:
    """Output here, keys there, until the job ends or the user leaves; the exit status."""
    from sandlot.cli.keys import NAMES, lines_that_can_be_left
    from sandlot.cli.terminal import raw_terminal, terminal_size

    loop = asyncio.get_running_loop()
    left = asyncio.Event()
    with contextlib.ExitStack() as stack:
        if own:
            if os.isatty(0):
                click.echo(f"sandlot: {NAMES} leaves it running", err=True)
            if not job.tty:
                stack.enter_context(lines_that_can_be_left())
            else:
                stack.enter_context(raw_terminal())
                await attachment.resize(*terminal_size())
                loop.add_signal_handler(
                    signal.SIGWINCH, lambda: loop.create_task(attachment.resize(*terminal_size()))
                )
            _keys(attachment, loop, left)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, _forward(attachment, number, loop, left, own))
        reading = loop.create_task(_read(attachment))
        leaving = loop.create_task(left.wait())
        await asyncio.wait([reading, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not reading.done():
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            return 0
        await reading
    return (await attachment.wait()).exit_code


async def _read(attachment: Attachment) -> None:
    async for piece in attachment:
        await asyncio.to_thread(_show, piece.stream, piece.data, piece.dropped)


def _forward(
    attachment: Attachment, number: int, loop: asyncio.AbstractEventLoop, left: asyncio.Event,
    own: bool,
) -> Any:  # fmt: skip
    def handler() -> None:
        if own and number == signal.SIGINT:
            loop.create_task(attachment.signal(number))
        else:
            left.set()

    return handler


def _keys(attachment: Attachment, loop: asyncio.AbstractEventLoop, left: asyncio.Event) -> None:
    """A thread reads what is typed, as in terminal.py; on a terminal two keys end the watching."""
    from sandlot.cli.keys import DetachKeys
    from sandlot.errors import SandboxError

    keys = DetachKeys() if os.isatty(0) else None

    def send(data: bytes) -> None:
        if data:
            asyncio.run_coroutine_threadsafe(attachment.stdin.write(data), loop).result()

    def read() -> None:
        with contextlib.suppress(OSError, RuntimeError, SandboxError):
            while data := os.read(0, 1 << 16):
                data, leaves = keys.feed(data) if keys else (data, False)
                send(data)
                if leaves:
                    loop.call_soon_threadsafe(left.set)
                    return
            send(keys.rest() if keys else b"")
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(attachment.stdin.close)

    threading.Thread(target=read, daemon=True, name="sandlot-stdin").start()
