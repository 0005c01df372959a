"""Medians, percentiles and the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure. `median` and `p95` are in `unit`."""

    what: str
    goal: str
    median: float
    p95: float
    unit: str
    samples: int


def row(what: str, goal: str, values: Sequence[float], unit: str) -> Row:
    """A row from samples that are already in `unit`."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    if unit in ("MB/s", "/s"):
        high = ordered[round(0.05 * (len(ordered) - 1))]
    return Row(what, goal, statistics.median(ordered), high, unit, len(ordered))


def heading() -> str:
    """The head of a Markdown table."""
    return "| what | goal | median | 95 % | n |\n|---|---|---|---|---|"


def line(one: Row) -> str:
    """One line of the table."""
    digits = 2 if one.median < 10 else 0
    return (
        f"| {one.what} | {one.goal} | {one.median:.{digits}f} {one.unit} "
        f"| {one.p95:.{digits}f} {one.unit} | {one.samples} |"
    )
