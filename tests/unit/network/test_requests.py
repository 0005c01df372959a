"""Requests in records and archives."""

from __future__ import annotations

from ipaddress import ip_address

from sandlot.network.flow import Flow
from sandlot.network.flows import FlowRecord
from sandlot.network.http.events import (
    Refused,
    RequestEnded,
    RequestHead,
    ResponseEnded,
    ResponseHead,
)
from sandlot.network.requests import KEPT, RequestLog, archive

FLOW = Flow("tcp", ip_address("192.0.2.1"), 443, "api.example.com")


def record() -> FlowRecord:
    return FlowRecord(id=7, time=0, protocol="tcp", address="192.0.2.1", port=443, tls="TLSv1.3")


def head(number: int, target: str = "/x?y=1") -> RequestHead:
    return RequestHead(number, "POST", target, "api.example.com", [], "HTTP/1.1")


def test_a_request_and_its_answer() -> None:
    kept, now = record(), iter([100.0, 100.5])
    log = RequestLog(kept, FLOW, lambda: next(now))
    for event in (
        head(1), RequestEnded(1, 10), ResponseHead(1, 200, []), ResponseEnded(1, 20),
        ResponseEnded(1, 99), ResponseHead(5, 500, []),
    ):  # fmt: skip
        log.note(event)
    (request,) = kept.requests
    assert (request["url"], request["status"]) == ("https://api.example.com/x?y=1", 200)
    (entry,) = archive([kept], "1")["log"]["entries"]
    assert entry["time"] == 500.0 and entry["request"]["bodySize"] == 10
    assert entry["response"]["content"]["size"] == 20 and entry["connection"] == "7"


def test_what_was_refused_and_what_is_kept() -> None:
    kept = record()
    log = RequestLog(kept, FLOW)
    for number in range(KEPT + 10):
        log.note(head(number, f"/{number}"))
        log.note(Refused(number, 403, "no", "policy"))
    assert len(kept.requests) == KEPT and kept.requests[-1]["url"].endswith(f"/{KEPT + 9}")
    assert {request["status"] for request in kept.requests} == {403}
    assert archive([], "1")["log"]["entries"] == []
