"""Other sandboxes of the same user, as names and addresses that one sandbox reaches them by. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from sandlot.errors import ConfigError
from sandlot.network.flow import Address
from sandlot.network.names import ends_in_number, normalise
from sandlot.network.rules import HOST_NAME

PEER_ADDRESSES = IPv4Network("10.231.128.0/17")
"""What peers have in the guest. Nothing on the host has such an address because of it."""
MOST_PEERS = 1024
_RESERVED = {HOST_NAME, "localhost"}
_SANDBOX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HINT = 'use peers={"db": "shop-db"}, a host name and the sandbox that it leads to'


def checked_peers(given: object) -> Mapping[str, tuple[str, ...]]:
    """Names and the sandboxes behind each, from what `Network(peers=...)` may be.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"the network's peers is {given!r:.80}, not a mapping", hint=_HINT)
    if len(given) > MOST_PEERS:
        raise ConfigError(f"{len(given)} peers are more than {MOST_PEERS}")
    return {_name(name): _sandboxes(name, each) for name, each in given.items()}


def _name(name: object) -> str:
    try:
        spelled = normalise(name) if isinstance(name, str) else ""
    except ValueError as error:
        raise ConfigError(f"{name!r} is no name of a peer: {error}", hint=_HINT) from None
    if not spelled or spelled in _RESERVED or ends_in_number(spelled):
        raise ConfigError(f"{name!r} is no name of a peer", hint=_HINT)
    return spelled


def _sandboxes(name: object, given: object) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, Iterable):
        raise ConfigError(f"the peer {name} is {given!r:.80}, not a sandbox's name", hint=_HINT)
    found = tuple(listed)
    if not found or len(found) > MOST_PEERS:
        raise ConfigError(f"the peer {name} is {len(found)} sandboxes", hint=_HINT)
    for each in found:
        if not isinstance(each, str) or not _SANDBOX.fullmatch(each):
            raise ConfigError(f"{each!r:.80} of the peer {name} is no sandbox's name", hint=_HINT)
    return found


class PeerTable:
    """Which address stands for which peer, in one sandbox. A name keeps its address."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._names: dict[Address, str] = {}
        self._held: frozenset[str] = frozenset()
        self._free = PEER_ADDRESSES.hosts()

    def hold(self, names: Iterable[str]) -> None:
        """These are the peers from now on."""
        self._held = frozenset(names)
        for name in sorted(self._held - set(self._addresses)):
            address = next(self._free, None) or self._again()
            self._addresses[name] = address
            self._names[address] = name

    def _again(self) -> Address:
        """Those of names that are no peers any more can be had again."""
        for name in set(self._addresses) - self._held:
            del self._names[self._addresses.pop(name)]
        self._free = iter([each for each in PEER_ADDRESSES.hosts() if each not in self._names])
        return next(self._free)

    def address_of(self, name: str) -> Address | None:
        """What a peer is reached by, or None when there is none of that name."""
        return self._addresses[name] if name in self._held else None

    def name_of(self, address: Address) -> str | None:
        """The peer that an address stands for, or None."""
        name = self._names.get(address)
        return name if name in self._held else None
