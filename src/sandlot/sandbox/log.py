"""The kept output of a sandbox's main command: JSON lines, bounded, the older half in `.1`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandlot.guest.jobs import JobWatch
from sandlot.guest.process import ExitStatus

LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class LogEntry:
    """A piece of output: `time` in seconds since 1970, `stream` is `stdout` or `stderr`."""

    time: float
    stream: str
    data: bytes


class OutputLog:
    """Writes the log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, stream: str, data: bytes) -> None:
        """Append one piece. A full disk loses the piece, not the sandbox."""
        line = json.dumps([time.time(), stream, data.decode(errors="surrogateescape")]) + "\n"
        try:
            if self._size > LIMIT:
                self._file.close()
                self._path.replace(self._path.with_suffix(".jsonl.1"))
                self._file = self._path.open("ab", buffering=0)
                self._size = 0
            self._size += self._file.write(line.encode())
        except OSError:
            pass

    async def follow(self, watch: JobWatch) -> ExitStatus | None:
        """Write all that a job says until it ends; None when it is lost sight of."""
        while (piece := await watch.next()) is not None:
            self.write(piece.stream, piece.data)
        return watch.status

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def parse(line: bytes) -> LogEntry | None:
    """One line of the log; None for a line that was cut off."""
    try:
        when, stream, text = json.loads(line)
        return LogEntry(float(when), str(stream), str(text).encode(errors="surrogateescape"))
    except (ValueError, TypeError):
        return None


def read_log(path: Path) -> Iterator[LogEntry]:
    """Everything that is kept, the oldest first."""
    for part in (path.with_suffix(".jsonl.1"), path):
        try:
            with part.open("rb") as file:
                for line in file:
                    if (entry := parse(line)) is not None:
                        yield entry
        except FileNotFoundError:
            continue
