"""What upstreams answer in HTTP/1.1. Each test is a row of docs/security/http.md."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http.events import (
    Aborted,
    Refused,
    RequestEnded,
    RequestHead,
    ResponseEnded,
)
from sandlot.network.http.h1 import Http1Exchange
from sandlot.secrets.places import CREDENTIAL_FIELDS
from tests.unit.network.http.test_h1 import GET, OK, SIZES, refused, unchunked, wire
from tests.unit.network.http.wire import MARK, VALUE, Wire, place


def test_interim_answers_without_end() -> None:
    one = wire()
    one.send(GET)
    one.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
    assert refused(one).blame == "upstream" and one.over


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 10 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
def test_answers_that_are_not_passed_on(answer: bytes) -> None:
    one = wire()
    one.send(GET)
    got = one.answer(answer)
    assert refused(one).status == 502 and refused(one).blame == "upstream" and one.over
    assert got.startswith(b"HTTP/1.1 502 ")


def test_an_answer_that_nobody_asked_for() -> None:
    one = wire()
    one.send(GET)
    one.answer(OK + OK)
    assert one.guest == OK and one.told(Aborted) and one.over
    one = wire()
    assert one.answer(OK) == b"" and one.over
    one = wire(hold=True)
    one.send(GET)
    assert one.answer(OK) == b"" and one.over


def test_answers_without_a_body() -> None:
    one = wire()
    one.send(GET.replace(b"GET", b"HEAD"))
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
    assert one.answer(head) == head
    one.send(GET)
    head = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"
    assert one.answer(head) == head
    one.send(GET)
    assert one.answer(OK) == OK and not one.over


@SIZES
def test_chunked_answers_and_trailers(size: int) -> None:
    one = wire()
    one.send(GET)
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"
    got = one.answer(answer, size)
    assert got.endswith(b"0\r\nX: y\r\n\r\n") and len(one.told(ResponseEnded)) == 1
    one.send(GET)
    assert one.answer(OK) == OK


def test_an_answer_until_the_end() -> None:
    one = wire()
    one.send(GET)
    one.answer(b"HTTP/1.1 200 OK\r\n\r\nall ")
    one.answer(b"of it")
    one.took(one.exchange.upstream_closed(clean=True))
    assert one.guest.endswith(b"all of it") and one.over and not one.exchange.abort_guest
    one = wire()
    one.send(GET)
    one.answer(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    one.took(one.exchange.upstream_closed(clean=False))
    assert one.exchange.abort_guest and one.told(Aborted)


def test_an_upstream_that_closes() -> None:
    one = wire()
    one.send(GET)
    one.took(one.exchange.upstream_closed(clean=True))
    assert refused(one).status == 502 and one.guest.startswith(b"HTTP/1.1 502")
    one = wire()
    one.send(GET)
    one.answer(OK)
    one.send(GET)  # the upstream gave up an idle connection: the guest asks again by itself
    one.took(one.exchange.upstream_closed(clean=True))
    assert one.guest == OK and one.over and one.exchange.abort_guest
    one = wire()
    one.send(GET)
    one.answer(OK[:-1])
    one.took(one.exchange.upstream_closed(clean=True))
    assert one.exchange.abort_guest


@SIZES
def test_echoes_are_masked(size: int) -> None:
    one = wire(mask_echo=True)
    sent = one.send(
        GET.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: br\r\nX-Api-Key: " + MARK + b"\r\n\r\n")
    )
    assert b"Accept-Encoding: identity" in sent and b"br" not in sent
    body = b"you sent " + VALUE
    got = one.answer(
        b"HTTP/1.1 200 "
        + VALUE
        + b"\r\nX: "
        + VALUE
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body,
        size,
    )
    assert VALUE not in got and unchunked(got) == b"you sent " + MARK and b"X: " + MARK in got
    assert not one.over
    one.send(GET)
    one.answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nxxxxx")
    assert refused(one).status == 502


WORDS = st.lists(
    st.sampled_from(
        [GET, b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
         b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n",
         b"GET / HTTP/1.1\r\n", b"POST /p HTTP/1.1\r\n", b"Host: a.example\r\n", b"\r\n", b"\n", b"\r",
         b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
         b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b" ", b"X: y\r\n", b"Upgrade: h2c\r\n",
         b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X-Api-Key: " + MARK + b"\r\n"]
    ),
    max_size=25,
).map(b"".join)  # fmt: skip


def driven(data: bytes, size: int) -> Wire:
    """A guest that sends this, and an upstream that answers each request."""
    one = Wire(Http1Exchange(place(inject=["credentials", "body"])))
    for at in range(0, len(data), size):
        before = len(one.told(ResponseEnded))
        one.send(data[at : at + size])
        for _ in range(100):
            asked = len([event for event in one.events if type(event).__name__ == "RequestEnded"])
            if asked <= len(one.told(ResponseEnded)) or one.over:
                break
            one.answer(OK)
        assert len(one.told(ResponseEnded)) >= before
    return one


def heard(data: bytes) -> list[tuple[str, str, bytes]]:
    """What h11 makes of it: each request's method, target and body, as far as it came."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    seen: list[tuple[str, str, bytes]] = []
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            return seen
        if event is h11.PAUSED:
            server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            server.send(h11.EndOfMessage())
            if server.our_state is h11.MUST_CLOSE:
                return seen
            server.start_next_cycle()
        elif isinstance(event, h11.Request):
            seen.append((event.method.decode(), event.target.decode(), b""))
        elif isinstance(event, h11.Data):
            method, target, body = seen[-1]
            seen[-1] = method, target, body + bytes(event.data)


@given(WORDS, st.integers(1, 40))
def test_others_see_the_same_requests(data: bytes, size: int) -> None:
    """Whatever a guest sends: the upstream reads as many requests as we told of, and no more."""
    one = driven(data, size)
    seen = [request[:2] for request in heard(one.upstream)]
    told = [(event.method, event.target) for event in one.events if isinstance(event, RequestHead)]
    assert seen == told[: len(seen)] and len(told) - len(seen) <= 1


HIDING = st.lists(
    st.sampled_from(
        [MARK, MARK, b"Bearer ", b"Basic ", b"Authorization: ", b"X-Api-Key: ", b"X: ", b"Cookie: ",
         b"\r\n", b"\r\n ", b" ", b"\t", b"GET /?", b" HTTP/1.1\r\nHost: a.example\r\n", b"\r\n\r\n",
         b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 40\r\n\r\n", b"%73k", b":", b"=", b"&"]
    ),
    max_size=20,
).map(b"".join)  # fmt: skip


@given(HIDING, st.integers(1, 60))
def test_values_go_into_credential_fields_only(data: bytes, size: int) -> None:
    """Whatever a guest makes of the placeholder, others find the value where it may be."""
    one = Wire(Http1Exchange(place()))
    for at in range(0, len(data), size):
        one.send(data[at : at + size])
        if one.told(RequestEnded) and not one.over:
            one.answer(b"HTTP/1.1 204 No Content\r\n\r\n" if one.exchange.wants_guest else b"")
    assert VALUE not in one.guest
    found = one.upstream.count(VALUE)
    for line in one.upstream.split(b"\r\n"):
        name, colon, _ = line.partition(b":")
        if colon and name.decode("latin-1").lower() in CREDENTIAL_FIELDS:
            found -= line.count(VALUE)
    assert found == 0


@given(WORDS)
def test_cuts_do_not_matter(data: bytes) -> None:
    """Of a request that is refused in its body more or less may have gone on, never all."""

    def outcome(size: int) -> object:
        one = driven(data, size)
        requests = heard(one.upstream)
        if one.told(Refused):
            method, target, _ = requests[-1] if requests else ("", "", b"")
            requests[-1:] = [(method, target, b"")]
        return requests, one.over, len(one.told(Refused))

    assert outcome(1) == outcome(3) == outcome(1000)


@given(st.binary(max_size=100), st.binary(max_size=100), st.booleans())
def test_any_bytes_from_both_sides(guest: bytes, upstream: bytes, asked: bool) -> None:
    one = wire(mask_echo=True)
    if asked:
        one.send(GET)
    one.answer(upstream)
    one.send(guest)
    one.took(one.exchange.upstream_closed(clean=True))
    one.took(one.exchange.guest_closed())
    assert one.over
