"""One HTTP/2 connection of a guest, joined stream to stream with the one made to the upstream."""

from __future__ import annotations

from collections.abc import Sequence

from sandlot.network.http.events import (
    Aborted,
    Buffer,
    Event,
    RequestEnded,
    RequestHead,
    ResponseEnded,
    ResponseHead,
    SecretSeen,
)
from sandlot.network.http.frames import Code, ConnectionFault
from sandlot.network.http.h2_fields import read_request, read_response, read_trailers
from sandlot.network.http.h2_joined import MAX_STREAMS, Joined
from sandlot.network.http.h2_stream import Stream
from sandlot.network.http.head import Malformed, tokens, value_of, without
from sandlot.network.http.leg import (
    Data,
    GoneAway,
    Headers,
    Reset,
    Windows,
)
from sandlot.secrets.bodies import UNMASKABLE, masking, request_body, response_body
from sandlot.secrets.replacer import Replacer
from sandlot.secrets.substitution import Fields, Refusal

MAX_INTERIM = 32
MAX_OWED = 8 * 1024 * 1024
"""Bytes that wait for one side, before nothing more is read of it: it takes no answers."""
_NOT_PASSED = (b"alt-svc",)


class Http2Exchange(Joined):
    """See `events.Exchange`. `substitution` names the host, and says what it may have."""

    # the seam

    @property
    def wants_guest(self) -> bool:
        return not self.guest_ended and self._to_guest.size < MAX_OWED

    @property
    def wants_upstream(self) -> bool:
        return not self.upstream_ended and self._to_upstream.size < MAX_OWED

    def take_guest(self) -> Sequence[Buffer]:
        return self._to_guest.take()

    def take_upstream(self) -> Sequence[Buffer]:
        return self._to_upstream.take()

    def receive_guest(self, data: bytes) -> list[Event]:
        if self.guest_ended:
            return []
        try:
            for event in self._guest.receive(data):
                match event:
                    case Headers():
                        self._guest_headers(event)
                    case Data():
                        self._guest_data(event)
                    case Reset(stream=number, code=code):
                        self._guest_reset(number, code)
                    case Windows():
                        self._grown = True
                    case GoneAway():
                        self._leaving = True
            self._settle()
        except ConnectionFault as error:
            self._guest_fault(error)
        return self._told()

    def receive_upstream(self, data: bytes) -> list[Event]:
        if self.upstream_ended:
            return []
        try:
            for event in self._upstream.receive(data):
                match event:
                    case Headers() | Data():
                        self._upstream_part(event)
                    case Reset(stream=number, code=code):
                        self._upstream_reset(number, code)
                    case Windows():
                        self._grown = True
                    case GoneAway(last=last, code=code):
                        self._upstream_leaves(last, code)
            self._settle()
        except ConnectionFault as error:
            self._upstream_lost(f"it broke the rules of HTTP/2: {error.reason}")
        return self._told()

    def guest_closed(self) -> list[Event]:
        if not self.guest_ended:
            for stream in list(self._streams.values()):
                self._abort(stream, "the guest closed", "guest")
            self._end()
        return self._told()

    def upstream_closed(self, *, clean: bool) -> list[Event]:
        if not self.upstream_ended:
            self._upstream_lost("it closed the connection")
        return self._told()

    def proceed(self, id: int) -> list[Event]:
        stream = self._streams.get(id)
        if stream is not None and stream.held and not self.guest_ended:
            try:
                try:
                    self._start(stream)
                except (Refusal, Malformed) as error:
                    self._refuse(stream, error)
                self._settle()
            except ConnectionFault as error:
                self._guest_fault(error)
        return self._told()

    def refuse(self, id: int, reason: str, *, status: int = 403, hint: str = "") -> list[Event]:
        stream = self._streams.get(id)
        if stream is not None and stream.held and not self.guest_ended:
            try:
                self._refuse(stream, Refusal(reason, hint, status=status))
                self._settle()
            except ConnectionFault as error:
                self._guest_fault(error)
        return self._told()

    # requests

    def _guest_headers(self, event: Headers) -> None:
        number = event.stream
        stream = self._streams.get(number)
        if stream is not None:
            self._guest_trailers(stream, event)
            return
        if number % 2 == 0:
            raise ConnectionFault("a stream has a number that is not the guest's")
        if number <= self._last:
            self._guest.spend()  # given up here, and still underway there
            return
        self._last = number
        if self._leaving or len(self._streams) >= min(MAX_STREAMS, self._upstream.max_streams):
            self._guest.spend()
            self._guest.reset(number, Code.REFUSED_STREAM)
            return
        stream = Stream(number, self._guest.open(number))
        stream.request_ended = event.end
        place = self._place
        self._streams[number] = stream
        try:
            stream.request = read_request(event.fields, place.host, place.port, tls=place.tls)
        except Malformed as error:
            self._refuse(stream, error)
            return
        request = stream.request
        self._touched.add(number)
        self._events.append(
            RequestHead(
                number,
                request.method.decode("latin-1"),
                request.path.decode("latin-1"),
                request.authority.decode("latin-1"),
                list(request.fields),
                "HTTP/2",
            )
        )
        if event.end and request.length:
            self._refuse(stream, Malformed("the body is shorter than the length that is said"))

    def _guest_trailers(self, stream: Stream, event: Headers) -> None:
        if stream.request_ended or not event.end:
            raise ConnectionFault("header fields in the middle of a request")
        try:
            stream.up.trailers = read_trailers(event.fields)
            self._request_ends(stream)
        except (Malformed, Refusal) as error:
            self._refuse(stream, error)

    def _guest_data(self, event: Data) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            if event.stream > self._last or event.stream % 2 == 0:
                raise ConnectionFault("data of a stream that was not opened")
            return
        if stream.request_ended:
            raise ConnectionFault("data after the end of its stream", Code.STREAM_CLOSED)
        stream.request_size += len(event.data)
        if event.data:
            self._upstream.progress()
        self._touched.add(stream.number)
        try:
            length = stream.request.length
            if length is not None and stream.request_size > length:
                raise Malformed("the body is longer than the length that is said")
            if stream.reset_after:
                return
            if stream.held:
                stream.up.put(bytes(event.data))
            else:
                body = stream.body
                stream.up.put(event.data if body is None else body.feed(event.data))
            if event.end:
                self._request_ends(stream)
            elif not stream.held:
                self._flush_up(stream)
        except (Malformed, Refusal) as error:
            self._refuse(stream, error)

    def _request_ends(self, stream: Stream) -> None:
        length = stream.request.length
        if length is not None and stream.request_size != length:
            raise Malformed("the body is shorter than the length that is said")
        stream.request_ended = True
        if stream.held:
            return
        if stream.body is not None:
            stream.up.put(stream.body.finish())
        stream.up.complete = True
        self._events.append(RequestEnded(stream.number, stream.request_size))
        self._flush_up(stream)

    def _start(self, stream: Stream) -> None:
        """Send a request's head on, and what of its body has waited for that."""
        request, place = stream.request, self._place
        made = place.head(request.path, request.fields)
        uses = list(made.uses)
        for use in uses:
            self._events.append(SecretSeen(stream.number, use))
        if not stream.request_ended or stream.up.queued:
            stream.body = request_body(
                place,
                value_of(request.fields, b"content-type").decode("latin-1"),
                b",".join(tokens(request.fields, b"content-encoding")).decode("latin-1"),
                lambda use: self._events.append(SecretSeen(stream.number, use)),
            )
        fields = made.fields
        hidden = {
            name
            for (name, value), (_, before) in zip(fields, request.fields, strict=True)
            if value != before
        }
        if made.target != request.path:
            hidden.add(b":path")
        if stream.body is not None and not stream.body.same_length:
            fields = without(fields, b"content-length")
        if place.masked():
            fields = [*without(fields, *UNMASKABLE), (b"accept-encoding", b"identity")]
        stream.masks = masking(place)
        waited = stream.up.take()
        if stream.body is not None:
            waited = [bytes(stream.body.feed(piece)) for piece in waited]
        stream.held = False
        number = stream.upstream_number = self._next
        self._next += 2
        self._by_upstream[number] = stream
        stream.upstream_window = self._upstream.open(number)
        ended = stream.request_ended and not waited and not stream.up.trailers
        pseudo = [
            (b":method", request.method),
            (b":scheme", b"https" if place.tls else b"http"),
            (b":authority", request.authority),
            (b":path", made.target),
        ]
        self._upstream.headers(number, [*pseudo, *fields], end=ended, secret=frozenset(hidden))
        stream.up.ended = ended
        for piece in waited:
            stream.up.put(piece)
        self._touched.add(stream.number)
        if ended:
            stream.up.complete = True
            self._events.append(RequestEnded(stream.number, 0))
        elif stream.request_ended:
            self._request_ends(stream)
        else:
            self._flush_up(stream)

    def _guest_reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last:
                raise ConnectionFault("a stream is given up that was not opened")
            return
        self._guest.streams.pop(number, None)
        self._abort(stream, f"the guest gave it up ({code})", "guest", code)

    # answers

    def _upstream_part(self, event: Headers | Data) -> None:
        stream = self._by_upstream.get(event.stream)
        if stream is None:
            if event.stream >= self._next or event.stream % 2 == 0:
                raise ConnectionFault("it answers on a stream that was not opened")
            return
        self._touched.add(stream.number)
        try:
            if stream.response_ended:
                raise Malformed("it goes on after its end")
            if isinstance(event, Headers):
                self._upstream_headers(stream, event)
            else:
                self._upstream_data(stream, event)
        except (Malformed, Refusal) as error:
            self._response_fault(stream, error.reason)

    def _upstream_headers(self, stream: Stream, event: Headers) -> None:
        if stream.response_begun:
            if not event.end:
                raise Malformed("header fields in the middle of an answer")
            stream.down.trailers = self._masked(stream, read_trailers(event.fields))
            self._response_ends(stream)
            return
        status, fields, _ = read_response(event.fields)
        fields = self._masked(stream, without(fields, *_NOT_PASSED))
        if status < 200:
            stream.interim += 1
            if event.end or stream.interim > MAX_INTERIM:
                raise Malformed("interim answers without end")
            self._guest.headers(stream.number, [(b":status", b"%d" % status), *fields], end=False)
            return
        if not event.end and stream.masks:
            encoding = b",".join(tokens(fields, b"content-encoding")).decode("latin-1")
            stream.response_body = response_body(stream.masks, encoding)
            if stream.response_body is not None and not stream.response_body.same_length:
                fields = without(fields, b"content-length")
        stream.response_begun = True
        self._upstream.progress()
        self._events.append(ResponseHead(stream.number, status, fields))
        self._guest.headers(stream.number, [(b":status", b"%d" % status), *fields], end=event.end)
        if event.end:
            stream.down.ended = True
            self._response_ends(stream)

    def _upstream_data(self, stream: Stream, event: Data) -> None:
        if not stream.response_begun:
            raise Malformed("data before header fields")
        stream.response_size += len(event.data)
        if event.data:
            self._guest.progress()
        body = stream.response_body
        stream.down.put(event.data if body is None else body.feed(event.data))
        if event.end:
            self._response_ends(stream)
        else:
            self._flush_down(stream)

    def _response_ends(self, stream: Stream) -> None:
        if stream.response_body is not None:
            stream.down.put(stream.response_body.finish())
        stream.response_ended = stream.down.complete = True
        self._events.append(ResponseEnded(stream.number, stream.response_size))
        self._flush_down(stream)
        self._guest.progress()

    def _masked(self, stream: Stream, fields: Fields) -> Fields:
        if not stream.masks:
            return fields
        made: Fields = []
        for name, value in fields:
            replacer = Replacer(stream.masks)
            made.append((name, bytes(replacer.feed(value)) + replacer.finish()))
        return made

    def _upstream_reset(self, number: int, code: int) -> None:
        stream = self._by_upstream.get(number)
        if stream is None:
            return
        self._upstream.streams.pop(number, None)
        self._by_upstream.pop(number, None)
        stream.upstream_number = 0
        if stream.response_ended:  # the answer is whole: the rest of the request is not wanted
            stream.up.drop()
            stream.up.ended = True
            stream.reset_after = not stream.request_ended
            self._flush_down(stream)
            self._touched.add(stream.number)
        else:
            self._events.append(
                Aborted(stream.number, f"the upstream gave it up ({code})", "upstream")
            )
            self._guest.reset(stream.number, code)
            self._forget(stream)

    def _upstream_leaves(self, last: int, code: int) -> None:
        if not self._leaving:
            self._guest.goaway(self._last, code)
        self._leaving = True
        for number, stream in list(self._by_upstream.items()):
            if number > last:
                self._events.append(Aborted(stream.number, "the upstream leaves", "upstream"))
                self._guest.reset(stream.number, Code.REFUSED_STREAM)
                self._forget(stream)
        for stream in list(self._streams.values()):
            if stream.held:
                self._guest.reset(stream.number, Code.REFUSED_STREAM)
                self._forget(stream)
