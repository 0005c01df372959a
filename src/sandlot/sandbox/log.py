"""The kept output of a sandbox's main command, and of its console: JSON lines, bounded."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sandlot.guest.jobs import JobWatch
from sandlot.guest.process import ExitStatus
from sandlot.state.lines import Still, follow_lines, older, read_lines

LIMIT = 16 * 1024 * 1024
CONSOLE_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class LogEntry:
    """A piece of output: `time` in seconds since 1970, `stream` is stdout, stderr or console."""

    time: float
    stream: str
    data: bytes


class OutputLog:
    """Writes a log; at most twice `limit` bytes are kept, what is over it as `NAME.1`."""

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path = path
        self._limit = limit or LIMIT
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, stream: str, data: bytes) -> None:
        """Append one piece. A full disk loses the piece, not the sandbox."""
        line = json.dumps([time.time(), stream, data.decode(errors="surrogateescape")]) + "\n"
        try:
            if self._size > self._limit:
                self._file.close()
                self._path.replace(older(self._path))
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


def read_log(path: Path, *, since: float = 0.0, still: Still = None) -> Iterator[LogEntry]:
    """Everything that is kept, the oldest first, from `since` (seconds since 1970) on."""
    for line in read_lines(path, still):
        if (entry := parse(line)) is not None and entry.time >= since:
            yield entry


def follow_log(path: Path, *, since: float = 0.0, still: Still = None) -> Iterator[LogEntry | None]:
    """As `read_log`, then what comes; None each time when there is nothing new yet."""
    for line in follow_lines(path, still):
        if line is None:
            yield None
        elif (entry := parse(line)) is not None and entry.time >= since:
            yield entry


def last_lines(entries: Iterable[LogEntry], count: int) -> list[LogEntry]:
    """The pieces that hold the last `count` lines, the first of them cut where a line begins."""
    kept: deque[LogEntry] = deque()
    lines = 0
    for entry in entries:
        kept.append(entry)
        lines += entry.data.count(b"\n")
        while kept and lines - kept[0].data.count(b"\n") > count:
            lines -= kept.popleft().data.count(b"\n")
    if kept and not kept[-1].data.endswith(b"\n"):
        lines += 1  # one that is not finished
    if kept and lines > count:
        first = kept.popleft()
        rest = first.data.split(b"\n", lines - count)[-1]
        if rest:
            kept.appendleft(replace(first, data=rest))
    return list(kept) if count else []


class Tail:
    """The last `count` lines of a log in two readings, so that nothing of it is held: first `count`
    each entry, then `cut` each."""

    def __init__(self, count: int) -> None:
        self._wanted = count
        self._lines = 0
        self._ends = True
        self._drop: int | None = None
        self.entries = 0

    def count(self, entry: LogEntry) -> None:
        """One entry of the first reading."""
        self.entries += 1
        self._lines += entry.data.count(b"\n")
        self._ends = entry.data.endswith(b"\n")

    def cut(self, entry: LogEntry) -> LogEntry | None:
        """What is shown of an entry of the second reading, or None."""
        if self._drop is None:
            unfinished = bool(self.entries) and not self._ends
            self._drop = max(0, self._lines + unfinished - self._wanted)
        if not self._wanted:
            return None
        if not self._drop:
            return entry
        lines = entry.data.count(b"\n")
        if lines < self._drop:
            self._drop -= lines
            return None
        rest = entry.data.split(b"\n", self._drop)[-1]
        self._drop = 0
        return replace(entry, data=rest) if rest else None
