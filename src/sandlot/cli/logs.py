"""`sandlot logs`."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import click

from sandlot.cli.members import sandboxes_of
from sandlot.errors import ConfigError
from sandlot.sandbox.sizes import iso_time

if TYPE_CHECKING:
    from sandlot.sandbox.log import LogEntry


@click.command(epilog="Examples: sandlot logs -f web; sandlot logs --console box")
@click.option("-f", "--follow", is_flag=True, help="Go on until the sandbox stops.")
@click.option("-n", "--tail", metavar="LINES", help="Only the last lines; `all` is all.")
@click.option("--since", metavar="TIME", help="From this time ago (10m) or this date (ISO) on.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time before each line.")
@click.option("--console", is_flag=True, help="What the kernel's console said instead.")
@click.option("--json", "json_", is_flag=True, help="One JSON object for each piece of output.")
@click.argument("name")
def logs(
    follow: bool, tail: str | None, since: str | None, timestamps: bool, console: bool,
    json_: bool, name: str,
) -> None:  # fmt: skip
    """Show what the main command of a sandbox said; of output beyond 32 MiB only the newest is kept."""
    from sandlot.cli.look import moment
    from sandlot.sandbox.listing import folders
    from sandlot.sandbox.log import follow_log, last_lines, read_log

    folder = folders().find(sandboxes_of(name)[0])
    if not console and not folder.record().command:
        from sandlot.cli.main import complain

        complain(
            f"sandbox {name!r} has no main command, so none that said anything",
            f"`sandlot jobs {name}` lists its jobs; --console shows its kernel's console",
        )
    start = moment(since) if since else 0.0
    path = folder.console if console else folder.log
    show = _Printer(timestamps, json_)
    if tail is not None and tail != "all":
        if not tail.isdecimal():
            raise ConfigError(f"--tail {tail!r} is not a number of lines")
        for entry in last_lines(read_log(path, since=start), int(tail)):
            show(entry)
        if not follow:
            return
        start = max(start, time.time())
    if not follow:
        for entry in read_log(path, since=start):
            show(entry)
        return
    running = True
    for piece in follow_log(path, since=start):
        if piece is not None:
            show(piece)
        elif not running:
            return
        else:
            # Another program writes it; of that a file tells nobody on every system.
            time.sleep(0.1)
            # Looked at before the last reading: what was written until then is shown.
            running = folder.path.exists() and folder.run_state().running


class _Printer:
    def __init__(self, timestamps: bool, json_: bool) -> None:
        self._timestamps = timestamps
        self._json = json_
        self._within: set[str] = set()  # streams whose last line is not finished

    def __call__(self, entry: LogEntry) -> None:
        when = iso_time(entry.time) or ""
        data = entry.data if entry.stream != "console" else _harmless(entry.data)
        if self._json:
            text = data.decode(errors="replace")
            click.echo(json.dumps({"time": when, "stream": entry.stream, "text": text}))
            return
        if self._timestamps:
            lines = data.splitlines(keepends=True)
            first = b"" if entry.stream in self._within else when.encode() + b" "
            data = first + (when.encode() + b" ").join(lines)
            if lines and not lines[-1].endswith(b"\n"):
                self._within.add(entry.stream)
            else:
                self._within.discard(entry.stream)
        target = 2 if entry.stream == "stderr" else 1
        while data:
            data = data[os.write(target, data) :]


def _harmless(data: bytes) -> bytes:
    """A console's text without what a terminal would obey."""
    text = data.decode(errors="replace").replace("\r", "")
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text).encode()
