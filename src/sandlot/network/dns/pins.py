"""Pins: which names an address was given to this sandbox for, and until when.

A pin outlives the TTL that the guest was told by `GRACE`, since programs keep addresses a little
longer than they may. An address without a pin has no name, and no rule on names opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from sandlot.network.addresses import canonical
from sandlot.network.flow import Address

GRACE = 600.0  # seconds
MOST_PINS = 4096
MOST_NAMES = 32  # for one address: hosts of one content network share theirs
MOST_ADDRESSES = 256  # for one name: the oldest goes
_SWEEP_EVERY = 30.0  # seconds; not more often, however fast new names are asked for


class Pins:
    """The pins of one sandbox. Times are seconds of any clock that only goes forward.

    When all places are taken, what has expired goes first; then the oldest pin of the domain that
    has the most. So a program that looks up endless names below one domain loses pins of that
    domain, not those of others.
    """

    def __init__(self, most: int = MOST_PINS) -> None:
        self._most = most
        self._names: dict[Address, dict[str, float]] = {}  # the newest last
        self._groups: dict[str, dict[tuple[str, Address], None]] = {}  # the oldest first
        self._held: dict[str, dict[Address, None]] = {}
        self._count = 0
        self._swept = float("-inf")

    def __len__(self) -> int:
        return self._count

    def pin(self, name: str, addresses: Iterable[Address], ttl: float, now: float) -> None:
        """An answer with these addresses goes to the guest, which may keep them for `ttl` seconds."""
        for address in addresses:
            self._put(name, canonical(address), now + ttl + GRACE, now)

    def used(self, name: str, address: Address, now: float) -> None:
        """A flow to the address was opened by this name, or still is: it stays pinned for a while."""
        real = canonical(address)
        if name in self._names.get(real, ()):
            self._put(name, real, now + GRACE, now)

    def names_for(self, address: Address, now: float) -> tuple[str, ...]:
        """The names that the address was given for, the last one first."""
        names = self._names.get(canonical(address), {})
        return tuple(name for name, until in reversed(names.items()) if until > now)

    def name_for(self, address: Address, now: float) -> str | None:
        """The name that the address was last given for."""
        return next(iter(self.names_for(address, now)), None)

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget every name that is not wanted any more, as after a change of the policy."""
        for name in [name for name in self._held if not wanted(name)]:
            for address in list(self._held[name]):
                self._drop(name, address)

    def to_json(self, now: float) -> list[list[Any]]:
        """Names, addresses and the seconds that each has left, for a snapshot."""
        return [
            [name, str(address), round(until - now, 3)]
            for address, names in self._names.items()
            for name, until in names.items()
            if until > now
        ]

    @classmethod
    def from_json(cls, data: Iterable[Iterable[Any]], now: float, most: int = MOST_PINS) -> Pins:
        """What `to_json` gave, at another time. The time between does not count."""
        pins = cls(most)
        for name, address, left in data:
            pins._put(str(name), canonical(ip_address(address)), now + float(left), now)
        return pins

    def _put(self, name: str, address: Address, until: float, now: float) -> None:
        names = self._names.get(address, {})
        if name in names:
            until = max(until, names[name])
            self._drop(name, address)
        else:
            self._make_room(name, address, now)
        self._names.setdefault(address, {})[name] = until
        self._groups.setdefault(_domain(name), {})[name, address] = None
        self._held.setdefault(name, {})[address] = None
        self._count += 1

    def _make_room(self, name: str, address: Address, now: float) -> None:
        names = self._names.get(address, {})
        if len(names) >= MOST_NAMES:
            self._drop(next(iter(names)), address)
        held = self._held.get(name, {})
        if len(held) >= MOST_ADDRESSES:
            self._drop(name, next(iter(held)))
        if self._count >= self._most and now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            self._sweep(now)
        if self._count >= self._most:
            largest = max(self._groups.values(), key=len)
            self._drop(*next(iter(largest)))

    def _sweep(self, now: float) -> None:
        for address, names in list(self._names.items()):
            for name in [name for name, until in names.items() if until <= now]:
                self._drop(name, address)

    def _drop(self, name: str, address: Address) -> None:
        del self._names[address][name]
        _discard(self._names, address)
        domain = _domain(name)
        del self._groups[domain][name, address]
        _discard(self._groups, domain)
        del self._held[name][address]
        _discard(self._held, name)
        self._count -= 1


def _discard(places: dict[Any, Any], key: Any) -> None:
    if not places[key]:
        del places[key]


def _domain(name: str) -> str:
    """What is counted together: the last two labels, about what one owner has."""
    return ".".join(name.rsplit(".", 2)[-2:])
