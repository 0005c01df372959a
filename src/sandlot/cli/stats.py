"""`sandlot stats` and `top`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sandlot.cli.output import as_json, human_size, table
from sandlot.sandbox.sizes import iso_time

if TYPE_CHECKING:
    from sandlot.sandbox.metrics import Metrics
    from sandlot.sandbox.sandbox import Sandbox

INTERVAL = 1.0


@click.command(epilog="Examples: sandlot stats; sandlot stats --no-stream --json box")
@click.option("--no-stream", is_flag=True, help="Once, instead of every second.")
@click.option("--json", "json_", is_flag=True, help="Everything, as JSON; implies --no-stream.")
@click.argument("names", nargs=-1)
def stats(no_stream: bool, json_: bool, names: tuple[str, ...]) -> None:
    """Show what running sandboxes use: all of them, or NAMES."""
    asyncio.run(_stats(no_stream or json_, json_, names))


async def _stats(once: bool, json_: bool, names: tuple[str, ...]) -> None:
    from sandlot.sandbox.sandbox import Sandbox

    sandboxes = [await Sandbox.get(name) for name in names]
    before: dict[str, Metrics] = {}
    shown = False
    while True:
        if not names:
            running = [i for i in await Sandbox.list() if i.status == "running"]
            known = {s.id: s for s in sandboxes}
            sandboxes = [known.get(i.record.id) or await Sandbox.get(i.record.id) for i in running]
        now = await _measure(sandboxes, strict=bool(names))
        if before or not sandboxes:
            if json_:
                as_json([_plain(s, now[s.id], before) for s in sandboxes if s.id in now])
            else:
                if shown:
                    click.clear()
                table(
                    ("NAME", "CPU", "MEMORY", "DISK", "PROCESSES", "HOST MEMORY", "HOST DISK"),
                    [_row(s, now[s.id], before) for s in sandboxes if s.id in now],
                )
            shown = True
            if once:
                return
        before = now
        await asyncio.sleep(INTERVAL)


async def _measure(sandboxes: list[Sandbox], *, strict: bool) -> dict[str, Metrics]:
    from sandlot.errors import SandboxError

    async def one(sandbox: Sandbox) -> tuple[str, Metrics] | None:
        try:
            return sandbox.id, await sandbox.metrics()
        except SandboxError:
            if strict:
                raise
            return None

    return dict([m for m in await asyncio.gather(*map(one, sandboxes)) if m is not None])


def _percent(now: Metrics, before: Metrics | None) -> float:
    if before is None or now.time <= before.time:
        return 0.0
    return 100 * (now.cpu_seconds - before.cpu_seconds) / (now.time - before.time)


def _plain(sandbox: Sandbox, now: Metrics, before: dict[str, Metrics]) -> dict[str, object]:
    percent = _percent(now, before.get(sandbox.id))
    return {
        "name": sandbox.name, "id": sandbox.id, "cpu_percent": round(percent, 1), **asdict(now),
        "time": iso_time(now.time),
    }  # fmt: skip


def _row(sandbox: Sandbox, now: Metrics, before: dict[str, Metrics]) -> tuple[str, ...]:
    return (
        sandbox.name, f"{_percent(now, before.get(sandbox.id)):.1f}%",
        f"{human_size(now.memory_used)} / {human_size(now.memory_total)}",
        f"{human_size(now.disk_used)} / {human_size(now.disk_total)}",
        f"{now.processes} / {now.process_limit}", human_size(now.host_memory),
        human_size(now.host_disk),
    )  # fmt: skip


@click.command(epilog="Example: sandlot top box", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def top(ctx: click.Context, name: str, options: tuple[str, ...]) -> None:
    """List the processes in a running sandbox, with its own `ps OPTIONS` (-ef otherwise)."""
    from sandlot.sandbox.sandbox import Sandbox

    async def run() -> int:
        sandbox = await Sandbox.get(name)
        result = await sandbox.exec(["ps", *(options or ("-ef",))], user="root")
        click.echo(result.stdout, nl=False)
        click.echo(result.stderr, nl=False, err=True)
        return result.exit_code

    ctx.exit(asyncio.run(run()))
