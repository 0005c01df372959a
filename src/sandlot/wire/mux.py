"""Many streams on one byte stream: yamux's rules, sans-io.

    mux = Mux()
    stream = mux.open()
    mux.send(stream, b"hello")
    transport.write(mux.output())
    for event in mux.receive(data): ...

Both ends use it: `client=True` opens odd stream numbers, False even ones. Whatever breaks the
rules of `protocol/README.md`, section 3, raises `GuestProtocolError`; after that the session is
over. Memory is bounded by the credit that we granted, and by `MAX_STREAMS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandlot.errors import GuestProtocolError, LocalProtocolError
from sandlot.wire import frames
from sandlot.wire.frames import HEADER, OFFSET, Flag, Frame, Type
from sandlot.wire.ring import ReceiveRing, SendRing

# Plain numbers: an operator of an enumeration costs as much as all the rest of a small frame.
SYN, ACK, FIN, RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
SHARED_FROM = 4096  # below this the copy into a frame is cheaper than the window


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes arrived. They count against the stream's credit until `consumed` is called."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer sends no more on this stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream is gone, both ways."""

    stream: int


@dataclass(frozen=True, slots=True)
class Writable:
    """More can be sent on this stream; on every stream when it is 0 (the ring has room)."""

    stream: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to `ping`."""

    number: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer ends the session."""

    code: int


Event = Opened | Data | Ended | Reset | Writable | Pong | GoneAway


@dataclass(slots=True)
class _Stream:
    send_credit: int = frames.INITIAL_CREDIT
    receive_credit: int = frames.INITIAL_CREDIT
    allowance: int = frames.INITIAL_CREDIT
    consumed: int = 0
    sent_syn: bool = False
    sent_fin: bool = False
    got_fin: bool = False


class Mux:
    """The state of one session."""

    def __init__(
        self,
        *,
        client: bool = True,
        send_half: memoryview | None = None,
        receive_half: memoryview | None = None,
    ) -> None:
        self._client = client
        self._next = 1 if client else 2
        self._highest_theirs = 0
        self.answered = 0
        """Pongs, and streams of the peer: what it gets bytes for that no credit bounds."""
        self._streams: dict[int, _Stream] = {}
        self._in = bytearray()
        self._out = bytearray()
        self._halves = [half for half in (send_half, receive_half) if half is not None]
        self._send_ring = SendRing(send_half) if send_half is not None else None
        self._receive_ring = ReceiveRing(receive_half) if receive_half is not None else None

    def close(self) -> None:
        """Let go of the window, so that its memory can be given back."""
        for half in self._halves:
            half.release()

    def statistics(self) -> dict[str, int]:
        """Open streams, and bytes that wait to be parsed and to be sent."""
        return {"streams": len(self._streams), "in": len(self._in), "out": len(self._out)}

    # -- sending ---------------------------------------------------------------------------

    def open(self, *, credit: int = frames.INITIAL_CREDIT) -> int:
        """Open a stream on which the peer may have `credit` bytes under way; returns its number."""
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = _Stream()
        if credit > stream.allowance:
            self._emit(number, stream, Type.CREDIT, credit - stream.allowance)
            stream.receive_credit = stream.allowance = credit
        return number

    def allow(self, number: int, credit: int) -> None:
        """Raise the credit of a stream that the peer opened."""
        stream = self._get(number)
        if credit > stream.allowance:
            more = credit - stream.allowance
            stream.allowance = credit
            stream.receive_credit += more
            self._emit(number, stream, Type.CREDIT, more)

    def send(self, number: int, data: bytes | memoryview) -> int:
        """Queue as much of `data` as credit and window allow; returns how many bytes that was."""
        stream = self._get(number)
        if stream.sent_fin:
            raise LocalProtocolError(f"stream {number} was finished before")
        view, sent = memoryview(data), 0
        total = min(len(view), stream.send_credit)
        while sent < total:
            ring = self._send_ring if total - sent >= SHARED_FROM else None
            most = min(frames.MAX_SHARED, ring.room()) if ring is not None else 0
            if ring is not None and not most and not ring.small:
                break  # the peer tells when it has taken what is there
            piece = view[sent : min(total, sent + (most or frames.MAX_PAYLOAD))]
            if ring is not None and most:
                offset = ring.put(piece)
                assert offset is not None
                self._emit(number, stream, Type.SHARED, len(piece), payload=OFFSET.pack(offset))
            else:
                self._emit(number, stream, Type.DATA, len(piece), payload=piece)
            sent += len(piece)
        stream.send_credit -= sent
        return sent

    def credit(self, number: int) -> int:
        """How many bytes the peer takes on a stream now; 0 for one that is not open."""
        stream = self._streams.get(number)
        return 0 if stream is None or stream.sent_fin else stream.send_credit

    def finish(self, number: int) -> None:
        """Say that nothing more will be sent."""
        stream = self._streams.get(number)
        if stream is None or stream.sent_fin:
            return
        stream.sent_fin = True
        self._emit(number, stream, Type.DATA, 0, FIN)
        self._forget_if_done(number, stream)

    def reset(self, number: int) -> None:
        """End the stream both ways, at once."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._emit(number, stream, Type.CREDIT, 0, RST)

    def consumed(self, number: int, count: int) -> None:
        """The application took `count` bytes: the peer may send as many again."""
        stream = self._streams.get(number)
        if stream is None or stream.got_fin:
            return
        stream.consumed += count
        if stream.consumed * 2 >= stream.allowance:
            self._emit(number, stream, Type.CREDIT, stream.consumed)
            stream.receive_credit += stream.consumed
            stream.consumed = 0

    def ping(self, number: int) -> None:
        """Ask for a `Pong` with this number."""
        self._out += HEADER.pack(0, Type.PING, SYN, 0, number)

    def output(self) -> bytes:
        """Everything that is to be written to the carrier now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def _emit(
        self,
        number: int,
        stream: _Stream,
        type_: Type,
        length: int,
        flags: int = 0,
        payload: bytes | memoryview = b"",
    ) -> None:
        if not stream.sent_syn:
            stream.sent_syn = True
            if self._is_ours(number):
                flags |= SYN
        self._out += HEADER.pack(0, type_, flags, number, length)
        self._out += payload

    # -- receiving -------------------------------------------------------------------------

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Parse what arrived.

        Raises:
            GuestProtocolError: the peer broke the rules; the session is over.
        """
        self._in += data
        events: list[Event] = []
        position, end = 0, len(self._in)
        while end - position >= HEADER.size:
            version, type_, flags, number, length = HEADER.unpack_from(self._in, position)
            if version != frames.VERSION:
                raise GuestProtocolError(f"frame version {version}")
            if flags & ~frames.KNOWN_FLAGS:
                raise GuestProtocolError(f"unknown frame flags 0x{flags:04x}")
            body = position + HEADER.size
            payload, offset = b"", 0
            if type_ == Type.DATA:
                if length > frames.MAX_PAYLOAD:
                    raise GuestProtocolError(f"a frame of {length} bytes")
                if end - body < length:
                    break
                payload = bytes(self._in[body : body + length])
                body += length
            elif type_ == Type.SHARED:
                if end - body < OFFSET.size:
                    break
                (offset,) = OFFSET.unpack_from(self._in, body)
                body += OFFSET.size
            position = body
            self._frame(Frame(type_, flags, number, length, payload, offset), events)
        del self._in[:position]
        return events

    def _frame(self, frame: Frame, events: list[Event]) -> None:
        payload = frame.payload
        if frame.type == Type.SHARED:
            payload = self._take_shared(frame)
        if frame.type in (Type.DATA, Type.SHARED, Type.CREDIT):
            self._stream_frame(frame, payload, events)
        elif frame.stream != 0:
            raise GuestProtocolError(f"a frame of type {frame.type} on stream {frame.stream}")
        elif frame.type == Type.PING:
            if frame.flags & SYN:
                self.answered += 1
                self._out += HEADER.pack(0, Type.PING, ACK, 0, frame.length)
            else:
                events.append(Pong(frame.length))
        elif frame.type == Type.GO_AWAY:
            events.append(GoneAway(frame.length))
        elif frame.type == Type.SHARED_FREE:
            if self._send_ring is None:
                raise GuestProtocolError("SHARED_FREE without a window")
            if frame.length == 0:  # each costs a look at every stream
                raise GuestProtocolError("SHARED_FREE of nothing")
            self._send_ring.freed(frame.length)
            events.append(Writable(0))
        else:
            raise GuestProtocolError(f"unknown frame type {frame.type}")

    def _take_shared(self, frame: Frame) -> bytes:
        if self._receive_ring is None:
            raise GuestProtocolError("a shared payload without a window")
        if frame.length > frames.MAX_SHARED:
            raise GuestProtocolError(f"a shared payload of {frame.length} bytes")
        payload = self._receive_ring.take(frame.offset, frame.length)
        if owed := self._receive_ring.debt():
            self._out += HEADER.pack(0, Type.SHARED_FREE, 0, 0, owed)
        return payload

    def _stream_frame(self, frame: Frame, payload: bytes, events: list[Event]) -> None:
        number = frame.stream
        stream = self._streams.get(number)
        if frame.flags & SYN:
            stream = self._accept(number, stream)
            events.append(Opened(number))
        elif stream is None:
            if not self._was_opened(number):
                raise GuestProtocolError(f"a frame for stream {number}, which was never opened")
            return
        if frame.flags & RST:
            del self._streams[number]
            events.append(Reset(number))
            return
        if frame.type == Type.CREDIT:
            stream.send_credit += frame.length
            if stream.send_credit > frames.MAX_CREDIT:
                raise GuestProtocolError(f"stream {number} was given too much credit")
            events.append(Writable(number))
        elif payload:
            if stream.got_fin:
                raise GuestProtocolError(f"payload on stream {number} after its end")
            if len(payload) > stream.receive_credit:
                raise GuestProtocolError(f"payload beyond the credit of stream {number}")
            stream.receive_credit -= len(payload)
            events.append(Data(number, payload))
        if frame.flags & FIN and not stream.got_fin:
            stream.got_fin = True
            events.append(Ended(number))
            self._forget_if_done(number, stream)

    def _accept(self, number: int, stream: _Stream | None) -> _Stream:
        if stream is not None or self._is_ours(number) or number <= self._highest_theirs:
            raise GuestProtocolError(f"stream {number} cannot be opened by the peer now")
        if len(self._streams) >= frames.MAX_STREAMS:
            raise GuestProtocolError(f"more than {frames.MAX_STREAMS} streams")
        self._highest_theirs = number
        self.answered += 1
        stream = self._streams[number] = _Stream(sent_syn=True)
        return stream

    # -- bookkeeping -----------------------------------------------------------------------

    def _is_ours(self, number: int) -> bool:
        return number % 2 == (1 if self._client else 0)

    def _was_opened(self, number: int) -> bool:
        if number == 0:
            return False
        return number < self._next if self._is_ours(number) else number <= self._highest_theirs

    def _get(self, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None:
            raise LocalProtocolError(f"stream {number} is not open")
        return stream

    def is_open(self, number: int) -> bool:
        """Whether anything can still be sent or received on the stream."""
        return number in self._streams

    def _forget_if_done(self, number: int, stream: _Stream) -> None:
        if stream.sent_fin and stream.got_fin:
            self._streams.pop(number, None)
