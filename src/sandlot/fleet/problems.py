"""What is wrong with a file: all of it at once, each with its place and the nearest right word. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from sandlot.errors import ConfigError, SandboxfileError

# What other files call it.
_HABITS = {
    "environment": "env", "envs": "env", "working_dir": "workdir", "cwd": "workdir",
    "mem_limit": "memory", "mem": "memory", "cpu": "cpus", "healthcheck": "health",
    "services": "sandboxes", "containers": "sandboxes", "snapshot": "from_snapshot",
    "deploy": "replicas", "scale": "replicas", "pids_limit": "pids", "metadata": "labels",
    "cmd": "command", "storage": "disk", "mounts": "volumes", "allowed": "allow",
    "denied": "deny", "test": "command", "needs": "depends_on", "envfile": "env_file",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands: lines and columns from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and what mends it."""

    place: Place
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}{f' ({self.hint})' if self.hint else ''}"


class Problems:
    """Collects what is wrong, and what is only to be said."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def add(self, place: Place, message: str, hint: str = "") -> None:
        """Something is wrong."""
        problem = Problem(place, message, hint)
        if problem not in self.errors:
            self.errors.append(problem)

    def fault(self, place: Place, error: ConfigError) -> None:
        """Something is wrong that an error of ours tells."""
        self.add(place, error.message, error.hint)

    def warn(self, place: Place, message: str, hint: str = "") -> None:
        """Something is only to be said."""
        problem = Problem(place, message, hint)
        if problem not in self.warnings:
            self.warnings.append(problem)

    def check(self) -> None:
        """Raise all that is wrong, in the order of the file.

        Raises:
            SandboxfileError: anything is.
        """
        if self.errors:
            found = sorted(self.errors)
            raise SandboxfileError(
                "\n".join(map(str, found)),
                problems=[
                    {"file": each.place.file, "line": each.place.line,
                     "column": each.place.column, "message": each.message, "hint": each.hint}
                    for each in found
                ],
            )  # fmt: skip


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or what there is, or nothing."""
    names = sorted(set(known))
    meant = _HABITS.get(word.lower())
    if meant not in names:
        close = difflib.get_close_matches(word.lower(), names, 1, 0.6)
        meant = close[0] if close else None
    if meant:
        return f"did you mean {meant}?"
    return f"there are {', '.join(names)}" if 0 < len(names) <= 12 else ""
