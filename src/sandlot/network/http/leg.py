"""One side of an HTTP/2 connection, as far as it does not depend on the other side.

A leg cuts frames out, puts header blocks together and unpacks them, keeps count of windows in both
directions, answers SETTINGS and PING, and bounds whatever costs the sender nothing. What remains
for the exchange are the frames of streams.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import hpack

from sandlot.network.http import frames
from sandlot.network.http.events import Buffer, Outbox
from sandlot.network.http.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    Code,
    ConnectionFault,
    FrameReader,
    Setting,
    Type,
)
from sandlot.secrets.substitution import Fields

MAX_BLOCK = 64 * 1024
"""Bytes of a header block, packed, and of its fields unpacked."""
MAX_CONTINUATIONS = 16
MAX_FIELDS = 256
TABLE = 4096
"""Bytes of the tables of header compression, in each direction."""
DEFAULT_WINDOW = 65535
MAX_WINDOW = 2**31 - 1
MAX_SETTINGS = 64
MAX_IDLE_FRAMES = 4096
"""Frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA, ...) between two that do."""


@dataclass(frozen=True, slots=True)
class Headers:
    """A complete header block."""

    stream: int
    fields: Fields
    end: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Payload. `cost` is what it takes of the windows, padding included."""

    stream: int
    data: memoryview
    cost: int
    end: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave a stream up."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer takes no streams above `last`."""

    last: int
    code: int


@dataclass(frozen=True, slots=True)
class Windows:
    """The peer takes more than before."""


LegEvent = Headers | Data | Reset | GoneAway | Windows


@dataclass(slots=True)
class Window:
    """What may be sent to the peer and what it may send, of one stream or of the connection."""

    out: int
    into: int = DEFAULT_WINDOW


class Leg:
    """One side. `server` when the peer is a guest, who begins with the preface."""

    def __init__(self, out: Outbox, *, server: bool, values: dict[Setting, int]) -> None:
        self._out = out
        self._server = server
        self._reader = FrameReader(preface=server)
        self._decoder = hpack.Decoder(max_header_list_size=MAX_BLOCK)
        self._decoder.max_allowed_table_size = TABLE
        self._encoder = hpack.Encoder()
        self._block: tuple[int, bool, bytearray] | None = None
        self._continuations = 0
        self._idle = 0
        self._settled = False
        self.window = Window(DEFAULT_WINDOW)
        self.streams: dict[int, Window] = {}
        self.initial = DEFAULT_WINDOW
        """What a new stream of ours may send to the peer."""
        self.max_streams = 100
        """Streams that the peer takes at once; before it says so, what is usual."""
        if not server:
            out.put(frames.PREFACE)
        out.put(frames.settings(values))

    # what the peer sends

    def receive(self, data: bytes) -> Iterator[LegEvent]:
        """Frames of the peer.

        Raises:
            ConnectionFault: what ends the connection.
        """
        for kind, flags, stream, payload in self._reader.feed(data):
            if self._block is not None and kind != Type.CONTINUATION:
                raise ConnectionFault("a header block is interrupted")
            if not self._settled and (kind != Type.SETTINGS or flags & ACK):
                raise ConnectionFault("it does not begin with its settings")
            if kind == Type.DATA:
                yield self._data(flags, stream, payload)
            elif kind == Type.HEADERS or kind == Type.CONTINUATION:
                done = self._headers(kind, flags, stream, payload)
                if done is not None:
                    yield done
            elif kind == Type.WINDOW_UPDATE:
                yield from self._window_update(stream, payload)
            else:
                self._was_idle()
                yield from self._other(kind, flags, stream, payload)

    def progress(self) -> None:
        """Something that was asked for is done."""
        self._idle = 0

    def spend(self) -> None:
        """The peer asked for something that was refused.

        Raises:
            ConnectionFault: it does so without end.
        """
        self._was_idle()

    def _was_idle(self) -> None:
        self._idle += 1
        if self._idle > MAX_IDLE_FRAMES:
            raise ConnectionFault("it sends frames without a purpose", Code.ENHANCE_YOUR_CALM)

    def _data(self, flags: int, stream: int, payload: memoryview) -> Data:
        cost = len(payload)
        data = frames.unpadded(flags, payload)
        if stream == 0:
            raise ConnectionFault("data without a stream")
        self.window.into -= cost
        own = self.streams.get(stream)
        if own is not None:
            own.into -= cost
        if self.window.into < 0 or (own is not None and own.into < 0):
            raise ConnectionFault("it sends more than it may", Code.FLOW_CONTROL_ERROR)
        end = bool(flags & END_STREAM)
        if data:
            self._idle = 0
        elif not end:
            self._was_idle()
        return Data(stream, data, cost, end)

    def _headers(self, kind: int, flags: int, stream: int, payload: memoryview) -> Headers | None:
        if kind == Type.HEADERS:
            if stream == 0:
                raise ConnectionFault("header fields without a stream")
            part = frames.unpadded(flags, payload)
            if flags & HAS_PRIORITY:
                if len(part) < 5:
                    raise ConnectionFault("a frame is too short", Code.FRAME_SIZE_ERROR)
                part = part[5:]
            self._block = (stream, bool(flags & END_STREAM), bytearray(part))
            self._continuations = 0
        else:
            if self._block is None or self._block[0] != stream:
                raise ConnectionFault("a header block goes on that was not begun")
            self._continuations += 1
            self._block[2].extend(payload)
        block = self._block[2]
        if len(block) > MAX_BLOCK or self._continuations > MAX_CONTINUATIONS:
            raise ConnectionFault("a header block is too long", Code.ENHANCE_YOUR_CALM)
        if not flags & END_HEADERS:
            return None
        stream, end, _ = self._block
        self._block = None
        try:
            fields = [
                (bytes(f[0]), bytes(f[1])) for f in self._decoder.decode(bytes(block), raw=True)
            ]
        except hpack.OversizedHeaderListError:
            raise ConnectionFault("header fields are too long", Code.ENHANCE_YOUR_CALM) from None
        except Exception as error:  # whatever the decoder trips over is the sender's fault
            if not isinstance(error, hpack.HPACKError | IndexError | ValueError | TypeError):
                raise
            raise ConnectionFault("a header block is malformed", Code.COMPRESSION_ERROR) from None
        if len(fields) > MAX_FIELDS:
            raise ConnectionFault("there are too many fields", Code.ENHANCE_YOUR_CALM)
        return Headers(stream, fields, end)

    def _window_update(self, stream: int, payload: memoryview) -> Iterator[LegEvent]:
        if len(payload) != 4:
            raise ConnectionFault("a frame has the wrong size", Code.FRAME_SIZE_ERROR)
        size = int.from_bytes(payload, "big") & MAX_WINDOW
        window = self.window if stream == 0 else self.streams.get(stream)
        if window is None:
            self._was_idle()
            return
        if size == 0 or window.out + size > MAX_WINDOW:
            raise ConnectionFault("a window is out of bounds", Code.FLOW_CONTROL_ERROR)
        if size < 64:  # tiny ones cost more than they carry
            self._was_idle()
        window.out += size
        yield Windows()

    def _other(self, kind: int, flags: int, stream: int, payload: memoryview) -> Iterator[LegEvent]:
        if kind == Type.SETTINGS:
            if stream or (flags & ACK and payload) or len(payload) % 6:
                raise ConnectionFault("settings are malformed", Code.FRAME_SIZE_ERROR)
            if not flags & ACK:
                self._settings(payload)
                self._settled = True
                self._out.put(frames.frame(Type.SETTINGS, ACK, 0))
                yield Windows()
        elif kind == Type.PING:
            if stream or len(payload) != 8:
                raise ConnectionFault("a ping is malformed", Code.FRAME_SIZE_ERROR)
            if not flags & ACK:
                self._out.put(frames.frame(Type.PING, ACK, 0, bytes(payload)))
        elif kind == Type.RST_STREAM:
            if len(payload) != 4 or not stream:
                raise ConnectionFault("a reset is malformed", Code.FRAME_SIZE_ERROR)
            yield Reset(stream, int.from_bytes(payload, "big"))
        elif kind == Type.GOAWAY:
            if stream or len(payload) < 8:
                raise ConnectionFault("a goodbye is malformed", Code.FRAME_SIZE_ERROR)
            last, code = struct.unpack_from(">II", payload)
            yield GoneAway(last & MAX_WINDOW, code)
        elif kind == Type.PUSH_PROMISE:
            raise ConnectionFault("it pushes what nobody asked for")
        elif kind == Type.PRIORITY and (len(payload) != 5 or not stream):
            raise ConnectionFault("a priority is malformed", Code.FRAME_SIZE_ERROR)
        # PRIORITY and kinds that we do not know (ALTSVC, ORIGIN, ...) end here

    def _settings(self, payload: memoryview) -> None:
        if len(payload) > 6 * MAX_SETTINGS:
            raise ConnectionFault("there are too many settings", Code.ENHANCE_YOUR_CALM)
        for key, value in struct.iter_unpack(">HI", payload):
            if key == Setting.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise ConnectionFault("a window is out of bounds", Code.FLOW_CONTROL_ERROR)
                change, self.initial = value - self.initial, value
                for window in self.streams.values():
                    window.out += change
                    if window.out > MAX_WINDOW:
                        raise ConnectionFault("a window is out of bounds", Code.FLOW_CONTROL_ERROR)
            elif key == Setting.HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, TABLE)
            elif key == Setting.MAX_CONCURRENT_STREAMS:
                self.max_streams = value
            elif key == Setting.ENABLE_PUSH:
                if value > (1 if self._server else 0):
                    raise ConnectionFault("a setting has a value that it must not have")
            elif key == Setting.MAX_FRAME_SIZE and not frames.MAX_FRAME <= value < 2**24:
                raise ConnectionFault("a setting has a value that it must not have")

    # what the peer gets

    def open(self, stream: int) -> Window:
        """Keep count of a stream's windows."""
        window = self.streams[stream] = Window(self.initial)
        return window

    def headers(
        self, stream: int, fields: Fields, *, end: bool, secret: frozenset[bytes] = frozenset()
    ) -> None:
        """Send a header block. Fields named in `secret` are kept out of every table."""
        packed = [
            hpack.NeverIndexedHeaderTuple(name, value) if name in secret else (name, value)
            for name, value in fields
        ]
        block = self._encoder.encode(packed, huffman=False)
        self._out.put(frames.header_block(stream, block, end_stream=end))

    def data(self, stream: int, data: Buffer, *, end: bool) -> None:
        """Send payload; the windows have been asked."""
        size = len(data)
        if size <= frames.MAX_FRAME:
            flags = END_STREAM if end else 0
            self._out.put(frames.frame_header(Type.DATA, flags, stream, size))
            self._out.put(data)
        else:
            view = memoryview(data)
            for at in range(0, size, frames.MAX_FRAME):
                piece = view[at : at + frames.MAX_FRAME]
                last = end and at + len(piece) == size
                self._out.put(
                    frames.frame_header(Type.DATA, END_STREAM if last else 0, stream, len(piece))
                )
                self._out.put(piece)
        self.window.out -= size
        window = self.streams.get(stream)
        if window is not None:
            window.out -= size

    def grant(self, stream: int, window: Window, target: int, least: int = 16384) -> None:
        """Let the peer send up to `target`, if that is worth a frame."""
        more = target - window.into
        if more > 0 and (more >= least or window.into <= 0):
            window.into += more
            self._out.put(frames.window_update(stream, more))

    def reset(self, stream: int, code: int) -> None:
        """Give a stream up."""
        self.streams.pop(stream, None)
        self._out.put(frames.reset(stream, code))

    def settings(self, values: dict[Setting, int]) -> None:
        """Tell the peer what we take."""
        self._out.put(frames.settings(values))

    def goaway(self, last: int, code: int, text: bytes = b"") -> None:
        """Take no more streams."""
        self._out.put(frames.goaway(last, code, text))
