"""HTTP/1.1 between a guest and an upstream. Each test is a row of docs/security/http.md."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest

from sandlot.network.http.events import (
    Aborted,
    Refused,
    RequestEnded,
    RequestHead,
    ResponseEnded,
    ResponseHead,
    SecretSeen,
    Upgraded,
)
from sandlot.network.http.h1 import BUFFERED_BODY, MAX_WAITING, Http1Exchange
from tests.unit.network.http.wire import MARK, VALUE, Wire, place

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SIZES = pytest.mark.parametrize("size", [1, 3, 50, 100_000])


def wire(*, hold: bool = False, **more: Any) -> Wire:
    return Wire(Http1Exchange(place(**more)), hold=hold)


def post(body: bytes, *fields: bytes, length: bool = True) -> bytes:
    said = [b"Content-Length: %d" % len(body)] if length else []
    head = b"\r\n".join([b"POST /p HTTP/1.1", b"Host: a.example", *said, *fields])
    return head + b"\r\n\r\n" + body


def refused(one: Wire) -> Refused:
    (event,) = one.told(Refused)
    assert isinstance(event, Refused)
    return event


@SIZES
def test_a_key_goes_out_and_its_placeholder_does_not(size: int) -> None:
    one = wire()
    sent = one.send(
        b"GET /x?q=1 HTTP/1.1\r\nhost:a.example\r\nAuthorization: Bearer " + MARK + b"\r\n\r\n",
        size,
    )
    assert sent == (
        b"GET /x?q=1 HTTP/1.1\r\nhost: a.example\r\nAuthorization: Bearer " + VALUE + b"\r\n\r\n"
    )
    assert one.answer(OK, size) == OK
    head, seen, ended, answered, done = one.events
    assert isinstance(head, RequestHead) and (b"Authorization", b"Bearer " + MARK) in head.fields
    assert isinstance(seen, SecretSeen) and seen.use.replaced and seen.use.secret == "KEY"
    assert isinstance(ended, RequestEnded) and isinstance(answered, ResponseHead)
    assert isinstance(done, ResponseEnded) and done.size == 2
    assert not one.exchange.guest_ended and not one.exchange.upstream_ended


def test_basic_authentication() -> None:
    token = base64.b64encode(b"user:" + MARK)
    sent = wire().send(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Basic " + token + b"\r\n\r\n"
    )
    assert base64.b64encode(b"user:" + VALUE) in sent and token not in sent


@SIZES
def test_bodies_pass_as_they_are(size: int) -> None:
    one = wire()
    body = b"a prompt with " + MARK
    assert one.send(post(body), size) == post(body).replace(
        b"POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length",
        b"POST /p HTTP/1.1\r\nHost: a.example\r\nContent-Length",
    )
    assert not one.told(SecretSeen)
    one.answer(OK)
    chunked = post(
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"Transfer-Encoding: chunked",
        length=False,
    )
    sent = one.send(chunked, size)
    assert b"x=y" not in sent and sent.endswith(b"0\r\nX-Sum: 1\r\n\r\n")


@SIZES
def test_a_body_that_is_named_with_another_length(size: int) -> None:
    one = wire(inject=["credentials", "body"])
    sent = one.send(post(b"<" + MARK + b">"), size)
    body = b"<" + VALUE + b">"
    assert sent.endswith(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert sent.lower().count(b"content-length") == 1
    one.answer(OK)
    sent = one.send(
        post(b"1E\r\n" + MARK + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", length=False), size
    )
    assert unchunked(sent) == VALUE


def unchunked(message: bytes) -> bytes:
    _, _, rest = message.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def test_a_long_body_or_one_that_is_waited_for_is_chunked() -> None:
    one = wire(inject="body")
    sent = one.send(post(b"x" * BUFFERED_BODY + MARK), 10_000)
    assert b"Transfer-Encoding: chunked" in sent and b"Content-Length" not in sent
    assert unchunked(sent) == b"x" * BUFFERED_BODY + VALUE
    one.answer(OK)
    head, _, body = post(MARK, b"Expect: 100-continue").partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in one.send(head + b"\r\n\r\n")
    assert one.answer(b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert VALUE in one.send(body)
    assert one.answer(OK) == OK


def test_equal_lengths_keep_the_length() -> None:
    value = b"v" * len(MARK)
    one = wire(inject="body", value=value)
    head, _, _ = post(MARK).partition(b"\r\n\r\n")
    assert one.send(head + b"\r\n\r\n") == head + b"\r\n\r\n"  # at once
    assert one.send(MARK) == value


def test_gzip_in_a_body() -> None:
    one = wire(inject="body")
    sent = one.send(post(gzip.compress(MARK), b"Content-Encoding: gzip"), 11)
    assert gzip.decompress(sent.partition(b"\r\n\r\n")[2]) == VALUE


def test_100_continue_and_other_expectations() -> None:
    one = wire()
    head = (
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert one.send(head) == head
    assert one.answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").startswith(b"HTTP/1.1 103")
    assert one.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert one.send(b"hi") == b"hi"
    assert one.answer(OK) == OK and not one.over
    one = wire()
    assert one.send(head.replace(b"100-continue", b"200-maybe")) == b""
    assert refused(one).status == 417


@SIZES
def test_pipelining_is_one_after_the_other(size: int) -> None:
    one = wire()
    assert one.send(GET + GET + post(b"hi"), size) == GET
    assert one.answer(OK) == OK
    assert one.upstream == GET + GET
    one.answer(OK)
    assert one.upstream == GET + GET + post(b"hi")
    one.answer(OK)
    assert len(one.told(ResponseEnded)) == 3 and not one.over


def test_what_waits_is_bounded() -> None:
    one = wire()
    one.send(GET)
    one.send(b"x" * MAX_WAITING)
    assert not one.exchange.wants_guest
    one = wire(hold=True)
    one.send(GET)
    assert one.exchange.wants_guest


def test_smuggled_requests_are_bodies_or_refused() -> None:
    """The second request of CL.TE and TE.CL attacks never gets to the upstream."""
    evil = b"GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n"
    for fields in (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % (5 + len(evil)),
        b"Transfer-Encoding: chunked\r\nContent-Length: 4",
        b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 4",
        b"Content-Length: 0\r\nContent-Length: 40",
        b"Transfer-Encoding : chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: y\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
    ):
        one = wire()
        data = b"POST / HTTP/1.1\r\nHost: a.example\r\n" + fields + b"\r\n\r\n0\r\n\r\n" + evil
        assert one.send(data) == b"", fields
        assert refused(one).blame == "guest" and one.over
        assert one.guest.startswith(b"HTTP/1.1 ") and b"Connection: close" in one.guest
        assert one.send(evil) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: b.example", 421),
        (b"GET / HTTP/1.1\r\nHost: a.example:8443", 421),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nhost: b.example", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.0", 400),
        (b"GET https://a.example/ HTTP/1.1\r\nHost: a.example", 400),
        (b"GET https://b.example/ HTTP/1.1\r\nHost: a.example", 400),
        (b"CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443", 405),
        (b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a.example", 405),
        (b"PRI * HTTP/2.0", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close, X-Auth", 400),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nX: a\rb", 400),
    ],
)  # fmt: skip
def test_requests_that_are_refused(head: bytes, status: int) -> None:
    one = wire()
    assert one.send(head + b"\r\n\r\n") == b""
    assert refused(one).status == status and one.over
    assert one.guest.startswith(b"HTTP/1.1 %d " % status) and b"sandlot: " in one.guest


@SIZES
def test_a_web_socket_becomes_a_relay(size: int) -> None:
    one = wire()
    ask = (b"GET /ws HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer %b\r\n"
           b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\n\r\n")  # fmt: skip
    assert one.send(ask.replace(b"%b", MARK), size) == ask.replace(b"%b", VALUE)
    one.send(b"early")
    yes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert one.answer(yes + b"\x81\x02hi", size) == yes + b"\x81\x02hi"
    assert one.upstream.endswith(b"early") and one.told(Upgraded)
    assert one.send(b"\x00" + MARK) == b"\x00" + MARK  # nothing is replaced in it
    one.took(one.exchange.guest_closed())
    assert one.exchange.upstream_ended and not one.exchange.guest_ended
    assert one.answer(b"bye") == b"bye"
    one.took(one.exchange.upstream_closed(clean=True))
    assert one.over


UPGRADE = (
    GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@SIZES
def test_echoes_in_the_frames_of_a_web_socket_are_masked(size: int) -> None:
    one = wire(mask_echo=True)
    assert b"Sec-WebSocket-Extensions" not in one.send(UPGRADE)
    said = b"you sent " + VALUE
    got = one.answer(SWITCHED + bytes([0x81, len(said)]) + said, size)
    assert got.endswith(MARK) and VALUE not in got  # in one frame, or in several
    assert one.answer(b"\x82\x02hi") == b"\x82\x02hi"
    one.answer(b"\xff\x00")  # no frame: what it hides cannot be known
    assert one.exchange.abort_guest and one.over


def test_extensions_of_a_web_socket_that_nobody_asked_for() -> None:
    one = wire(mask_echo=True)
    one.send(UPGRADE)
    got = one.answer(SWITCHED.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n"))
    assert got.startswith(b"HTTP/1.1 502 ")
    one = wire()  # without masking they are the two ends' own matter
    assert b"permessage-deflate" in one.send(UPGRADE)


def test_h2c_and_other_upgrades_are_not_passed_on() -> None:
    one = wire()
    sent = one.send(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade, HTTP2-Settings, keep-alive\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    )
    assert b"pgrade" not in sent and b"HTTP2" not in sent and b"Connection: keep-alive" in sent
    one.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    assert refused(one).blame == "upstream" and b"101" not in one.guest
    one = wire()
    one.send(GET)
    got = one.answer(
        b"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nAlt-Svc: h3\r\nContent-Length: 0\r\n\r\n"
    )
    assert got == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_a_guest_that_closes() -> None:
    one = wire()
    one.send(post(b"hello")[:-2])
    one.took(one.exchange.guest_closed())
    assert one.over and one.told(Aborted)
    one = wire()
    one.send(GET)
    one.took(one.exchange.guest_closed())
    assert not one.over and one.answer(OK) == OK and one.over
    one = wire()
    one.took(one.exchange.guest_closed())
    assert one.over and not one.events


def test_close_and_http_1_0() -> None:
    for ask, answer in (
        (
            GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            OK.replace(b"OK", b"OK\r\nConnection: close"),
        ),
        (GET, OK.replace(b"OK", b"OK\r\nConnection: close")),
        (GET.replace(b"1.1", b"1.0"), OK),
        (GET, OK.replace(b"1.1", b"1.0")),
    ):
        one = wire()
        assert one.send(ask) == ask
        assert one.answer(answer) == answer and one.over and not one.exchange.abort_guest


def test_an_answer_before_the_request_is_complete() -> None:
    one = wire()
    one.send(post(b"x" * 100)[:-50])
    assert one.answer(OK) == OK and one.over


def test_a_held_request_is_refused_by_a_hook() -> None:
    one = wire(hold=True)
    assert one.send(GET) == b""
    one.took(one.exchange.refuse(1, "not allowed here", hint="allow it"))
    assert refused(one).hint == "allow it" and refused(one).blame == "policy"
    assert b"403" in one.guest and b"not allowed here" in one.guest and one.over
    assert one.exchange.proceed(1) == [] and one.exchange.refuse(7, "x") == []


def test_a_secret_that_refuses_misuse() -> None:
    one = wire(on_misuse="refuse", host="b.example")
    ask = b"GET /?q=" + MARK + b" HTTP/1.1\r\nHost: b.example\r\n\r\n"
    assert one.send(ask) == b""
    assert refused(one).blame == "policy" and refused(one).status == 403
    assert len(one.told(SecretSeen)) == 1
    one = wire(on_misuse="refuse", host="b.example")
    body = b"x" * 100 + MARK
    sent = one.send(post(body).replace(b"a.example", b"b.example"), 13)
    assert MARK not in sent and refused(one).blame == "policy" and one.over


def test_another_host_gets_the_placeholder() -> None:
    one = wire(host="b.example")
    ask = b"GET / HTTP/1.1\r\nHost: b.example\r\nAuthorization: Bearer " + MARK + b"\r\n\r\n"
    assert one.send(ask) == ask
    (seen,) = one.told(SecretSeen)
    assert isinstance(seen, SecretSeen) and not seen.use.replaced


def test_plain_http_has_no_values() -> None:
    ask = b"GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer " + MARK + b"\r\n\r\n"
    assert wire(tls=False).send(ask) == ask
    assert VALUE in wire(tls=False, plain_http=True).send(ask)


def test_rotation_between_two_requests() -> None:
    substitution = place()
    one = Wire(Http1Exchange(substitution))
    ask = b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Api-Key: " + MARK + b"\r\n\r\n"
    assert VALUE in one.send(ask)
    one.answer(OK)
    substitution.bound[0].value = b"rotated"
    assert b"X-Api-Key: rotated" in one.send(ask)


def test_a_value_never_splits_a_head() -> None:
    one = wire(value=b"a\r\nX-Evil: 1")
    assert one.send(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Api-Key: " + MARK + b"\r\n\r\n") == b""
    assert refused(one).status == 502 and b"X-Evil" not in one.guest


@SIZES
def test_one_empty_line_before_a_request(size: int) -> None:
    one = wire()
    assert one.send(b"\r\n" + GET, size) == GET
    one.answer(OK)
    assert one.send(b"\r\n" + GET, size) == GET
    one = wire()
    assert one.send(b"\r\n\r\n" + GET, size) == b"" and one.over


def test_a_second_request_that_is_malformed_is_answered() -> None:
    one = wire()
    one.send(GET)
    one.answer(OK)
    one.send(b"GET / HTTP/1.1\r\n\r\n")
    assert one.guest.startswith(OK + b"HTTP/1.1 400") and one.over and not one.exchange.abort_guest
    assert refused(one).id == 2
