"""What one side of HTTP/2 may do to us. Each test is a row of docs/security/http.md."""

from __future__ import annotations

import struct
from collections.abc import Callable

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http import frames, leg
from sandlot.network.http.events import Aborted, Outbox, Refused
from sandlot.network.http.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    Code,
    ConnectionFault,
    Setting,
    Type,
    frame,
)
from sandlot.network.http.h2 import Http2Exchange
from sandlot.network.http.leg import Leg
from tests.unit.network.http.pair import ask
from tests.unit.network.http.wire import MARK, Wire, place

HELLO = PREFACE + frames.settings({})
BLOCK = hpack.Encoder().encode(ask())


def started(*, upstream: bool = True) -> Wire:
    wire = Wire(Http2Exchange(place()))
    wire.send(HELLO)
    if upstream:
        wire.answer(frames.settings({}))
    return wire


def headers(stream: int, flags: int = END_HEADERS | END_STREAM, block: bytes = BLOCK) -> bytes:
    return frame(Type.HEADERS, flags, stream, block)


def code_of(wire: Wire) -> int:
    """The code of the goodbye that the guest got."""
    kinds = {}
    for kind, _, _, payload in frames.FrameReader(preface=False).feed(wire.guest):
        kinds[kind] = bytes(payload)
    return int(struct.unpack(">II", kinds[Type.GOAWAY][:8])[1])


def size(value: int) -> bytes:
    return struct.pack(">I", value)


ATTACKS: dict[str, tuple[Callable[[], bytes], Code]] = {
    "no preface": (lambda: b"", Code.PROTOCOL_ERROR),
    "CONTINUATION without end": (
        lambda: headers(1, 0) + frame(Type.CONTINUATION, 0, 1, b"") * 1000, Code.ENHANCE_YOUR_CALM),
    "CONTINUATION too large": (
        lambda: headers(1, 0) + frame(Type.CONTINUATION, 0, 1, bytes(16384)) * 5,
        Code.ENHANCE_YOUR_CALM),
    "CONTINUATION alone": (lambda: frame(Type.CONTINUATION, 4, 1, BLOCK), Code.PROTOCOL_ERROR),
    "CONTINUATION of another": (
        lambda: headers(1, 0) + frame(Type.CONTINUATION, 4, 3, b""), Code.PROTOCOL_ERROR),
    "a block interrupted": (lambda: headers(1, 0) + headers(3), Code.PROTOCOL_ERROR),
    "a header bomb": (
        lambda: headers(1, END_HEADERS, BLOCK + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000
                        + b"\xbe" * 12_000), Code.ENHANCE_YOUR_CALM),
    "too many fields": (
        lambda: headers(1, END_HEADERS, BLOCK + b"\x00\x01x\x01y" * 400), Code.ENHANCE_YOUR_CALM),
    "a table too large": (
        lambda: headers(1, block=b"\x3f\xe1\xff\x7f" + BLOCK), Code.COMPRESSION_ERROR),
    "an index that is not there": (lambda: headers(1, block=b"\xff\x7f"), Code.COMPRESSION_ERROR),
    "a number without end": (lambda: headers(1, block=b"\xff" * 100), Code.COMPRESSION_ERROR),
    "half a string": (lambda: headers(1, block=b"\x00\x05ab"), Code.COMPRESSION_ERROR),
    "bad Huffman": (lambda: headers(1, block=b"\x00\x84\xff\xff\xff\xff"), Code.COMPRESSION_ERROR),
    "a frame too long": (lambda: frame(Type.DATA, 0, 1, bytes(16385)), Code.FRAME_SIZE_ERROR),
    "an even stream": (lambda: headers(2), Code.PROTOCOL_ERROR),
    "stream 0": (lambda: headers(0), Code.PROTOCOL_ERROR),
    "data of stream 0": (lambda: frame(Type.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of no stream": (lambda: frame(Type.DATA, 0, 5, b"x"), Code.PROTOCOL_ERROR),
    "data after the end": (
        lambda: headers(1) + frame(Type.DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    "fields after the end": (lambda: headers(1) + headers(1), Code.PROTOCOL_ERROR),
    "a window of nothing": (lambda: frame(Type.WINDOW_UPDATE, 0, 0, size(0)),
                            Code.FLOW_CONTROL_ERROR),
    "a window too large": (lambda: frame(Type.WINDOW_UPDATE, 0, 0, size(2**31 - 1)),
                           Code.FLOW_CONTROL_ERROR),
    "a stream's window too large": (
        lambda: headers(1) + frame(Type.WINDOW_UPDATE, 0, 1, size(2**31 - 1)),
        Code.FLOW_CONTROL_ERROR),
    "settings of a window": (
        lambda: frames.settings({Setting.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
    "settings that overflow": (
        lambda: headers(1) + frame(Type.WINDOW_UPDATE, 0, 1, size(2**31 - 65536))
        + frames.settings({Setting.INITIAL_WINDOW_SIZE: 70_000}), Code.FLOW_CONTROL_ERROR),
    "settings of a frame": (
        lambda: frames.settings({Setting.MAX_FRAME_SIZE: 1}), Code.PROTOCOL_ERROR),
    "settings of push": (lambda: frames.settings({Setting.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "many settings": (
        lambda: frame(Type.SETTINGS, 0, 0, struct.pack(">HI", 99, 1) * 100),
        Code.ENHANCE_YOUR_CALM),
    "settings cut": (lambda: frame(Type.SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
    "settings without end": (lambda: frames.settings({}) * 5000, Code.ENHANCE_YOUR_CALM),
    "pings without end": (
        lambda: frame(Type.PING, 0, 0, bytes(8)) * 5000, Code.ENHANCE_YOUR_CALM),
    "priorities without end": (
        lambda: frame(Type.PRIORITY, 0, 1, bytes(5)) * 5000, Code.ENHANCE_YOUR_CALM),
    "empty data without end": (
        lambda: headers(1, END_HEADERS) + frame(Type.DATA, 0, 1) * 5000, Code.ENHANCE_YOUR_CALM),
    "padding without end": (
        lambda: headers(1, END_HEADERS) + frame(Type.DATA, PADDED, 1, b"\x00") * 5000,
        Code.ENHANCE_YOUR_CALM),
    "tiny windows without end": (
        lambda: frame(Type.WINDOW_UPDATE, 0, 0, size(1)) * 5000, Code.ENHANCE_YOUR_CALM),
    "unknown frames without end": (lambda: frame(77, 0, 0) * 5000, Code.ENHANCE_YOUR_CALM),
    "rapid resets": (
        lambda: b"".join(headers(n) + frames.reset(n, 8) for n in range(1, 12_000, 2)),
        Code.ENHANCE_YOUR_CALM),
    "bad requests without end": (
        lambda: b"".join(headers(n, block=b"\x82") for n in range(1, 12_000, 2)),
        Code.ENHANCE_YOUR_CALM),
    "more than the window": (
        lambda: headers(1, END_HEADERS) + frame(Type.DATA, 0, 1, bytes(16384)) * 5,
        Code.FLOW_CONTROL_ERROR),
    "padding over all": (
        lambda: headers(1, END_HEADERS) + frame(Type.DATA, PADDED, 1, b"\x05abc"),
        Code.PROTOCOL_ERROR),
    "a push": (lambda: frame(Type.PUSH_PROMISE, 4, 1, size(2) + BLOCK), Code.PROTOCOL_ERROR),
    "a ping cut": (lambda: frame(Type.PING, 0, 0, b"1"), Code.FRAME_SIZE_ERROR),
    "a reset cut": (lambda: frame(Type.RST_STREAM, 0, 1, b"1"), Code.FRAME_SIZE_ERROR),
    "a reset of no stream": (lambda: frames.reset(9, 8), Code.PROTOCOL_ERROR),
    "a goodbye cut": (lambda: frame(Type.GOAWAY, 0, 0, b"1"), Code.FRAME_SIZE_ERROR),
    "a window cut": (lambda: frame(Type.WINDOW_UPDATE, 0, 0, b"1"), Code.FRAME_SIZE_ERROR),
    "a priority cut": (lambda: frame(Type.PRIORITY, 0, 1, b"1"), Code.FRAME_SIZE_ERROR),
    "a priority too short": (lambda: headers(1, END_HEADERS | 0x20, b"1"), Code.FRAME_SIZE_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_guest_that_breaks_the_rules(name: str) -> None:
    attack, code = ATTACKS[name]
    if name == "no preface":
        wire = Wire(Http2Exchange(place()))
        wire.send(b"GET / HTTP/1.1\r\n\r\n")
    else:
        wire = started()
        wire.send(attack())
    assert wire.over and code_of(wire) == code
    refused = wire.told(Refused)[-1]
    assert isinstance(refused, Refused) and refused.blame == "guest"
    before = wire.upstream
    wire.send(headers(101))
    assert wire.upstream == before  # nothing goes on


@pytest.mark.parametrize(
    "name",
    [n for n in ATTACKS if n.split()[0] in ("settings", "a", "pings", "unknown", "CONTINUATION")
     and "stream" not in n and n not in ("a reset of no stream", "a priority too short",
                                         "a header bomb", "settings that overflow")],
)  # fmt: skip
def test_an_upstream_that_breaks_the_rules(name: str) -> None:
    attack, _ = ATTACKS[name]
    wire = started()
    wire.send(headers(1))
    wire.answer(attack())
    assert wire.over
    told = [event for event in wire.events if isinstance(event, Refused | Aborted)]
    assert told and all(event.blame == "upstream" for event in told)


@pytest.mark.parametrize(
    "data",
    [
        frame(Type.DATA, 0, 1, b"data first"),
        headers(1, block=hpack.Encoder().encode([(b":status", b"101")])),
        headers(1, block=hpack.Encoder().encode([(b":status", b"20")])),
        headers(1, block=hpack.Encoder().encode([(b":status", b"200"), (b"x", b"a\nb")])),
        headers(1, block=hpack.Encoder().encode([(b":status", b"200"), (b"connection", b"x")])),
        headers(1, block=hpack.Encoder().encode([(b"x", b"y")])),
    ],
)
def test_answers_that_are_not_passed_on(data: bytes) -> None:
    wire = started()
    wire.send(headers(1))
    wire.answer(data)
    (refused,) = wire.told(Refused)
    assert isinstance(refused, Refused)
    assert refused.status == 502 and refused.blame == "upstream" and not wire.over


def test_answers_on_streams_that_nobody_opened() -> None:
    for data in (headers(1), headers(2), frame(Type.DATA, 0, 3, b"x")):
        wire = started()
        wire.answer(data)
        assert wire.over


def test_settings_and_pings_are_answered() -> None:
    wire = started()
    before = len(wire.guest)
    wire.send(frame(Type.PING, 0, 0, b"12345678") + frames.settings({}))
    assert wire.guest[before:] == (
        frame(Type.PING, ACK, 0, b"12345678") + frame(Type.SETTINGS, ACK, 0)
    )
    wire.send(frame(Type.SETTINGS, ACK, 0) + frame(Type.PING, ACK, 0, bytes(8)))
    wire.send(frame(0xA, 0, 0, b"altsvc") + frame(0x10, 0, 0, b"priority update"))
    assert not wire.over


def test_padding_is_taken_off_and_its_window_given_back() -> None:
    wire = started()
    wire.send(headers(1, END_HEADERS))
    for _ in range(2000):
        wire.send(frame(Type.DATA, PADDED, 1, b"\xff" + b"x" + bytes(255)))
    assert not wire.over
    assert wire.upstream.endswith(frame(Type.DATA, 0, 1, b"x") * 3)


def test_small_pieces_without_end_are_no_abuse() -> None:
    """Server-sent events: each one is small, and some clients say of each that they have it."""
    wire = started()
    wire.send(headers(1))
    wire.answer(headers(1, END_HEADERS, hpack.Encoder().encode([(b":status", b"200")])))
    event = frame(Type.DATA, 0, 1, b"data: x\n\n")
    for _ in range(leg.MAX_IDLE_FRAMES + 1000):
        assert wire.answer(event) == event
        wire.send(frames.window_update(0, 9) + frames.window_update(1, 9))
        wire.guest = wire.upstream = b""
    assert not wire.over


def test_many_updates_at_once_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be for every stream: a guest pays for what it makes us do."""
    wire = started()
    looks = []
    flush = Http2Exchange._flush_all

    def counted(exchange: Http2Exchange) -> None:
        looks.append(1)
        flush(exchange)

    monkeypatch.setattr(Http2Exchange, "_flush_all", counted)
    wire.send(frames.window_update(0, 100) * 1000)
    assert len(looks) == 1 and not wire.over


def test_windows_that_shrink() -> None:
    """What the upstream takes no more of waits here, up to the bound, and goes on later."""
    wire = started()
    wire.send(headers(1, END_HEADERS))
    wire.answer(frames.settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    before = len(wire.upstream)
    wire.send(frame(Type.DATA, 0, 1, b"x" * 1000))
    assert wire.upstream[before:] == frame(Type.DATA, 0, 1, b"x" * 10)
    wire.answer(frames.window_update(1, 500))
    assert wire.upstream.endswith(frame(Type.DATA, 0, 1, b"x" * 500))
    wire.send(frame(Type.DATA, END_STREAM, 1, b"y"))
    wire.answer(frames.window_update(1, 500))
    assert wire.upstream.endswith(frame(Type.DATA, END_STREAM, 1, b"x" * 490 + b"y"))
    assert not wire.over


def test_a_window_is_kept_by_the_peer() -> None:
    out = Outbox()
    one = Leg(out, server=True, values={})
    list(one.receive(HELLO))
    one.open(1)
    with pytest.raises(ConnectionFault, match="more than it may"):
        for _ in range(5):
            list(one.receive(frame(Type.DATA, 0, 1, bytes(16384))))


FRAMES = st.lists(
    st.one_of(
        st.builds(
            frame, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 9, 0x2C, 0xFF]),
            st.sampled_from([0, 1, 2, 3, 5]), st.binary(max_size=20),
        ),
        st.sampled_from(
            [headers(1), headers(3, END_HEADERS), headers(5), frame(0, 1, 3, MARK),
             frames.window_update(0, 1000), frames.window_update(1, 100), frames.reset(1, 8),
             frames.settings({Setting.INITIAL_WINDOW_SIZE: 1}), frames.goaway(1, 0),
             headers(1, 4, hpack.Encoder().encode([(b":status", b"200")])),
             headers(3, 5, hpack.Encoder().encode([(b":status", b"204")])),
             headers(3, 5, hpack.Encoder().encode([(b"x-trailer", b"1")]))]
        ),
    ),
    max_size=12,
)  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), FRAMES), max_size=6), st.integers(1, 60), st.booleans())
def test_any_frames_from_both_sides(
    parts: list[tuple[bool, list[bytes]]], cut: int, hold: bool
) -> None:
    """Nothing is raised, memory stays bounded, and every stream that began has ended in the end."""
    wire = Wire(Http2Exchange(place(inject=["body", "credentials"], mask_echo=True)), hold=hold)
    wire.send(HELLO, cut)
    wire.answer(frames.settings({}), cut)
    for from_guest, sent in parts:
        (wire.send if from_guest else wire.answer)(b"".join(sent), cut)
    wire.took(wire.exchange.proceed(3))
    wire.took(wire.exchange.upstream_closed(clean=True))
    wire.took(wire.exchange.guest_closed())
    assert wire.over and not wire.exchange._streams  # type: ignore[attr-defined]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_from_both_sides(guest: bytes, upstream: bytes) -> None:
    wire = started(upstream=False)
    wire.send(headers(1))
    wire.answer(upstream)
    wire.send(guest)
    assert leg.MAX_BLOCK
