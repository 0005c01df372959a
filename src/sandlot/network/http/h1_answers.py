"""The upstream's half of an HTTP/1.1 exchange: answers, one for the one request that was sent."""

from __future__ import annotations

from collections.abc import Mapping

from sandlot.network.http.events import Buffer, Event, Outbox, ResponseEnded, ResponseHead
from sandlot.network.http.framing import (
    ChunkReader,
    EndReader,
    LengthReader,
    Reader,
    chunk,
    last_chunk,
)
from sandlot.network.http.head import (
    HeadBuffer,
    Malformed,
    StatusLine,
    parse_status,
    tokens,
    value_of,
    without,
    written,
)
from sandlot.secrets.bodies import Body, response_body
from sandlot.secrets.replacer import Replacer
from sandlot.secrets.substitution import Fields, Refusal

MAX_INTERIM = 32
"""Interim answers (1xx) to one request."""
_NOT_PASSED = (b"alt-svc", b"keep-alive", b"proxy-connection")
"""Alt-Svc would lead clients to HTTP/3, in which no secret is replaced."""


class Answers:
    """Reads the answer to what `expect` told, and writes it to the guest."""

    def __init__(self, out: Outbox) -> None:
        self.pending = False
        """A request was sent, and its answer is not complete."""
        self.begun = False
        """The head of its answer was passed on."""
        self.interim = 0
        self.complete = False
        self.reusable = True
        """The connection may carry another request after this answer."""
        self.until_end = False
        self.upgraded = False
        self.rest = b""
        """What came after the answer that upgraded."""
        self._out = out
        self._head = HeadBuffer()
        self._reader: Reader | None = None
        self._body: Body | None = None
        self._chunked = False
        self._size = 0
        self._id, self._method, self._minor = 0, b"", 1
        self._masks: Mapping[bytes, bytes] = {}
        self._websocket = False

    def expect(
        self, id: int, method: bytes, minor: int, masks: Mapping[bytes, bytes], *, websocket: bool
    ) -> None:
        """A request was sent."""
        self._id, self._method, self._minor, self._masks = id, method, minor, masks
        self._websocket = websocket
        self.pending, self.begun, self.complete, self.interim = True, False, False, 0
        self.reusable, self.until_end = minor == 1, False
        self._reader = None

    def receive(self, data: bytes) -> list[Event]:
        """Bytes of the upstream.

        Raises:
            Malformed: they are not HTTP, or nobody asked for them.
        """
        events: list[Event] = []
        view = memoryview(data)
        while view:
            if not self.pending:
                raise Malformed("it sent what nobody asked for")
            if self._reader is None:
                head, taken = self._head.feed(view)
                view = view[taken:]
                if head is not None:
                    events += self._begin(parse_status(head))
                    if self.upgraded:
                        self.rest = bytes(view)
                        return events
            else:
                pieces, taken = self._reader.read(view)
                view = view[taken:]
                for piece in pieces:
                    self._size += len(piece)
                    self._put(self._masked(piece))
            if self._reader is not None and self._reader.done:
                events += self.finish()
        return events

    def finish(self) -> list[Event]:
        """The answer's body is complete.

        Raises:
            Malformed: its compression is not.
        """
        if self._body is not None:
            try:
                self._put(self._body.finish())
            except Refusal as error:
                raise Malformed(error.reason) from None
        if self._chunked and self._reader is not None:
            trailers = self._reader.trailers
            self._out.put(last_chunk([(name, self._mask(value)) for name, value in trailers]))
        self.pending = self.begun = False
        self.complete = True
        self._reader = None
        return [ResponseEnded(self._id, self._size)]

    def _begin(self, answer: StatusLine) -> list[Event]:
        status = answer.status
        fields = self._passed(answer)
        if status == 101:
            upgrade = tokens(answer.fields, b"upgrade")
            if not self._websocket or upgrade != [b"websocket"]:
                raise Malformed("it changed to another protocol, which nobody asked for")
            if self._masks and value_of(answer.fields, b"sec-websocket-extensions"):
                raise Malformed("its WebSocket has extensions, which nobody asked for")
            self.upgraded = True
        if status < 200:
            self.interim += 1
            if self.interim > MAX_INTERIM:
                raise Malformed("it sent interim answers without end")
            self._write(answer, fields)
            return [ResponseHead(self._id, status, fields)] if self.upgraded else []
        self._size, self._body, self._chunked = 0, None, False
        self._reader = self._reader_of(answer)
        self.until_end = isinstance(self._reader, EndReader)
        self.reusable = (
            self.reusable
            and answer.minor == 1
            and not self.until_end
            and b"close" not in tokens(answer.fields, b"connection")
        )
        if not self._reader.done:
            fields = self._mask_body(answer, fields)
        self.begun = True
        self._write(answer, fields)
        return [ResponseHead(self._id, status, fields)]

    def _reader_of(self, answer: StatusLine) -> Reader:
        bodiless = self._method == b"HEAD" or answer.status in (204, 304)
        if answer.status == 204 and answer.length == -1:
            raise Malformed("an answer that has no body is chunked")
        if bodiless:
            return LengthReader(0)
        if answer.length is None:
            return EndReader()
        if answer.length >= 0:
            return LengthReader(answer.length)
        if answer.minor == 0 or self._minor == 0:
            raise Malformed("it is chunked, in HTTP/1.0")
        self._chunked = True
        return ChunkReader()

    def _mask_body(self, answer: StatusLine, fields: Fields) -> Fields:
        encoding = b",".join(tokens(answer.fields, b"content-encoding")).decode("latin-1")
        try:
            self._body = response_body(self._masks, encoding)
        except Refusal as error:
            raise Malformed(error.reason) from None
        if self._body is None or self._body.same_length or answer.length in (None, -1):
            return fields
        fields = without(fields, b"content-length")
        if self._minor == answer.minor == 1:
            self._chunked = True
            fields.append((b"Transfer-Encoding", b"chunked"))
        else:
            self.reusable = False
        return fields

    def _passed(self, answer: StatusLine) -> Fields:
        """The fields that the guest gets."""
        fields = without(answer.fields, *_NOT_PASSED)
        if answer.status != 101:
            fields = without(fields, b"upgrade")
            options = tokens(fields, b"connection")
            kept = [one for one in options if one in (b"close", b"keep-alive")]
            if kept != options:
                fields = without(fields, b"connection")
                if kept:
                    fields.append((b"Connection", b", ".join(kept)))
        if self._masks:
            fields = [(name, self._mask(value)) for name, value in fields]
        return fields

    def _write(self, answer: StatusLine, fields: Fields) -> None:
        reason = self._mask(answer.reason)
        first = b"HTTP/1.%d %d %b" % (answer.minor, answer.status, reason)
        self._out.put(written(first, fields))

    def _mask(self, value: bytes) -> bytes:
        if not self._masks:
            return value
        replacer = Replacer(self._masks)
        return bytes(replacer.feed(value)) + replacer.finish()

    def _masked(self, piece: memoryview) -> Buffer:
        if self._body is None:
            return piece
        try:
            return self._body.feed(piece)
        except Refusal as error:
            raise Malformed(error.reason) from None

    def _put(self, data: Buffer) -> None:
        if not data:
            return
        if self._chunked:
            self._out.put(chunk(len(data)))
            self._out.put(data)
            self._out.put(b"\r\n")
        else:
            self._out.put(data)
