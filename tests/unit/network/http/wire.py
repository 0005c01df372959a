"""Drives an exchange as the gateway does, without sockets."""

from __future__ import annotations

from collections.abc import Iterable

from sandlot.network.http.events import Event, Exchange, RequestHead
from sandlot.secrets.secret import Secret
from sandlot.secrets.substitution import Bound, Substitution

HOST = "a.example"
VALUE = b"sk-the-real-value"
PLACEHOLDER = "sk-placeholder0123456789abcdef"
MARK = PLACEHOLDER.encode()


def place(
    *, host: str = HOST, value: bytes = VALUE, tls: bool = True, **more: object
) -> Substitution:
    """What the connection may have: one secret, for HOST."""
    secret = Secret(value, hosts=HOST, **more)  # type: ignore[arg-type]
    bound = Bound("KEY", secret, PLACEHOLDER, value)
    return Substitution([bound], host, 443 if tls else 80, tls)


class Wire:
    """Both ends of one exchange, and all that they got. Requests go on unless `hold`."""

    def __init__(self, exchange: Exchange, *, hold: bool = False) -> None:
        self.exchange = exchange
        self.hold = hold
        self.events: list[Event] = []
        self.guest = b""
        self.upstream = b""

    def send(self, data: bytes, size: int = 1 << 30) -> bytes:
        """The guest sends; what the upstream gets by that."""
        before = len(self.upstream)
        for at in range(0, len(data), size):
            self.took(self.exchange.receive_guest(data[at : at + size]))
        return self.upstream[before:]

    def answer(self, data: bytes, size: int = 1 << 30) -> bytes:
        """The upstream sends; what the guest gets by that."""
        before = len(self.guest)
        for at in range(0, len(data), size):
            self.took(self.exchange.receive_upstream(data[at : at + size]))
        return self.guest[before:]

    def took(self, events: Iterable[Event]) -> None:
        """Note what was told, and let requests go on."""
        waiting = list(events)
        while waiting:
            event = waiting.pop(0)
            self.events.append(event)
            if isinstance(event, RequestHead) and not self.hold:
                waiting += self.exchange.proceed(event.id)
        self.guest += b"".join(self.exchange.take_guest())
        self.upstream += b"".join(self.exchange.take_upstream())

    def told(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def over(self) -> bool:
        """Both sides are to be closed."""
        return self.exchange.guest_ended and self.exchange.upstream_ended
