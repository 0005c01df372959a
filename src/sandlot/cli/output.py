"""How listings and progress look. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns."""
    widths = [max(len(str(r[i])) for r in [headings, *rows]) for i in range(len(headings))]
    lines = [
        "  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in [headings, *rows]
    ]
    click.echo("\n".join(lines))  # in one write: a row costs little, a write much


def as_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2))


def human_size(size: int) -> str:
    """Bytes for people: `512M`, `1.5G`."""
    value = float(size)
    for unit in ("B", "K", "M", "G", "T"):
        if value < 1024 or unit == "T":
            return f"{value:.1f}".removesuffix(".0") + unit
        value /= 1024
    raise AssertionError("unreachable")


def ago(when: float) -> str:
    """A time in the past for people."""
    seconds = max(0, int(time.time() - when))
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return f"{seconds} second{'' if seconds == 1 else 's'} ago"


class Progress:
    """What is going on: one changing line on a terminal, one line per stage elsewhere.

    On a terminal nothing is shown for work that takes under `delay` seconds.
    """

    def __init__(self, delay: float = 0.4) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._delay = delay
        self._shown = ""
        self._width = 0

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        """Show a stage, with its fraction done when that is known."""
        if not self._terminal:
            if stage != self._shown:
                click.echo(f"{stage} ...", err=True)
            self._shown = stage
            return
        if time.monotonic() - self._began < self._delay:
            return
        bar = ""
        if fraction is not None:
            done = round(20 * min(max(fraction, 0.0), 1.0))
            bar = f" [{'#' * done}{'.' * (20 - done)}] {fraction:4.0%}"
        line = f"{stage}{bar}"
        click.echo("\r" + line.ljust(self._width), err=True, nl=False)
        self._width = len(line)

    def close(self) -> None:
        """Take the line away."""
        if self._terminal and self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)
            self._width = 0
