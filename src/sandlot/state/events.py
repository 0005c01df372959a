"""What happens to sandboxes: one bounded file that every program appends to. No daemon."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandlot.state.lines import follow_lines, older, read_lines

LIMIT = 2 * 1024 * 1024
KINDS = (
    "created", "started", "paused", "resumed", "oom", "exited", "restarting", "stopped", "renamed",
    "removed",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """Something that happened to a sandbox. `time` is in seconds since 1970.

    `kind` is one of created, started, paused, resumed, oom, exited, restarting, stopped, renamed,
    removed, plugin-failed; `details` has what belongs to it, such as `exit_code`, `signal` or `reason`.
    """

    time: float
    kind: str
    name: str
    id: str
    image: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """The file, and the one before it in `.1`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, kind: str, name: str, id: str, image: str = "", **details: Any) -> None:
        """Write down an event. A full disk loses it: no sandbox fails for want of a record."""
        line = json.dumps([time.time(), kind, name, id, image, details]) + "\n"
        with contextlib.suppress(OSError):
            self._append(line.encode())

    def _append(self, line: bytes) -> None:
        while True:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                there = os.fstat(descriptor)
                try:
                    same = self._path.stat().st_ino == there.st_ino
                except FileNotFoundError:
                    same = False
                if not same:
                    continue  # it was rotated while we waited
                if there.st_size > LIMIT:
                    self._path.replace(older(self._path))
                    continue
                os.write(descriptor, line)
                return
            finally:
                os.close(descriptor)

    def read(self, *, since: float = 0.0) -> Iterator[Event]:
        """What is kept, the oldest first, from `since` (seconds since 1970) on."""
        for line in read_lines(self._path):
            if (event := parse_event(line)) is not None and event.time >= since:
                yield event

    def follow(self, *, since: float = 0.0) -> Iterator[Event | None]:
        """As `read`, then what comes; None each time when there is nothing new yet."""
        for line in follow_lines(self._path):
            if line is None:
                yield None
            elif (event := parse_event(line)) is not None and event.time >= since:
                yield event


def parse_event(line: bytes) -> Event | None:
    """One line of the file; None for one that was cut off or is none of ours."""
    try:
        when, kind, name, id, image, details = json.loads(line)
        return Event(float(when), str(kind), str(name), str(id), str(image), dict(details))
    except (ValueError, TypeError):
        return None
