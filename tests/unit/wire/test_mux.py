"""Two muxes joined back to back, and one against a liar."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError, LocalProtocolError
from sandlot.wire import frames, mux
from sandlot.wire.frames import HEADER, Flag, Frame, Type
from sandlot.wire.mux import Data, Ended, Mux, Opened, Pong, Reset, Writable


def frame(
    type_: int, flags: int, stream: int, length: int, payload: bytes = b"", offset: int = 0
) -> bytes:
    return frames.encode(Frame(type_, flags, stream, length, payload, offset))


def joined(window: bool) -> tuple[Mux, Mux]:
    if not window:
        return Mux(), Mux(client=False)
    memory = memoryview(bytearray(2 << 20))
    low, high = memory[: 1 << 20], memory[1 << 20 :]
    return (
        Mux(send_half=low, receive_half=high),
        Mux(client=False, send_half=high, receive_half=low),
    )


def carry(a: Mux, b: Mux, got: dict[str, list[mux.Event]]) -> None:
    while (to_b := a.output()) or (to_a := b.output()):
        if to_b:
            got["b"] += b.receive(to_b)
        else:
            got["a"] += a.receive(to_a)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=100_000), st.booleans(), st.integers(1, 50_000))
def test_bytes_cross_in_order_with_flow_control(data: bytes, window: bool, step: int) -> None:
    a, b = joined(window)
    stream = a.open()
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    received, position = b"", 0
    while position < len(data) or not position:
        position += a.send(stream, memoryview(data)[position : position + step])
        carry(a, b, got)
        for event in got["b"]:
            if isinstance(event, Data):
                received += event.data
                b.consumed(event.stream, len(event.data))
        got["b"].clear()
        carry(a, b, got)
        if not data:
            break
    a.finish(stream)
    carry(a, b, got)
    assert received == data
    assert any(isinstance(e, Ended) for e in got["b"])


def test_the_life_of_a_stream() -> None:
    a, b = joined(False)
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    stream = a.open()
    a.send(stream, b"hello")
    a.finish(stream)
    carry(a, b, got)
    assert got["b"] == [Opened(1), Data(1, b"hello"), Ended(1)]
    b.send(1, b"bye")
    b.finish(1)
    carry(a, b, got)
    assert got["a"] == [Data(1, b"bye"), Ended(1)]
    assert a.statistics()["streams"] == b.statistics()["streams"] == 0


def test_reset_ends_both_ways() -> None:
    a, b = joined(False)
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    stream = a.open()
    a.send(stream, b"x")
    carry(a, b, got)
    b.reset(stream)
    carry(a, b, got)
    assert got["a"] == [Reset(1)]
    with pytest.raises(LocalProtocolError):
        a.send(stream, b"y")


def test_nothing_is_sent_beyond_the_credit() -> None:
    a = Mux()
    stream = a.open()
    assert a.send(stream, bytes(frames.INITIAL_CREDIT + 5)) == frames.INITIAL_CREDIT
    assert a.send(stream, b"x") == 0
    events = a.receive(frame(Type.CREDIT, 0, stream, 3))
    assert events == [Writable(stream)]
    assert a.send(stream, b"12345") == 3


def test_more_credit_is_asked_for_at_the_opening() -> None:
    a, b = joined(False)
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    stream = a.open(credit=1 << 20)
    a.send(stream, b"go")
    carry(a, b, got)
    assert b.send(stream, bytes(1 << 21)) == 1 << 20


def test_a_full_ring_waits_and_goes_on() -> None:
    a, b = joined(True)
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    streams = [a.open() for _ in range(5)]
    sent = [a.send(s, bytes(frames.INITIAL_CREDIT)) for s in streams]
    assert sent == [frames.INITIAL_CREDIT] * 4 + [0]
    carry(a, b, got)
    assert Writable(0) in got["a"]
    assert a.send(streams[4], bytes(10_000)) == 10_000


def test_ping() -> None:
    a, b = joined(False)
    got: dict[str, list[mux.Event]] = {"a": [], "b": []}
    a.ping(77)
    carry(a, b, got)
    assert got["a"] == [Pong(77)]


def test_frames_for_a_dead_stream_are_ignored() -> None:
    a = Mux()
    stream = a.open()
    a.reset(stream)
    assert a.receive(frame(Type.DATA, 0, stream, 3, b"abc")) == []


BREACHES = {
    "a version": b"\x01" + bytes(11),
    "unknown flags": frame(Type.DATA, 0x10, 1, 0),
    "an unknown type": frame(9, 0, 0, 0),
    "a stream never opened": frame(Type.DATA, 0, 2, 0),
    "our own number": frame(Type.DATA, Flag.SYN, 3, 0),
    "stream zero": frame(Type.DATA, Flag.SYN, 0, 0),
    "an oversized frame": frame(Type.DATA, Flag.SYN, 2, frames.MAX_PAYLOAD + 1),
    "shared without a window": frame(Type.SHARED, Flag.SYN, 2, 4, offset=0),
    "free without a window": frame(Type.SHARED_FREE, 0, 0, 4),
    "ping on a stream": frame(Type.PING, Flag.SYN, 2, 4),
    "opened twice": frame(Type.DATA, Flag.SYN, 2, 0) * 2,
    "falling numbers": frame(Type.DATA, Flag.SYN, 4, 0) + frame(Type.DATA, Flag.SYN, 2, 0),
    "payload after the end": frame(Type.DATA, Flag.SYN | Flag.FIN, 2, 0)
    + frame(Type.DATA, 0, 2, 1, b"x"),
    "too much credit": frame(Type.CREDIT, Flag.SYN, 2, frames.MAX_CREDIT),
    "beyond the credit": frame(Type.DATA, Flag.SYN, 2, 65536, bytes(65536))
    + frame(Type.DATA, 0, 2, 65536, bytes(65536)) * 4,
}


@pytest.mark.parametrize("raw", BREACHES.values(), ids=BREACHES.keys())
def test_breaches_are_blamed_on_the_guest(raw: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        Mux().receive(raw)


@pytest.mark.parametrize(
    ("offset", "length"), [(1 << 20, 1), ((1 << 20) - 1, 2), (0, (1 << 20) + 1)]
)
def test_shared_payloads_outside_the_window(offset: int, length: int) -> None:
    a, _ = joined(True)
    with pytest.raises(GuestProtocolError):
        a.receive(frame(Type.SHARED, Flag.SYN, 2, length, offset=offset))


def test_too_many_streams() -> None:
    a = Mux()
    with pytest.raises(GuestProtocolError, match="more than"):
        for number in range(2, 2 * frames.MAX_STREAMS + 10, 2):
            a.receive(frame(Type.CREDIT, Flag.SYN, number, 0))


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_parsed_or_blamed(data: bytes, window: bool) -> None:
    a, _ = joined(window)
    stream = a.open()
    a.send(stream, b"x" * 5000)
    try:
        a.receive(data)
    except GuestProtocolError:
        pass
    assert a.statistics()["in"] <= len(data)


_FRAMES = st.builds(
    lambda type_, flags, stream, length, payload: HEADER.pack(0, type_, flags, stream, length) + payload,
    st.integers(0, 6), st.integers(0, 15), st.integers(0, 6), st.integers(0, 300),
    st.binary(max_size=300),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_FRAMES, max_size=20))
def test_nearly_right_frames_are_parsed_or_blamed(parts: list[bytes]) -> None:
    a, _ = joined(True)
    a.open()
    try:
        a.receive(b"".join(parts))
    except GuestProtocolError:
        pass


# -- no schedule may end in everybody waiting for another -------------------------------------


@dataclass
class _End:
    """One end of a session: what it still sends on each stream, and what it got and not yet took.

    It takes in when it likes, and stops reading its carrier for a while, as a program does.
    """

    mux: Mux
    wire: bytearray = field(default_factory=bytearray)  # on its way to the other end
    left: dict[int, int] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    got: dict[int, int] = field(default_factory=dict)

    def send(self, stream: int, most: int) -> int:
        """Some of what is left, which the mux may not want now."""
        if not self.left.get(stream):
            return 0
        sent = self.mux.send(stream, bytes(min(most, self.left[stream])))
        self.left[stream] -= sent
        return sent

    def write(self, room: int) -> int:
        """What the mux has said goes to the carrier, which holds only so much."""
        if len(self.wire) >= room:
            return 0
        said = self.mux.output()
        self.wire += said
        return len(said)

    def take(self, stream: int) -> int:
        """The program takes the oldest piece."""
        if not self.kept.get(stream):
            return 0
        size = self.kept[stream].pop(0)
        self.mux.consumed(stream, size)
        self.got[stream] = self.got.get(stream, 0) + size
        return size

    def receive(self, data: bytes) -> None:
        for event in self.mux.receive(data):
            if isinstance(event, Data):
                self.kept.setdefault(event.stream, []).append(len(event.data))


@settings(deadline=None, max_examples=60)
@given(
    half=st.sampled_from([0, 8 << 10, 64 << 10, 200 << 10, 300 << 10, 1 << 20]),
    sizes=st.lists(st.tuples(st.integers(0, 3 << 20), st.integers(0, 3 << 20)), min_size=1, max_size=4),
    credit=st.sampled_from([frames.INITIAL_CREDIT, 1 << 20, 4 << 20]),
    carrier=st.sampled_from([1, 4096, 1 << 20]),
    seed=st.integers(0, 1 << 32),
)  # fmt: skip
def test_no_schedule_ends_in_everybody_waiting(
    half: int, sizes: list[tuple[int, int]], credit: int, carrier: int, seed: int
) -> None:
    memory = memoryview(bytearray(2 * half))
    low, high = (memory[:half], memory[half:]) if half else (None, None)
    a = _End(Mux(send_half=low, receive_half=high))
    b = _End(Mux(client=False, send_half=high, receive_half=low))
    dice = random.Random(seed)
    streams = [a.mux.open(credit=credit) for _ in sizes]
    for stream, (there, back) in zip(streams, sizes, strict=True):
        a.left[stream], b.left[stream] = there, back
        a.mux.send(stream, b"!")

    def step(one: _End, other: _End, what: int, stream: int) -> int:
        if what == 0 and one.mux.is_open(stream):
            return one.send(stream, dice.choice([1, 5000, 70_000, 1 << 20, 4 << 20]))
        if what == 1:
            return one.write(carrier)
        if what == 2:
            piece = bytes(one.wire[: dice.choice([1, 100, 1 << 20])])
            del one.wire[: len(piece)]
            other.receive(piece)
            return len(piece)
        return one.take(stream)

    for _ in range(300):
        one, other = dice.choice([(a, b), (b, a)])
        step(one, other, dice.randrange(4), dice.choice(streams))
    # From here on all do what they can: as long as something is left, somebody must get on.
    moved = True
    while moved:
        moved = False
        for one, other in ((a, b), (b, a)):
            for what in range(4):
                for stream in streams:
                    while step(one, other, what, stream):
                        moved = True
    for stream, (there, back) in zip(streams, sizes, strict=True):
        assert (b.got.get(stream, 0), a.got.get(stream, 0)) == (there + 1, back), stream
