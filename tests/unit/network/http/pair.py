"""A guest and an upstream that both are the h2 library, and an exchange between them."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from sandlot.network.http.h2 import Http2Exchange
from tests.unit.network.http.wire import HOST, Wire, place

Pairs = list[tuple[bytes, bytes]]


def ask(path: bytes = b"/", method: bytes = b"GET", *more: tuple[bytes, bytes]) -> Pairs:
    """A request's fields."""
    return [
        (b":method", method), (b":scheme", b"https"), (b":authority", HOST.encode()),
        (b":path", path), *more,
    ]  # fmt: skip


class Pair:
    """Pump bytes until nobody says anything more."""

    def __init__(self, *, hold: bool = False, loose: bool = False, **more: Any) -> None:
        self.place = place(**more)
        self.wire = Wire(Http2Exchange(self.place), hold=hold)
        self.guest = self._end(client=True, loose=loose)
        self.upstream = self._end(client=False, loose=loose)
        self.guest_saw: list[h2.events.Event] = []
        self.upstream_saw: list[h2.events.Event] = []
        self.flow = True  # whether both say that they have taken what they got
        self.guest.initiate_connection()
        self.upstream.initiate_connection()
        self.pump()

    @staticmethod
    def _end(*, client: bool, loose: bool) -> h2.connection.H2Connection:
        return h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=not loose,
                normalize_outbound_headers=not loose,
                validate_inbound_headers=True,
            )
        )

    def pump(self) -> None:
        """Carry bytes both ways."""
        wire, quiet = self.wire, False
        wire.took([])
        while not quiet:
            quiet = True
            said = self.guest.data_to_send()
            if said and not wire.exchange.guest_ended:
                wire.send(said)
                quiet = False
            said = self.upstream.data_to_send()
            if said and not wire.exchange.upstream_ended:
                wire.answer(said)
                quiet = False
            if wire.upstream:
                data, wire.upstream = wire.upstream, b""
                self._took(self.upstream, self.upstream_saw, data)
                quiet = False
            if wire.guest:
                data, wire.guest = wire.guest, b""
                self._took(self.guest, self.guest_saw, data)
                quiet = False

    def _took(
        self, end: h2.connection.H2Connection, saw: list[h2.events.Event], data: bytes
    ) -> None:
        for event in end.receive_data(data):
            saw.append(event)
            if self.flow and isinstance(event, h2.events.DataReceived):
                taken, stream = event.flow_controlled_length or 0, event.stream_id or 0
                end.acknowledge_received_data(taken, stream)

    def request(self, fields: Pairs, body: bytes | None = None) -> int:
        """The guest asks; the number of its stream."""
        stream = self.guest.get_next_available_stream_id()
        self.guest.send_headers(stream, fields, end_stream=body is None)
        self.pump()
        if body is not None:
            self.say(self.guest, stream, body, end_of_it=True)
        return stream

    def say(
        self, end: h2.connection.H2Connection, stream: int, data: bytes, *, end_of_it: bool
    ) -> None:
        """Send all of it, as the windows allow; no more of it once the stream was given up."""
        try:
            self._say(end, stream, data, end_of_it)
        except h2.exceptions.StreamClosedError:
            pass

    def _say(
        self, end: h2.connection.H2Connection, stream: int, data: bytes, end_of_it: bool
    ) -> None:
        while data:
            room = min(end.local_flow_control_window(stream), end.max_outbound_frame_size)
            assert room > 0, f"stuck with {len(data)} bytes left"
            end.send_data(stream, data[:room])
            data = data[room:]
            self.pump()
        if end_of_it:
            end.end_stream(stream)
            self.pump()

    def reply(
        self, stream: int, body: bytes = b"", *more: tuple[bytes, bytes], end: bool = True
    ) -> None:
        """The upstream answers."""
        self.upstream.send_headers(
            stream, [(b":status", b"200"), *more], end_stream=not body and end
        )
        self.pump()
        if body:
            self.say(self.upstream, stream, body, end_of_it=end)

    def fields(
        self, saw: list[h2.events.Event], kind: type[h2.events.Event], at: int = -1
    ) -> Pairs:
        """The header fields of an event of this kind."""
        found = [event for event in saw if isinstance(event, kind)]
        return [(bytes(name), bytes(value)) for name, value in found[at].headers]  # type: ignore[attr-defined]

    def data(self, saw: list[h2.events.Event], stream: int) -> bytes:
        """All payload of a stream."""
        return b"".join(
            event.data or b""
            for event in saw
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    def ended(self, saw: list[h2.events.Event]) -> list[int]:
        """The streams that ended."""
        return [e.stream_id for e in saw if isinstance(e, h2.events.StreamEnded) and e.stream_id]

    def resets(self, saw: list[h2.events.Event]) -> list[tuple[int | None, int]]:
        """The streams that were given up."""
        return [
            (e.stream_id, int(e.error_code or 0))
            for e in saw
            if isinstance(e, h2.events.StreamReset)
        ]
