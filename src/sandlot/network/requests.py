"""HTTP requests of connections that are looked into, for their records and as an HTTP archive.

Fields and bodies are not kept: what the guest wrote there is its own matter, and values never are
anywhere but on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sandlot.network.flow import Flow
from sandlot.network.flows import FlowRecord
from sandlot.network.http.events import (
    Event,
    Refused,
    RequestEnded,
    RequestHead,
    ResponseEnded,
    ResponseHead,
)

KEPT = 100
LONGEST = 2000  # characters of a URL


class RequestLog:
    """Notes what happens on one connection in its record."""

    def __init__(
        self, record: FlowRecord, flow: Flow, clock: Callable[[], float] = time.time
    ) -> None:
        self._record = record
        self._flow = flow
        self._clock = clock
        self._open: dict[int, dict[str, Any]] = {}

    def note(self, event: Event) -> None:
        """One event of the exchange."""
        if isinstance(event, RequestHead):
            scheme = "https" if self._record.tls else "http"
            url = event.target
            if not url.startswith(("http://", "https://")):
                url = f"{scheme}://{event.authority or self._flow.name}{url}"
            entry = {
                "started": self._clock(), "method": event.method, "url": url[:LONGEST],
                "version": event.version, "sent": 0, "status": 0, "received": 0, "ended": 0.0,
            }  # fmt: skip
            self._open[event.id] = entry
            self._record.requests.append(entry)
            del self._record.requests[:-KEPT]
        elif isinstance(event, RequestEnded) and (entry := self._open.get(event.id, {})):
            entry["sent"] = event.size
        elif isinstance(event, ResponseHead) and (entry := self._open.get(event.id, {})):
            entry["status"] = event.status
        elif isinstance(event, ResponseEnded) and (entry := self._open.pop(event.id, {})):
            entry["received"], entry["ended"] = event.size, self._clock()
        elif isinstance(event, Refused) and (entry := self._open.pop(event.id, {})):
            entry["status"], entry["ended"] = event.status, self._clock()


def archive(records: Iterable[FlowRecord], version: str) -> dict[str, Any]:
    """An HTTP archive of the requests. Source: HAR 1.2."""
    entries = [
        _entry(record, request)
        for record in records
        for request in record.requests
    ]  # fmt: skip
    entries.sort(key=lambda entry: str(entry["startedDateTime"]))
    return {
        "log": {
            "version": "1.2", "creator": {"name": "sandlot", "version": version},
            "entries": entries,
        }
    }  # fmt: skip


def _entry(record: FlowRecord, request: dict[str, Any]) -> dict[str, Any]:
    took = max(0.0, (request["ended"] or request["started"]) - request["started"]) * 1000
    nothing: dict[str, Any] = {
        "httpVersion": request["version"], "cookies": [], "headers": [], "headersSize": -1,
    }  # fmt: skip
    return {
        "startedDateTime": datetime.fromtimestamp(request["started"], UTC).isoformat(),
        "time": took,
        "request": {
            **nothing, "method": request["method"], "url": request["url"], "queryString": [],
            "bodySize": request["sent"],
        },
        "response": {
            **nothing, "status": request["status"], "statusText": "", "redirectURL": "",
            "content": {"size": request["received"], "mimeType": ""},
            "bodySize": request["received"],
        },
        "cache": {},
        "timings": {"send": 0, "wait": took, "receive": 0},
        "serverIPAddress": record.address,
        "connection": str(record.id),
    }  # fmt: skip
