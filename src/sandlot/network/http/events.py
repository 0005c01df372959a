"""What an exchange tells, and the seam that both exchanges have.

    exchange = Http1Exchange(substitution)              # or Http2Exchange
    while True:
        events = exchange.receive_guest(data)           # or receive_upstream
        for event in events:
            if isinstance(event, RequestHead):          # held until one of the two is called
                await vault.refresh(host, port)
                events += exchange.proceed(event.id)    # or exchange.refuse(event.id, reason)
        guest.write(exchange.take_guest()); upstream.write(exchange.take_upstream())
        if exchange.guest_ended: ...                    # close that side once all is written
        read_guest = exchange.wants_guest               # False: read nothing more from it now

Nothing is raised: whatever either side does wrong becomes an event, an answer, and an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sandlot.secrets.substitution import Fields, Use

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request came, as the guest sent it: with placeholders. It is held until `proceed`."""

    id: int
    method: str
    target: str
    authority: str
    fields: Fields
    version: str


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """All of a request was sent on. `size` is that of its body, as the guest sent it."""

    id: int
    size: int


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The answer began; `fields` as the guest gets them. Interim answers (1xx) are not told."""

    id: int
    status: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    """All of the answer was passed on. `size` is that of its body, as it came."""

    id: int
    size: int


@dataclass(frozen=True, slots=True)
class SecretSeen:
    """A placeholder was found in a request; `use.replaced` says whether the value went out."""

    id: int
    use: Use


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was not sent on, or not to its end; the guest got this answer if it still could.

    `blame` is who is at fault: `guest`, `upstream`, or `policy` (a secret or a hook says no).
    """

    id: int
    status: int
    reason: str
    blame: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Aborted:
    """An exchange ended in the middle."""

    id: int
    reason: str
    blame: str


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From now on bytes are relayed as they are: a WebSocket. Nothing is replaced in it."""

    id: int
    protocol: str


Event = (
    RequestHead | RequestEnded | ResponseHead | ResponseEnded | SecretSeen | Refused | Aborted
    | Upgraded
)  # fmt: skip


class Exchange(Protocol):
    """One connection of a guest and the one upstream connection made for it."""

    guest_ended: bool
    """Close the guest's side when everything is written."""
    upstream_ended: bool
    """Close the upstream's side when everything is written."""
    abort_guest: bool
    """The guest must see that it is incomplete: close without the TLS farewell."""

    @property
    def wants_guest(self) -> bool:
        """Whether more bytes of the guest can be taken now."""

    @property
    def wants_upstream(self) -> bool:
        """Whether more bytes of the upstream can be taken now."""

    def receive_guest(self, data: bytes) -> list[Event]:
        """Bytes of the guest, after TLS."""

    def receive_upstream(self, data: bytes) -> list[Event]:
        """Bytes of the upstream, after TLS."""

    def guest_closed(self) -> list[Event]:
        """The guest sends no more."""

    def upstream_closed(self, *, clean: bool) -> list[Event]:
        """The upstream sends no more; `clean` when TLS said so and not only the socket."""

    def proceed(self, id: int) -> list[Event]:
        """Send a request on that was held. An unknown id is one that ended meanwhile."""

    def refuse(self, id: int, reason: str, *, status: int = 403, hint: str = "") -> list[Event]:
        """Answer a request that was held, and do not send it."""

    def take_guest(self) -> Sequence[Buffer]:
        """What is to be written to the guest now."""

    def take_upstream(self) -> Sequence[Buffer]:
        """What is to be written to the upstream now."""


class Outbox:
    """What is to be written to one side."""

    def __init__(self) -> None:
        self._pieces: list[Buffer] = []
        self.size = 0
        """Bytes that wait to be taken."""

    def put(self, data: Buffer) -> None:
        """Add a piece."""
        if data:
            self._pieces.append(data)
            self.size += len(data)

    def take(self) -> list[Buffer]:
        """All of it, joined: one copy costs less than a TLS record for each small piece."""
        pieces, self._pieces, self.size = self._pieces, [], 0
        return [b"".join(pieces)] if len(pieces) > 1 else pieces
