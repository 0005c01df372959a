"""What joins the two legs of an HTTP/2 exchange: streams, windows, and their ends.

Flow control is end to end. What the guest may send on a stream, and on all of them, is what the
upstream takes, less what waits here; and the same the other way. So little ever waits, and what
does is bounded by MAX_UP and MAX_DOWN, whatever either side announces.
"""

from __future__ import annotations

from sandlot.network.http import checks
from sandlot.network.http.events import Aborted, Event, Outbox, Refused, SecretSeen
from sandlot.network.http.frames import Code, ConnectionFault, Setting
from sandlot.network.http.h2_stream import Stream
from sandlot.network.http.head import Malformed
from sandlot.network.http.leg import MAX_BLOCK, TABLE, Leg
from sandlot.secrets.substitution import Refusal, Substitution

MAX_STREAMS = 100
MAX_UP = 1024 * 1024
"""Bytes of requests that may wait for the upstream, of one connection."""
MAX_DOWN = 4 * 1024 * 1024
"""Bytes of answers that may wait for the guest, of one connection."""


class Joined:
    """Two legs and the streams between them. `h2.Http2Exchange` says what goes where."""

    def __init__(self, substitution: Substitution) -> None:
        self.guest_ended = self.upstream_ended = self.abort_guest = False
        self._place = substitution
        self._to_guest, self._to_upstream = Outbox(), Outbox()
        common = {Setting.HEADER_TABLE_SIZE: TABLE, Setting.MAX_HEADER_LIST_SIZE: MAX_BLOCK}
        self._guest = Leg(
            self._to_guest, server=True,
            values={**common, Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS},
        )  # fmt: skip
        self._upstream = Leg(
            self._to_upstream, server=False, values={**common, Setting.ENABLE_PUSH: 0}
        )
        self._streams: dict[int, Stream] = {}
        self._by_upstream: dict[int, Stream] = {}
        self._touched: set[int] = set()
        self._grown = False  # a window has grown, or settings came
        self._told_streams = MAX_STREAMS
        self._last = 0  # the guest's latest stream
        self._next = 1  # our next stream to the upstream
        self._leaving = False  # one of both said that it goes
        self._events: list[Event] = []

    # windows

    def _flush_up(self, stream: Stream) -> None:
        if stream.upstream_number and not stream.up.ended:
            stream.up.send(self._upstream, stream.upstream_number)

    def _flush_down(self, stream: Stream) -> None:
        if not stream.down.ended:
            stream.down.send(self._guest, stream.number)

    def _flush_all(self) -> None:
        """Windows have grown: send what waits, as far as they reach."""
        for stream in self._streams.values():
            self._touched.add(stream.number)
            self._flush_up(stream)
            self._flush_down(stream)

    def _settle(self) -> None:
        """Let both sides send what the other takes; forget the streams that are over."""
        if self._grown:  # once for all frames that came together: each may name every stream
            self._grown = False
            self._fewer_streams()
            self._flush_all()
        waiting_up = waiting_down = 0
        for stream in self._streams.values():
            waiting_up += stream.up.queued
            waiting_down += stream.down.queued
        for number in self._touched:
            touched = self._streams.get(number)
            if touched is None:
                continue
            if touched.up.ended and touched.down.ended:
                if touched.reset_after:
                    self._guest.reset(number, Code.NO_ERROR)
                self._forget(touched)
                continue
            if not touched.request_ended:
                started = touched.upstream_number
                takes = touched.upstream_window.out if started else self._upstream.initial
                self._guest.grant(
                    number, touched.guest_window, min(takes, MAX_UP) - touched.up.queued
                )
            if touched.upstream_number and not touched.response_ended:
                self._upstream.grant(
                    touched.upstream_number,
                    touched.upstream_window,
                    min(touched.guest_window.out, MAX_DOWN) - touched.down.queued,
                )
        self._touched.clear()
        guest, upstream = self._guest, self._upstream
        guest.grant(0, guest.window, min(upstream.window.out, MAX_UP) - waiting_up)
        upstream.grant(0, upstream.window, min(guest.window.out, MAX_DOWN) - waiting_down)
        if self._leaving and not self._streams:
            self._end()

    def _fewer_streams(self) -> None:
        """Tell the guest how many streams the upstream takes."""
        takes = min(MAX_STREAMS, self._upstream.max_streams)
        if takes != self._told_streams:
            self._told_streams = takes
            self._guest.settings({Setting.MAX_CONCURRENT_STREAMS: takes})

    # ends

    def _refuse(self, stream: Stream, error: Malformed | Refusal) -> None:
        """Answer in the upstream's place."""
        blame = "guest" if isinstance(error, Malformed) else "policy"
        hint = error.hint if isinstance(error, Refusal) else ""
        if isinstance(error, Refusal) and error.use is not None:
            self._events.append(SecretSeen(stream.number, error.use))
        self._events.append(Refused(stream.number, error.status, error.reason, blame, hint))
        self._guest.spend()
        self._answer(stream, error.status, error.reason)

    def _response_fault(self, stream: Stream, reason: str) -> None:
        text = f"the answer of {self._place.host} is not HTTP/2 as it should be: {reason}"
        if stream.response_begun:
            self._events.append(Aborted(stream.number, text, "upstream"))
        else:
            self._events.append(Refused(stream.number, 502, text, "upstream"))
        self._answer(stream, 502, text)

    def _answer(self, stream: Stream, status: int, reason: str) -> None:
        """End a stream: with an answer if none was begun and it fits, and give it up upstream."""
        number = stream.number
        if stream.response_begun:
            self._guest.reset(number, Code.INTERNAL_ERROR)
        else:
            text = checks.refusal_text(reason)
            if stream.request.method == b"HEAD" or len(text) > min(
                stream.guest_window.out, self._guest.window.out
            ):
                text = b""
            fields = [
                (b":status", b"%d" % status),
                (b"content-type", b"text/plain; charset=utf-8"),
            ]
            self._guest.headers(number, fields, end=not text)
            if text:
                self._guest.data(number, text, end=True)
            if not stream.request_ended:
                self._guest.reset(number, Code.NO_ERROR)
        self._give_up(stream)
        self._forget(stream)

    def _abort(self, stream: Stream, reason: str, blame: str, code: int = Code.CANCEL) -> None:
        self._events.append(Aborted(stream.number, reason, blame))
        self._give_up(stream, code)
        self._forget(stream)

    def _give_up(self, stream: Stream, code: int = Code.CANCEL) -> None:
        done = stream.up.ended and stream.response_ended
        if stream.upstream_number and not done:
            self._upstream.reset(stream.upstream_number, code)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)
        self._guest.streams.pop(stream.number, None)
        if stream.upstream_number:
            self._by_upstream.pop(stream.upstream_number, None)
            self._upstream.streams.pop(stream.upstream_number, None)

    def _guest_fault(self, error: ConnectionFault) -> None:
        self._events.append(Refused(self._last, 400, error.reason, "guest"))
        for stream in list(self._streams.values()):
            self._abort(stream, "the guest broke the rules of HTTP/2", "guest")
        self._guest.goaway(self._last, error.code, error.reason.encode())
        self._end()

    def _upstream_lost(self, reason: str) -> None:
        for stream in list(self._streams.values()):
            stream.upstream_number = 0
            self._response_fault(stream, reason)
        self._guest.goaway(self._last, Code.NO_ERROR)
        self._end()

    def _end(self) -> None:
        self.guest_ended = self.upstream_ended = True

    def _told(self) -> list[Event]:
        events, self._events = self._events, []
        return events
