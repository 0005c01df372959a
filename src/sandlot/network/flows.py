"""What a sandbox reached and what it was refused: one record for each flow."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from sandlot.network.flow import Protocol, destination
from sandlot.network.relay import Counted
from sandlot.state.lines import follow_lines, older, read_lines

KEPT = 1000
FILE_LIMIT = 4 * 1024 * 1024


@dataclass(kw_only=True)
class FlowRecord:
    """One connection, the datagrams between two sockets, or one question of the DNS.

    `verdict` is `"open"` while it goes on, `"closed"`, `"failed"` (it was allowed, but the other
    side could not be reached), `"denied"`, or `"cut"` (the policy was changed meanwhile).
    `time` and `ended` are in seconds since 1970, `sent` and `received` in bytes.
    """

    id: int
    time: float
    protocol: str
    """`tcp`, `udp` or `dns`."""
    address: str
    port: int
    name: str | None = None
    rule: str = ""
    reason: str = ""
    hint: str = ""
    verdict: str = "open"
    sent: int = 0
    received: int = 0
    ended: float = 0.0
    tls: str = ""
    secrets: list[str] = field(default_factory=list)
    """Secrets whose value was put in."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """HTTP requests of a connection that is looked into: `started`, `method`, `url`, `version`,
    `sent`, and of the answer `status`, `received`, `ended`; the newest hundred."""
    misused: list[str] = field(default_factory=list)
    """Secrets whose placeholder went out as it is, or was refused, where it does not belong."""
    pid: int = 0
    """The process of the guest that connected, by the guest's own word; 0 where it is not known, as
    for datagrams and questions of the DNS."""
    process: str = ""
    """What it is called."""

    @property
    def destination(self) -> str:
        """What was asked for, as a rule spells it."""
        protocol: Protocol = "udp" if self.protocol == "udp" else "tcp"
        if self.protocol == "dns":
            return self.name or ""
        return destination(self.name or self.address, self.port, protocol)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FlowRecord:
        """From what `to_json` gave; what a later version added is left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


class FlowLog:
    """The flows of one sandbox: those that are open, and the newest that ended.

    Each change of a record is a line of the file, so that other programs see it; the file and the
    one before it (`NAME.1`) are bounded. `path` says where the file is now: a sandbox can be renamed.
    """

    def __init__(self, path: Callable[[], Path] | None = None, *, limit: int = FILE_LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._file: BinaryIO | None = None
        self._next = 1
        self._open: dict[int, tuple[FlowRecord, Counted | None]] = {}
        self._ended: deque[FlowRecord] = deque(maxlen=KEPT)
        self.watchers: list[Callable[[FlowRecord], None]] = []

    def opened(self, record: FlowRecord, count: Counted | None = None) -> FlowRecord:
        """Note a flow that begins; `count` is what it carries from now on."""
        record.id, self._next = self._next, self._next + 1
        if record.verdict == "open":
            self._open[record.id] = (record, count)
        else:
            self._ended.append(record)
        self._write(record)
        return record

    def closed(self, record: FlowRecord, verdict: str = "closed", reason: str = "") -> None:
        """Note a flow's end; the first of several counts."""
        _, count = self._open.pop(record.id, (record, None))
        if record.verdict != "open":
            return
        record.verdict = verdict
        record.reason = reason or record.reason
        record.ended = time.time()
        if count is not None:
            record.sent, record.received = count.sent, count.received
        self._ended.append(record)
        self._write(record)

    def all(self) -> list[FlowRecord]:
        """The records, by their beginning."""
        for record, count in self._open.values():
            if count is not None:
                record.sent, record.received = count.sent, count.received
        records = [*self._ended, *(record for record, _ in self._open.values())]
        return sorted(records, key=lambda record: record.id)

    def close(self) -> None:
        """Everything has ended."""
        for record, _ in list(self._open.values()):
            self.closed(record)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: FlowRecord) -> None:
        for watcher in self.watchers:
            watcher(record)
        if self._path is None:
            return
        line = json.dumps(record.to_json()) + "\n"
        try:  # a full disk loses the record, not the connection
            if self._file is None:
                self._file = self._path().open("ab", buffering=0)
            if self._file.tell() > self._limit:
                self._file.close()
                self._file = None
                self._path().replace(older(self._path()))
                self._file = self._path().open("ab", buffering=0)
            self._file.write(line.encode())
        except OSError:
            pass


def read_flows(path: Path) -> list[FlowRecord]:
    """What a file holds, the latest state of each flow, by their beginning."""
    latest: dict[tuple[float, int], FlowRecord] = {}
    for record in _parsed(read_lines(path)):
        latest[record.time, record.id] = record
    return [latest[key] for key in sorted(latest)]


def follow_flows(path: Path) -> Iterator[FlowRecord | None]:
    """Every change, as it comes; None each time when there is nothing new yet."""
    for line in follow_lines(path):
        if line is None:
            yield None
        else:
            yield from _parsed([line])


def _parsed(lines: Iterable[bytes]) -> Iterator[FlowRecord]:
    for line in lines:
        try:
            yield FlowRecord.from_json(json.loads(line))
        except (ValueError, TypeError):
            continue
