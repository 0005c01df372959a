"""HTTP/2 between a guest and an upstream. Each test is a row of docs/security/http.md."""

from __future__ import annotations

import base64
import gzip
import os

import h2.errors
import h2.events
import h2.settings
import hpack
import pytest

from sandlot.network.http.events import (
    Aborted,
    Refused,
    RequestEnded,
    RequestHead,
    ResponseEnded,
    SecretSeen,
)
from tests.unit.network.http.pair import Pair, ask
from tests.unit.network.http.wire import MARK, VALUE

REQUEST = h2.events.RequestReceived
RESPONSE = h2.events.ResponseReceived


def refused(pair: Pair) -> Refused:
    (event,) = pair.wire.told(Refused)
    assert isinstance(event, Refused)
    return event


def test_a_key_goes_out_and_its_placeholder_does_not() -> None:
    pair = Pair()
    stream = pair.request(ask(b"/x?q=1", b"GET", (b"authorization", b"Bearer " + MARK)))
    assert pair.fields(pair.upstream_saw, REQUEST) == ask(
        b"/x?q=1", b"GET", (b"authorization", b"Bearer " + VALUE)
    )
    pair.reply(1, b"hello", (b"x", b"y"))
    assert pair.fields(pair.guest_saw, RESPONSE) == [(b":status", b"200"), (b"x", b"y")]
    assert pair.data(pair.guest_saw, stream) == b"hello"
    kinds = [type(event) for event in pair.wire.events]
    assert kinds[:3] == [RequestHead, SecretSeen, RequestEnded] and kinds[-1] is ResponseEnded
    head = pair.wire.events[0]
    assert isinstance(head, RequestHead) and (b"authorization", b"Bearer " + MARK) in head.fields
    assert not pair.wire.over and not pair.wire.exchange._streams  # type: ignore[attr-defined]


def test_values_are_in_no_table() -> None:
    """Fields with a value are sent as never to be indexed, also when asked again."""
    pair = Pair(inject=["credentials", "query:key"])
    for _ in range(3):
        pair.request(ask(b"/?key=" + MARK, b"GET", (b"x-api-key", MARK)))
    table = pair.wire.exchange._upstream._encoder.header_table  # type: ignore[attr-defined]
    assert not any(VALUE in value for _, value in table.dynamic_entries)
    found = [e for e in pair.upstream_saw if isinstance(e, h2.events.RequestReceived)][-1].headers
    hidden = [f for f in found or () if isinstance(f, hpack.NeverIndexedHeaderTuple)]
    assert {bytes(f[0]) for f in hidden} == {b"x-api-key", b":path"}


def test_basic_authentication() -> None:
    pair = Pair()
    token = base64.b64encode(b"user:" + MARK)
    pair.request(ask(b"/", b"GET", (b"authorization", b"Basic " + token)))
    sent = dict(pair.fields(pair.upstream_saw, REQUEST))[b"authorization"]
    assert sent == b"Basic " + base64.b64encode(b"user:" + VALUE)


def test_large_bodies_both_ways() -> None:
    pair = Pair()
    body = os.urandom(2_000_000)
    stream = pair.request(ask(b"/", b"POST", (b"content-length", b"2000000")), body)
    assert pair.data(pair.upstream_saw, 1) == body and pair.ended(pair.upstream_saw) == [1]
    pair.reply(1, body)
    assert pair.data(pair.guest_saw, stream) == body and pair.ended(pair.guest_saw) == [stream]


@pytest.mark.parametrize("value", [b"short", b"longer" * 30, b"v" * len(MARK)])
def test_a_body_that_is_named(value: bytes) -> None:
    pair = Pair(inject="body", value=value)
    body = (MARK + b"-" * 100) * 5000  # over any window, and split over frames
    length = (b"content-length", b"%d" % len(body))
    pair.request(ask(b"/", b"POST", length), body)
    assert pair.data(pair.upstream_saw, 1) == body.replace(MARK, value)
    assert pair.ended(pair.upstream_saw) == [1]
    sent = pair.fields(pair.upstream_saw, REQUEST)
    assert (length in sent) == (len(value) == len(MARK))


def test_gzip_in_a_body() -> None:
    pair = Pair(inject="body")
    pair.request(ask(b"/", b"POST", (b"content-encoding", b"gzip")), gzip.compress(MARK * 9))
    assert gzip.decompress(pair.data(pair.upstream_saw, 1)) == VALUE * 9


def test_grpc_trailers() -> None:
    pair = Pair()
    stream = pair.guest.get_next_available_stream_id()
    pair.guest.send_headers(stream, ask(b"/svc/Do", b"POST", (b"te", b"trailers")))
    pair.say(pair.guest, stream, b"message", end_of_it=False)
    pair.reply(1, b"answer", end=False)
    assert pair.data(pair.guest_saw, stream) == b"answer"  # at once, both ways
    pair.guest.send_headers(stream, [(b"x-checksum", b"1")], end_stream=True)
    pair.upstream.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    pair.pump()
    assert pair.fields(pair.upstream_saw, h2.events.TrailersReceived) == [(b"x-checksum", b"1")]
    assert pair.fields(pair.guest_saw, h2.events.TrailersReceived) == [(b"grpc-status", b"0")]
    assert pair.ended(pair.guest_saw) == [stream]


def test_many_streams_and_more_than_the_upstream_takes() -> None:
    pair = Pair()
    for _ in range(100):
        pair.request(ask())
    for number in range(1, 200, 2):
        pair.reply(number, b"%d" % number)
    assert [pair.data(pair.guest_saw, n) for n in range(1, 200, 2)] == [
        b"%d" % n for n in range(1, 200, 2)
    ]
    pair.upstream.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    pair.pump()
    assert pair.guest.remote_settings.max_concurrent_streams == 2
    pair.guest.remote_settings.max_concurrent_streams = 100
    pair.guest.remote_settings.acknowledge()
    for _ in range(3):
        pair.request(ask())
    assert pair.resets(pair.guest_saw) == [(205, h2.errors.ErrorCodes.REFUSED_STREAM)]
    assert not pair.wire.over


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([*ask()[:2], (b":authority", b"b.example"), (b":path", b"/")], 421),
        ([*ask(), (b"host", b"b.example")], 421),
        ([*ask()[:2], (b":authority", b"a.example:8443"), (b":path", b"/")], 421),
        ([*ask()[:2], (b":path", b"/")], 400),
        (ask(b"https://a.example/"), 400),
        (ask(b"/a b"), 400),
        (ask(b"/", b"TRACE"), 405),
        (ask(b"/", b"GET", (b"transfer-encoding", b"chunked")), 400),
        (ask(b"/", b"GET", (b"connection", b"close")), 400),
        (ask(b"/", b"GET", (b"upgrade", b"h2c")), 400),
        (ask(b"/", b"GET", (b"te", b"chunked")), 400),
        (ask(b"/", b"GET", (b"x", b"a\r\nevil: 1")), 400),
        (ask(b"/", b"GET", (b"x", b"a\x00")), 400),
        (ask(b"/", b"GET", (b"x", b" blank")), 400),
        (ask(b"/", b"GET", (b"x\r\ny", b"1")), 400),
        (ask(b"/", b"GET", (b"X", b"1")), 400),
        (ask(b"/", b"GET", (b"x y", b"1")), 400),
        (ask(b"/", b"GET", (b"", b"1")), 400),
        (ask(b"/", b"GET", (b"content-length", b"5")), 400),
        (ask(b"/", b"GET", (b"content-length", b"0"), (b"content-length", b"0")), 400),
        (ask(b"/", b"GET", (b":path", b"/b")), 400),
        ([*ask(), (b":path", b"/b")], 400),
        ([*ask(), (b":protocol", b"websocket")], 400),
        ([(b":method", b"GET"), (b":scheme", b"http"), *ask()[2:]], 400),
        ([(b":method", b"G T"), *ask()[1:]], 400),
        ([(b":method", b"CONNECT"), (b":authority", b"a.example:443")], 405),
    ],
)
def test_requests_that_are_refused(fields: list[tuple[bytes, bytes]], status: int) -> None:
    pair = Pair(loose=True)
    pair.request(fields)
    assert refused(pair).status == status and refused(pair).blame == "guest"
    assert not [e for e in pair.upstream_saw if isinstance(e, REQUEST)]
    assert pair.fields(pair.guest_saw, RESPONSE)[0] == (b":status", b"%d" % status)
    assert pair.ended(pair.guest_saw) == [1]
    pair.request(ask(b"/fine"))  # the others go on
    assert pair.fields(pair.upstream_saw, REQUEST) == ask(b"/fine")


@pytest.mark.parametrize("size", [4, 6])
def test_lengths_are_held_to(size: int) -> None:
    """A server behind the upstream that speaks HTTP/1.1 never gets a length that is not true."""
    pair = Pair(loose=True)
    stream = pair.guest.get_next_available_stream_id()
    pair.guest.send_headers(stream, ask(b"/", b"POST", (b"content-length", b"5")))
    pair.pump()
    pair.guest.send_data(stream, b"x" * size, end_stream=True)
    pair.pump()
    assert "length" in refused(pair).reason
    assert pair.ended(pair.upstream_saw) == [] and pair.resets(pair.upstream_saw)


def test_trailers_that_belong_in_the_head() -> None:
    pair = Pair(loose=True)
    stream = pair.guest.get_next_available_stream_id()
    pair.guest.send_headers(stream, ask(b"/", b"POST"))
    pair.pump()
    pair.guest.send_headers(stream, [(b"authorization", b"x")], end_stream=True)
    pair.pump()
    assert "trailer" in refused(pair).reason and pair.resets(pair.upstream_saw)


def test_resets_and_early_answers() -> None:
    pair = Pair()
    one, two = pair.request(ask()), pair.request(ask())
    pair.guest.reset_stream(one, h2.errors.ErrorCodes.CANCEL)
    pair.pump()
    assert pair.resets(pair.upstream_saw) == [(1, h2.errors.ErrorCodes.CANCEL)]
    pair.upstream.reset_stream(3, h2.errors.ErrorCodes.REFUSED_STREAM)
    pair.pump()
    assert pair.resets(pair.guest_saw) == [(two, h2.errors.ErrorCodes.REFUSED_STREAM)]
    assert len(pair.wire.told(Aborted)) == 2
    stream = pair.guest.get_next_available_stream_id()
    pair.guest.send_headers(stream, ask(b"/", b"POST"))
    pair.say(pair.guest, stream, b"part", end_of_it=False)
    pair.reply(5, b"too large")
    pair.upstream.reset_stream(5, h2.errors.ErrorCodes.NO_ERROR)
    pair.pump()
    assert pair.data(pair.guest_saw, stream) == b"too large"
    assert pair.resets(pair.guest_saw)[-1] == (stream, h2.errors.ErrorCodes.NO_ERROR)
    assert not pair.wire.over


def test_the_upstream_leaves() -> None:
    pair = Pair()
    pair.request(ask())
    pair.upstream.close_connection(last_stream_id=1)
    pair.pump()
    gone = [e for e in pair.guest_saw if isinstance(e, h2.events.ConnectionTerminated)]
    assert len(gone) == 1 and not pair.wire.over


def test_the_guest_leaves() -> None:
    pair = Pair()
    pair.guest.close_connection()
    pair.pump()
    assert pair.wire.over
    pair = Pair()
    pair.request(ask())
    pair.wire.took(pair.wire.exchange.guest_closed())
    assert pair.wire.over and pair.wire.told(Aborted)


def test_an_upstream_that_closes() -> None:
    pair = Pair()
    pair.request(ask())
    pair.request(ask())
    pair.reply(1, b"half", end=False)
    pair.wire.took(pair.wire.exchange.upstream_closed(clean=True))
    pair.pump()
    assert refused(pair).status == 502 and refused(pair).id == 3
    assert pair.resets(pair.guest_saw) == [(1, h2.errors.ErrorCodes.INTERNAL_ERROR)]
    assert pair.wire.over


def test_held_requests() -> None:
    pair = Pair(hold=True)
    one = pair.request(ask(b"/one", b"POST"), b"body")
    two = pair.request(ask(b"/two"))
    assert not pair.upstream_saw or not [e for e in pair.upstream_saw if isinstance(e, REQUEST)]
    pair.wire.took(pair.wire.exchange.proceed(two))
    pair.wire.took(pair.wire.exchange.proceed(one))
    pair.pump()
    assert pair.fields(pair.upstream_saw, REQUEST, 0) == ask(b"/two")
    assert pair.data(pair.upstream_saw, 3) == b"body" and pair.ended(pair.upstream_saw) == [1, 3]
    three = pair.request(ask(b"/three", b"POST"), b"x")
    pair.wire.took(pair.wire.exchange.refuse(three, "not allowed here"))
    pair.pump()
    assert refused(pair).blame == "policy" and b"not allowed" in pair.data(pair.guest_saw, three)
    assert pair.wire.exchange.proceed(three) == []


def test_what_waits_for_a_decision_is_bounded() -> None:
    pair = Pair(hold=True)
    stream = pair.guest.get_next_available_stream_id()
    pair.guest.send_headers(stream, ask(b"/", b"POST"))
    pair.pump()
    with pytest.raises(AssertionError, match="stuck"):
        pair.say(pair.guest, stream, b"x" * 10_000_000, end_of_it=False)


def test_a_guest_that_does_not_take_its_answer() -> None:
    """Nothing piles up here: the upstream may send no more than the guest takes."""
    pair = Pair()
    pair.flow = False
    pair.request(ask())
    with pytest.raises(AssertionError, match="stuck"):
        pair.reply(1, b"x" * 10_000_000)
    exchange = pair.wire.exchange
    waiting = sum(s.down.queued for s in exchange._streams.values())  # type: ignore[attr-defined]
    assert waiting <= 65535


def test_a_secret_that_refuses_misuse() -> None:
    pair = Pair(on_misuse="refuse")
    pair.request(ask(b"/?q=" + MARK))
    assert refused(pair).blame == "policy" and refused(pair).status == 403
    pair = Pair(on_misuse="refuse")
    pair.request(ask(b"/", b"POST"), b"prompt " + MARK)
    assert MARK not in pair.data(pair.upstream_saw, 1) and pair.resets(pair.upstream_saw)


def test_echoes_are_masked() -> None:
    pair = Pair(mask_echo=True)
    stream = pair.request(ask(b"/", b"GET", (b"x-api-key", MARK), (b"accept-encoding", b"br")))
    assert (b"accept-encoding", b"identity") in pair.fields(pair.upstream_saw, REQUEST)
    body = b"-" * 16380 + VALUE  # split over two frames
    pair.reply(1, body, (b"content-length", b"%d" % len(body)), (b"x", VALUE), end=False)
    pair.upstream.send_headers(1, [(b"x-sum", VALUE)], end_stream=True)
    pair.pump()
    assert pair.data(pair.guest_saw, stream) == b"-" * 16380 + MARK
    assert pair.fields(pair.guest_saw, RESPONSE) == [(b":status", b"200"), (b"x", MARK)]
    assert pair.fields(pair.guest_saw, h2.events.TrailersReceived) == [(b"x-sum", MARK)]
    pair.request(ask())
    pair.reply(3, b"xxxx", (b"content-encoding", b"br"))
    assert refused(pair).status == 502


def test_rotation_between_two_requests() -> None:
    pair = Pair()
    key = (b"x-api-key", MARK)
    pair.request(ask(b"/", b"GET", key))
    pair.place.bound[0].value = b"rotated"
    pair.request(ask(b"/", b"GET", key))
    assert (b"x-api-key", b"rotated") in pair.fields(pair.upstream_saw, REQUEST)
    assert (b"x-api-key", VALUE) in pair.fields(pair.upstream_saw, REQUEST, 0)


def test_interim_answers_and_alt_svc() -> None:
    pair = Pair()
    pair.request(ask())
    pair.upstream.send_headers(1, [(b":status", b"103"), (b"link", b"x")])
    pair.reply(1, b"ok", (b"alt-svc", b"h3=':443'"))
    early = pair.fields(pair.guest_saw, h2.events.InformationalResponseReceived)
    assert early == [(b":status", b"103"), (b"link", b"x")]
    assert pair.fields(pair.guest_saw, RESPONSE) == [(b":status", b"200")]
