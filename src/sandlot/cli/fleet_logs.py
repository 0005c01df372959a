"""How the output of a fleet looks: each line behind its sandbox's name, in a colour of its own."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from sandlot.fleet.health import printable
from sandlot.times import iso_time

if TYPE_CHECKING:
    from sandlot.sandbox.log import LogEntry

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow",
            "bright_green", "bright_magenta", "bright_blue")  # fmt: skip


class Lines:
    """Prints pieces of output as whole lines. NO_COLOR, and output to a file, have no colours."""

    def __init__(self, fleet: str, *, json_: bool = False) -> None:
        self._fleet = fleet
        self._json = json_
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._seen: dict[str, int] = {}
        self._rest: dict[tuple[str, str], bytes] = {}
        self._width = 0

    def __call__(self, name: str, entry: LogEntry) -> None:
        """Print a piece, as far as its lines are whole."""
        if self._json:
            click.echo(
                json.dumps({
                    "sandbox": name, "time": iso_time(entry.time), "stream": entry.stream,
                    "text": entry.data.decode(errors="replace"),
                })
            )  # fmt: skip
            return
        key = (name, entry.stream)
        *lines, rest = (self._rest.pop(key, b"") + entry.data).split(b"\n")
        if len(rest) > 65536:
            lines, rest = [*lines, rest], b""
        if rest:
            self._rest[key] = rest
        for line in lines:
            self._line(name, entry.stream, line)

    def close(self) -> None:
        """Print what has no end of its line."""
        for (name, stream), rest in self._rest.items():
            self._line(name, stream, rest)
        self._rest.clear()

    def _line(self, name: str, stream: str, line: bytes) -> None:
        short = name.removeprefix(f"{self._fleet}-")
        number = self._seen.setdefault(short, len(self._seen))
        self._width = max(self._width, len(short))
        key = f"{short.ljust(self._width)} |"
        if self._colours:
            key = click.style(key, fg=_COLOURS[number % len(_COLOURS)])
        click.echo(f"{key} {printable(line)}", err=stream == "stderr", color=self._colours)
