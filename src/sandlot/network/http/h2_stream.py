"""One stream of HTTP/2 on its way through: what is known of it, and what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from sandlot.network.http.events import Buffer
from sandlot.network.http.h2_fields import RequestFields
from sandlot.network.http.leg import Leg, Window
from sandlot.secrets.bodies import Body
from sandlot.secrets.substitution import Fields

_JOINED = 4096


class Flow:
    """One direction of a stream: payload that waits for a window, and how it ends."""

    __slots__ = ("complete", "ended", "pieces", "queued", "trailers")

    def __init__(self) -> None:
        self.pieces: deque[Buffer] = deque()
        self.queued = 0
        self.trailers: Fields = []
        self.complete = False
        """Nothing more is put."""
        self.ended = False
        """All was sent, and that it was all."""

    def put(self, data: Buffer) -> None:
        """Something to be sent."""
        if not data:
            return
        self.queued += len(data)
        if self.pieces and len(self.pieces[-1]) + len(data) <= _JOINED:
            self.pieces[-1] = b"".join((self.pieces[-1], data))
        else:
            self.pieces.append(data)

    def take(self) -> list[Buffer]:
        """All that waits."""
        pieces = list(self.pieces)
        self.drop()
        return pieces

    def drop(self) -> None:
        """Forget what waits."""
        self.pieces.clear()
        self.queued = 0

    def send(self, leg: Leg, number: int) -> None:
        """Send to the leg's peer what its windows take."""
        while self.pieces:
            room = min(leg.window.out, leg.streams[number].out)
            if room <= 0:
                # it stays for long: without the rest of what it came in
                self.pieces[-1] = bytes(self.pieces[-1])
                return
            piece = self.pieces.popleft()
            if len(piece) > room:
                self.pieces.appendleft(memoryview(piece)[room:])
                piece = memoryview(piece)[:room]
            self.queued -= len(piece)
            self.ended = self.complete and not self.pieces and not self.trailers
            leg.data(number, piece, end=self.ended)
        if self.complete and not self.ended:
            self.ended = True
            if self.trailers:
                leg.headers(number, self.trailers, end=True)
            else:
                leg.data(number, b"", end=True)


class Stream:
    """One request and its answer. `number` is the guest's, `upstream_number` ours, 0 before."""

    def __init__(self, number: int, guest_window: Window) -> None:
        self.number = number
        self.upstream_number = 0
        self.guest_window = guest_window
        self.upstream_window = Window(0)
        self.request = RequestFields(b"", b"", b"", [], None)
        self.held = True
        """It waits for `proceed`."""
        self.request_ended = False
        """The guest sends no more of it."""
        self.request_size = 0
        self.body: Body | None = None
        self.up, self.down = Flow(), Flow()
        self.masks: Mapping[bytes, bytes] = {}
        self.interim = 0
        self.response_begun = False
        self.response_ended = False
        """The upstream sends no more of it."""
        self.response_size = 0
        self.response_body: Body | None = None
        self.reset_after = False
        """The upstream does not want the rest of the request."""
