"""One HTTP/1.1 connection of a guest, and the one made for it to the upstream.

Requests go on one at a time: one that is sent before the last is answered waits. So an answer
always belongs to the request that it is taken for, whatever either side thinks of lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from sandlot.network.http import checks
from sandlot.network.http.events import (
    Aborted,
    Buffer,
    Event,
    Outbox,
    Refused,
    RequestEnded,
    RequestHead,
    SecretSeen,
    Upgraded,
)
from sandlot.network.http.framing import ChunkReader, LengthReader, Reader, chunk, last_chunk
from sandlot.network.http.h1_answers import Answers
from sandlot.network.http.head import (
    HeadBuffer,
    Malformed,
    RequestLine,
    parse_request,
    tokens,
    value_of,
    without,
    written,
)
from sandlot.network.http.websocket import MaskedFrames
from sandlot.secrets.bodies import UNMASKABLE, Body, masking, request_body
from sandlot.secrets.substitution import Refusal, Substitution, Use

MAX_WAITING = 128 * 1024
"""Bytes of a guest that wait for an earlier request, before no more are wanted."""
BUFFERED_BODY = 256 * 1024
"""A body whose length changes is kept up to this size so that its length can be said; a longer
one is sent chunked."""
_CONNECTION = {b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b""}


class _Guest(Enum):
    HEAD = "a request is awaited"
    HELD = "a request waits for `proceed`"
    BODY = "its body comes"
    ANSWER = "its answer is awaited"
    RAW = "bytes are relayed as they are"
    ENDED = "no more is read"


class Http1Exchange:
    """See `events.Exchange`. `substitution` names the host, and says what it may have."""

    def __init__(self, substitution: Substitution) -> None:
        self.guest_ended = False
        self.upstream_ended = False
        self.abort_guest = False
        self._substitution = substitution
        self._to_guest, self._to_upstream = Outbox(), Outbox()
        self._state = _Guest.HEAD
        self._head = HeadBuffer()
        self._waiting = b""
        self._blank = False  # an empty line was skipped
        self._closed = False  # the guest sends no more
        self._id = 0
        self._sent = 0  # requests that the upstream has begun to get
        self._request = RequestLine(b"", b"", 1, [])
        self._reader: Reader = LengthReader(0)
        self._body: Body | None = None
        self._size = 0
        self._chunked = False
        self._held_head: tuple[bytes, list[tuple[bytes, bytes]]] | None = None
        self._held_body: list[bytes] = []
        self._answers = Answers(self._to_guest)
        self._events: list[Event] = []
        self._frames: MaskedFrames | None = None

    # the seam

    @property
    def wants_guest(self) -> bool:
        return not self.guest_ended and len(self._waiting) < MAX_WAITING

    @property
    def wants_upstream(self) -> bool:
        return not self.upstream_ended

    def take_guest(self) -> Sequence[Buffer]:
        return self._to_guest.take()

    def take_upstream(self) -> Sequence[Buffer]:
        return self._to_upstream.take()

    def receive_guest(self, data: bytes) -> list[Event]:
        if self._state is _Guest.RAW:
            self._to_upstream.put(data)
        elif not self.guest_ended:
            self._waiting = self._waiting + data if self._waiting else data
            self._advance()
        return self._told()

    def receive_upstream(self, data: bytes) -> list[Event]:
        if self._state is _Guest.RAW:
            self._raw(data)
        elif data and not self.upstream_ended:
            try:
                self._events += self._answers.receive(data)
            except Malformed as error:
                self._upstream_failed(error.reason)
            self._after_answer()
        return self._told()

    def guest_closed(self) -> list[Event]:
        self._closed = True
        if self._state is _Guest.RAW:
            self.upstream_ended = True
        elif self._state is _Guest.BODY or (self._state is _Guest.HEAD and len(self._head)):
            self._abort("the guest closed in the middle of a request", "guest")
        elif self._state is _Guest.HEAD:
            self._end()
        return self._told()

    def upstream_closed(self, *, clean: bool) -> list[Event]:
        if self._state is _Guest.RAW:
            self.guest_ended = True
            return self._told()
        if self.upstream_ended:
            return []
        self.upstream_ended = True
        if not self._answers.pending:
            self._end()
        elif not self._answers.begun:
            if self._sent > 1 and not self._answers.interim:  # clients send it again by themselves
                self._abort("the upstream closed before it answered", "upstream")
            else:
                self._upstream_failed("it closed without an answer")
        elif clean and self._answers.until_end:
            self._events += self._answers.finish()
            self._after_answer()
        else:
            self._abort("the upstream closed in the middle of its answer", "upstream")
        return self._told()

    def proceed(self, id: int) -> list[Event]:
        if id == self._id and self._state is _Guest.HELD:
            try:
                self._send_head()
            except (Refusal, Malformed) as error:
                self._refused(error)
            else:
                self._advance()
        return self._told()

    def refuse(self, id: int, reason: str, *, status: int = 403, hint: str = "") -> list[Event]:
        if id == self._id and self._state is _Guest.HELD:
            self._refused(Refusal(reason, hint, status=status))
        return self._told()

    # requests

    def _advance(self) -> None:
        """Go as far as the guest's bytes reach."""
        try:
            while self._state in (_Guest.HEAD, _Guest.BODY):
                if self._state is _Guest.HEAD:
                    if not self._waiting or not self._read_head():
                        return
                elif not self._read_body():
                    return
        except (Malformed, Refusal) as error:
            self._refused(error)

    def _read_head(self) -> bool:
        if not len(self._head) and not self._blank and self._waiting.startswith(b"\r\n"):
            self._waiting = self._waiting[2:]  # RFC 9112, 2.2: one empty line before a request
            self._blank = True
        if not len(self._head) and self._waiting in (b"", b"\r"):
            return False
        if not len(self._head):
            self._id += 1
            self._request = RequestLine(b"", b"", 1, [])
        head, taken = self._head.feed(self._waiting)
        self._waiting = self._waiting[taken:]
        if head is None:
            return False
        self._blank = False
        request = self._request = parse_request(head)
        checks.check_method(request.method)
        checks.check_target(request.method, request.target)
        hosts = [value for name, value in request.fields if name.lower() == b"host"]
        if len(hosts) != 1:
            raise Malformed("there is not exactly one Host field")
        place = self._substitution
        checks.check_authority(hosts[0], place.host, place.port, tls=place.tls)
        if tokens(request.fields, b"expect") not in ([], [b"100-continue"]):
            raise Malformed("what is expected is not `100-continue`", 417)
        if not set(tokens(request.fields, b"connection")) <= _CONNECTION:
            raise Malformed("the Connection field names other fields")
        self._state = _Guest.HELD
        self._events.append(
            RequestHead(
                self._id,
                request.method.decode("latin-1"),
                request.target.decode("latin-1"),
                hosts[0].decode("latin-1"),
                list(request.fields),
                f"HTTP/1.{request.minor}",
            )
        )
        return False

    def _send_head(self) -> None:
        request, place = self._request, self._substitution
        fields = _steady(request)
        websocket = value_of(fields, b"upgrade") != b""
        made = place.head(request.target, fields)
        self._body = None
        if request.length:
            self._body = request_body(
                place,
                value_of(fields, b"content-type").decode("latin-1"),
                b",".join(tokens(fields, b"content-encoding")).decode("latin-1"),
                self._saw,
            )
        masks = masking(place)
        if place.masked():
            made.fields = [
                *without(made.fields, *UNMASKABLE),
                (b"Accept-Encoding", b"identity"),
            ]
        for use in made.uses:
            self._saw(use)
        self._chunked = request.length < 0
        self._reader = ChunkReader() if self._chunked else LengthReader(request.length)
        self._size, self._held_body, self._held_head = 0, [], None
        first = b"%b %b HTTP/1.%d" % (request.method, made.target, request.minor)
        changes = self._body is not None and not self._body.same_length and not self._chunked
        if changes:
            made.fields = without(made.fields, b"content-length")
            if request.length > BUFFERED_BODY or value_of(fields, b"expect"):
                if request.minor == 0:
                    raise Malformed("the body is too long for HTTP/1.0 with a secret in it", 413)
                self._chunked = True
                made.fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                self._held_head = (first, made.fields)
        self._sent += 1
        self._answers.expect(self._id, request.method, request.minor, masks, websocket=websocket)
        if self._held_head is None:
            self._to_upstream.put(written(first, made.fields))
        self._state = _Guest.BODY

    def _read_body(self) -> bool:
        if not self._reader.done and not self._waiting:
            return False
        data = self._waiting
        pieces, taken = self._reader.read(memoryview(data))
        self._waiting = data[taken:] if taken < len(data) else b""
        for piece in pieces:
            self._size += len(piece)
            self._put_body(self._body.feed(piece) if self._body is not None else piece)
        if not self._reader.done:
            return False
        if self._body is not None:
            self._put_body(self._body.finish())
        if self._held_head is not None:
            first, fields = self._held_head
            size = sum(map(len, self._held_body))
            self._to_upstream.put(written(first, [*fields, (b"Content-Length", b"%d" % size)]))
            for one in self._held_body:
                self._to_upstream.put(one)
            self._held_head, self._held_body = None, []
        elif self._chunked:
            self._to_upstream.put(last_chunk(self._reader.trailers))
        self._state = _Guest.ANSWER
        self._events.append(RequestEnded(self._id, self._size))
        return True

    def _put_body(self, data: Buffer) -> None:
        if not data:
            return
        if self._held_head is not None:
            self._held_body.append(bytes(data))
        elif self._chunked:
            self._to_upstream.put(chunk(len(data)))
            self._to_upstream.put(data)
            self._to_upstream.put(b"\r\n")
        else:
            self._to_upstream.put(data)

    # ends

    def _raw(self, data: bytes) -> None:
        """What the upstream says after it changed to a WebSocket."""
        if self._frames is not None:
            try:
                data = self._frames.feed(data)
            except Malformed as error:
                self._abort(error.reason, "upstream")
                return
        self._to_guest.put(data)

    def _after_answer(self) -> None:
        """Whether the answer is complete, and what comes then."""
        if self._answers.upgraded:
            self._state = _Guest.RAW
            if masking(self._substitution):
                self._frames = MaskedFrames(lambda: masking(self._substitution))
            self._raw(self._answers.rest)
            self._to_upstream.put(self._waiting)
            self._waiting = b""
            self._events.append(Upgraded(self._id, "websocket"))
            if self._closed:
                self.upstream_ended = True
        elif self._answers.complete:
            self._answers.complete = False
            early = self._state is _Guest.BODY
            if early or self._closed or not self._answers.reusable or self.upstream_ended:
                if early:
                    self._events.append(
                        Aborted(self._id, "the answer came before the request's end", "upstream")
                    )
                self._end()
            elif self._state is _Guest.ANSWER:
                self._state = _Guest.HEAD
                self._advance()

    def _refused(self, error: Malformed | Refusal) -> None:
        """Answer in the upstream's place, if nothing of its answer was passed on, and end."""
        blame = "guest" if isinstance(error, Malformed) else "policy"
        hint = error.hint if isinstance(error, Refusal) else ""
        if isinstance(error, Refusal) and error.use is not None:
            self._saw(error.use)
        self._events.append(Refused(self._id, error.status, error.reason, blame, hint))
        self._answer(error.status, error.reason)
        self._end()

    def _upstream_failed(self, reason: str) -> None:
        text = f"the answer of {self._substitution.host} is not HTTP as it should be: {reason}"
        if self._answers.begun or not self._answers.pending:
            self._abort(text, "upstream")
        else:
            self._events.append(Refused(self._id, 502, text, "upstream"))
            self._answer(502, text)
            self._end()

    def _answer(self, status: int, reason: str) -> None:
        if self._answers.begun:
            self.abort_guest = True
            return
        text = checks.refusal_text(reason)
        body = b"" if self._request.method == b"HEAD" else text
        fields = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(text)),
            (b"Connection", b"close"),
        ]
        phrase = checks.PHRASES.get(status, b"Refused")
        self._to_guest.put(written(b"HTTP/1.1 %d %b" % (status, phrase), fields))
        self._to_guest.put(body)

    def _abort(self, reason: str, blame: str) -> None:
        self._events.append(Aborted(self._id, reason, blame))
        self.abort_guest = True
        self._end()

    def _end(self) -> None:
        self._state = _Guest.ENDED
        self._waiting = b""
        self.guest_ended = self.upstream_ended = True

    def _saw(self, use: Use) -> None:
        self._events.append(SecretSeen(self._id, use))

    def _told(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _steady(request: RequestLine) -> list[tuple[bytes, bytes]]:
    """The fields of a request as they go on: no upgrade but to a WebSocket."""
    fields = request.fields
    upgrade = tokens(fields, b"upgrade")
    websocket = upgrade == [b"websocket"] and request.method == b"GET" and request.length == 0
    if request.minor == 0:
        websocket = False
    options = tokens(fields, b"connection")
    if not upgrade and b"http2-settings" not in options and b"upgrade" not in options:
        return without(fields, b"http2-settings", b"proxy-connection")
    kept = [one for one in options if one != b"http2-settings" and (websocket or one != b"upgrade")]
    dropped = [b"http2-settings", b"proxy-connection"]
    if not websocket:
        dropped.append(b"upgrade")
    if kept == options:
        return without(fields, *dropped)
    fields = without(fields, b"connection", *dropped)
    if kept:
        fields.append((b"Connection", b", ".join(kept)))
    return fields
