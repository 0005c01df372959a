"""Requests in records and archives."""

from __future__ import annotations

import json
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
    kept, now = record(), iter([100.0, 100.125, 100.25, 100.5, 100.75])
    log = RequestLog(kept, FLOW, lambda: next(now))
    for event in (
        head(1), RequestEnded(1, 10), ResponseHead(1, 200, []), ResponseEnded(1, 20),
        ResponseEnded(1, 99), ResponseHead(5, 500, []),
    ):  # fmt: skip
        log.note(event)
    (request,) = kept.requests
    assert (request["url"], request["status"]) == ("https://api.example.com/x?y=1", 200)
    (entry,) = archive([kept], "1")["log"]["entries"]
    assert entry["time"] == 500.0
    assert entry["timings"] == {"send": 125.0, "wait": 125.0, "receive": 250.0}
    assert entry["request"]["queryString"] == [{"name": "y", "value": "1"}]
    assert entry["request"]["postData"]["comment"].startswith("10 bytes")
    assert entry["request"]["bodySize"] == 10
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


def test_fields_are_kept_without_what_carries_credentials() -> None:
    kept = record()
    log = RequestLog(kept, FLOW, redact=lambda text: text.replace(b"the-value", b"PLACEHOLDER"))
    asked = [
        (b"Authorization", b"Bearer PLACEHOLDER"), (b"Cookie", b"a=b"), (b"X-Api-Key", b"mine"),
        (b"Content-Type", b"text/plain"), (b"X-Long", b"x" * 3000), (b"Late", b"left out"),
    ]  # fmt: skip
    log.note(RequestHead(1, "POST", "/?a=%20&b", "api.example.com", asked, "HTTP/1.1"))
    log.note(RequestEnded(1, 3))
    said = [
        (b"Content-Type", b"text/html"), (b"Location", b"/the-value"), (b"Set-Cookie", b"the-value"),
        (b"X-Echo", b"eulav-eht"),
    ]  # fmt: skip
    log.note(ResponseHead(1, 302, said))
    log.note(ResponseEnded(1, 0))
    text = json.dumps([kept.to_json(), archive([kept], "1")])
    assert "the-value" not in text and "eulav" not in text and "mine" not in text
    (entry,) = archive([kept], "1")["log"]["entries"]
    assert entry["request"]["headers"] == [
        {"name": "Authorization", "value": "****"}, {"name": "Cookie", "value": "****"},
        {"name": "X-Api-Key", "value": "****"}, {"name": "Content-Type", "value": "text/plain"},
    ]  # fmt: skip
    assert entry["request"]["queryString"] == [
        {"name": "a", "value": " "}, {"name": "b", "value": ""},
    ]  # fmt: skip
    assert entry["request"]["postData"]["mimeType"] == "text/plain"
    assert entry["response"]["redirectURL"] == "/PLACEHOLDER"
    assert entry["response"]["content"]["mimeType"] == "text/html"


def test_records_of_earlier_versions_make_an_archive_too() -> None:
    kept = record()
    kept.requests.append(
        {"started": 1.0, "method": "GET", "url": "https://[/?", "version": "HTTP/2", "sent": 0,
         "status": 200, "received": 1, "ended": 2.0}
    )  # fmt: skip
    (entry,) = archive([kept], "1")["log"]["entries"]
    assert entry["timings"] == {"send": 0.0, "wait": 1000.0, "receive": 0.0}
    assert "postData" not in entry["request"]
