"""`sandlot logs`."""

from __future__ import annotations

import os
import time
from collections import deque
from datetime import UTC, datetime

import click


@click.command(epilog="Examples: sandlot logs -f web; sandlot logs --console box")
@click.option("-f", "--follow", is_flag=True, help="Go on until the sandbox stops.")
@click.option("-n", "--tail", type=int, help="Only the last pieces of output.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time before each piece.")
@click.option("--console", is_flag=True, help="The kernel's console of the last run instead.")
@click.argument("name")
def logs(follow: bool, tail: int | None, timestamps: bool, console: bool, name: str) -> None:
    """Show what the main command of a sandbox said."""
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.log import LogEntry, parse, read_log

    folder = Host.current().sandboxes.find(name)
    if console:
        if folder.console.exists():
            click.echo(folder.console.read_text(), nl=False)
        else:
            click.echo("sandlot: the last run's console said nothing", err=True)
        return

    def show(entry: LogEntry) -> None:
        data = entry.data
        if timestamps:
            when = datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="milliseconds")
            data = when.replace("+00:00", "Z").encode() + b" " + data
        target = 1 if entry.stream == "stdout" else 2
        while data:
            data = data[os.write(target, data) :]

    entries = read_log(folder.log)
    for entry in entries if tail is None else deque(entries, maxlen=tail):
        show(entry)
    if not follow:
        return
    with folder.log.open("ab+") as file:
        file.seek(0, os.SEEK_END)
        rest = b""
        while True:
            running = folder.path.exists() and folder.run_state().running
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if (fresh := parse(line)) is not None:
                    show(fresh)
            if not running:
                return
            time.sleep(0.2)
