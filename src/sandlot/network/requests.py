"""HTTP requests of connections that are looked into, for their records and as an HTTP archive.

Bodies are not kept. Of the fields of a request all are, as the guest wrote them and so with
placeholders, except that what carries credentials is masked; of an answer only a few, since a server
may say there what it was told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

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
from sandlot.secrets.places import CREDENTIAL_FIELDS
from sandlot.secrets.substitution import Fields

KEPT = 100
LONGEST = 2000  # characters of a URL, and of the fields of one request together
MASKED = "****"
_ALSO_CREDENTIALS = {"cookie", "proxy-authorization"}
_OF_ANSWERS = ("content-type", "content-length", "content-encoding", "location")


class RequestLog:
    """Notes what happens on one connection in its record."""

    def __init__(
        self, record: FlowRecord, flow: Flow, clock: Callable[[], float] = time.time,
        redact: Callable[[bytes], bytes] = bytes,
    ) -> None:  # fmt: skip
        """`redact` puts placeholders in the place of values, in what a server says."""
        self._record = record
        self._redact = redact
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
                "complete": 0.0, "answered": 0.0, "fields": _asked(event.fields), "answer": [],
            }  # fmt: skip
            self._open[event.id] = entry
            self._record.requests.append(entry)
            del self._record.requests[:-KEPT]
        elif isinstance(event, RequestEnded) and (entry := self._open.get(event.id, {})):
            entry["sent"], entry["complete"] = event.size, self._clock()
        elif isinstance(event, ResponseHead) and (entry := self._open.get(event.id, {})):
            entry["status"], entry["answered"] = event.status, self._clock()
            entry["answer"] = _said(event.fields, self._redact)
        elif isinstance(event, ResponseEnded) and (entry := self._open.pop(event.id, {})):
            entry["received"], entry["ended"] = event.size, self._clock()
        elif isinstance(event, Refused) and (entry := self._open.pop(event.id, {})):
            entry["status"], entry["ended"] = event.status, self._clock()


def _asked(fields: Fields) -> list[list[str]]:
    kept: list[list[str]] = []
    room = LONGEST
    for name, value in fields:
        text = name.decode("latin-1")
        hidden = text.lower() in _ALSO_CREDENTIALS or text.lower() in CREDENTIAL_FIELDS
        shown = MASKED if hidden else value.decode("latin-1")
        room -= len(text) + len(shown)
        if room < 0:
            break
        kept.append([text, shown])
    return kept


def _said(fields: Fields, redact: Callable[[bytes], bytes]) -> list[list[str]]:
    found = []
    for name, value in fields:
        text = name.decode("latin-1").lower()
        if text in _OF_ANSWERS:
            found.append([text, redact(value).decode("latin-1")[:LONGEST]])
    return found[: 2 * len(_OF_ANSWERS)]


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
    started = request["started"]
    ended = max(request["ended"], started)
    complete = min(max(request.get("complete", 0.0), started), ended)
    answered = min(max(request.get("answered", 0.0) or ended, complete), ended)
    asked, said = request.get("fields", []), dict(request.get("answer", []))
    query = request["url"].partition("#")[0].partition("?")[2]
    made: dict[str, Any] = {
        "startedDateTime": datetime.fromtimestamp(started, UTC).isoformat(),
        "time": (ended - started) * 1000,
        "request": {
            "method": request["method"], "url": request["url"], "httpVersion": request["version"],
            "cookies": [], "headers": _pairs(asked), "headersSize": -1,
            "queryString": _pairs(parse_qsl(query, keep_blank_values=True)),
            "bodySize": request["sent"],
        },
        "response": {
            "status": request["status"], "statusText": "", "httpVersion": request["version"],
            "cookies": [], "headers": _pairs(said.items()), "headersSize": -1,
            "redirectURL": said.get("location", ""), "bodySize": request["received"],
            "content": {"size": request["received"], "mimeType": said.get("content-type", "")},
        },
        "cache": {},
        "timings": {
            "send": (complete - started) * 1000, "wait": (answered - complete) * 1000,
            "receive": (ended - answered) * 1000,
        },
        "serverIPAddress": record.address,
        "connection": str(record.id),
    }  # fmt: skip
    if request["sent"]:
        kind = next((value for name, value in asked if name.lower() == "content-type"), "")
        comment = f"{request['sent']} bytes, which are not kept"
        made["request"]["postData"] = {
            "mimeType": kind, "params": [], "text": "", "comment": comment,
        }  # fmt: skip
    return made


def _pairs(pairs: Iterable[Iterable[str]]) -> list[dict[str, str]]:
    return [dict(zip(("name", "value"), pair, strict=True)) for pair in pairs]
