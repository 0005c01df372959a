"""The rules of a policy, indexed: which one counts for a name or an address, and for a port.

What is looked up is the most specific target; among the rules of one target the one with the fewest
ports counts, then the one that names the protocol, then the one that denies.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandlot.network.addresses import Kind
from sandlot.network.flow import LAST_PORT, PROTOCOLS, Address, Protocol

_FEW = 8  # rules of one target that are looked through one by one


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule of a target. `kind` is set for what Sandlot itself refuses."""

    allowed: bool
    text: str
    first: int = 1
    last: int = LAST_PORT
    protocol: Protocol | None = None
    kind: Kind | None = None

    @property
    def rank(self) -> tuple[int, bool, bool, bool]:
        """The lowest counts. Sandlot's own come last, so that an equal rule wins against them."""
        own = self.kind is not None
        return (self.last - self.first, self.protocol is None, own, self.allowed)

    def fits(self, protocol: Protocol, port: int) -> bool:
        """Whether the rule is about this port."""
        return self.first <= port <= self.last and self.protocol in (None, protocol)


class PortTable:
    """The rules of one target."""

    __slots__ = ("_entries", "_segments", "_starts")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: Sequence[Entry] = sorted(entries, key=lambda entry: entry.rank)
        self._starts: dict[Protocol, tuple[list[int], list[Entry | None]]] = {}
        self._segments: dict[Protocol, list[tuple[int, int, Entry]]] = {}
        if len(self._entries) > _FEW:
            self._starts = {protocol: self._sweep(protocol) for protocol in PROTOCOLS}

    def find(self, protocol: Protocol, port: int) -> Entry | None:
        """The rule that counts for a port."""
        if self._starts:
            starts, winners = self._starts[protocol]
            return winners[bisect_right(starts, port) - 1]
        for entry in self._entries:
            if entry.fits(protocol, port):
                return entry
        return None

    def segments(self, protocol: Protocol) -> list[tuple[int, int, Entry]]:
        """Ranges of ports with the rule that counts in each, ascending."""
        if protocol not in self._segments:
            starts, winners = self._starts.get(protocol) or self._sweep(protocol)
            ends = [*(start - 1 for start in starts[1:]), LAST_PORT]
            self._segments[protocol] = [
                (start, end, winner)
                for start, end, winner in zip(starts, ends, winners, strict=True)
                if winner is not None
            ]
        return self._segments[protocol]

    def _sweep(self, protocol: Protocol) -> tuple[list[int], list[Entry | None]]:
        fitting = [e for e in self._entries if e.protocol in (None, protocol)]
        begins = sorted(range(len(fitting)), key=lambda index: fitting[index].first)
        bounds = sorted({0, *(e.first for e in fitting), *(e.last + 1 for e in fitting)})
        starts: list[int] = []
        winners: list[Entry | None] = []
        active: list[int] = []  # positions in `fitting`, which is in the order of ranks
        following = 0
        for bound in bounds:
            while following < len(begins) and fitting[begins[following]].first <= bound:
                heapq.heappush(active, begins[following])
                following += 1
            while active and fitting[active[0]].last < bound:
                heapq.heappop(active)
            starts.append(bound)
            winners.append(fitting[active[0]] if active else None)
        return starts, winners


class AddressIndex:
    """Rules on addresses and ranges: the longest prefix is the most specific.

    Ranges nest, so they cut the addresses into pieces that each lie in the same ranges throughout.
    """

    def __init__(self) -> None:
        self._raw: dict[int, dict[tuple[int, int], list[Entry]]] = {4: {}, 6: {}}
        self._starts: dict[int, list[int]] = {4: [0], 6: [0]}
        self._chains: dict[int, list[tuple[PortTable, ...]]] = {4: [()], 6: [()]}

    def add(self, address: Address, prefix: int, entry: Entry) -> None:
        """Take a rule up; `seal` comes before any look-up."""
        size = 1 << (address.max_prefixlen - prefix)
        self._raw[address.version].setdefault((int(address), -size), []).append(entry)

    def seal(self) -> None:
        """All rules are known."""
        for version, raw in self._raw.items():
            starts, chains = [0], [()]  # type: tuple[list[int], list[tuple[PortTable, ...]]]
            around: list[tuple[int, tuple[PortTable, ...]]] = []  # where each ends, and its chain

            def cut(
                at: int,
                chain: tuple[PortTable, ...],
                starts: list[int] = starts,
                chains: list[tuple[PortTable, ...]] = chains,
            ) -> None:
                if starts[-1] == at:
                    chains[-1] = chain
                else:
                    starts.append(at)
                    chains.append(chain)

            for start, negative in sorted(raw):
                while around and around[-1][0] <= start:
                    end, _ = around.pop()
                    cut(end, around[-1][1] if around else ())
                outer = around[-1][1] if around else ()
                chain = (PortTable(raw[start, negative]), *outer)
                around.append((start - negative, chain))
                cut(start, chain)
            while around:
                end, _ = around.pop()
                cut(end, around[-1][1] if around else ())
            self._starts[version], self._chains[version] = starts, chains
        self._raw = {4: {}, 6: {}}

    def find(self, address: Address, protocol: Protocol, port: int) -> Entry | None:
        """The rule that counts for an address and a port."""
        for table in self.tables(address):
            entry = table.find(protocol, port)
            if entry is not None:
                return entry
        return None

    def tables(self, address: Address) -> tuple[PortTable, ...]:
        """The rules of every range around an address, the most specific first."""
        version = address.version
        return self._chains[version][bisect_right(self._starts[version], int(address)) - 1]


class NameIndex:
    """Rules on names: the name itself before suffixes, a longer suffix before a shorter."""

    def __init__(self) -> None:
        self._raw: tuple[dict[str, list[Entry]], dict[str, list[Entry]]] = ({}, {})
        self._exact: dict[str, PortTable] = {}
        self._suffixes: dict[str, PortTable] = {}
        self._depths: list[int] = []  # how many labels suffixes have, the most first

    def add(self, name: str, wild: bool, entry: Entry) -> None:
        """Take a rule up; `seal` comes before any look-up."""
        self._raw[wild].setdefault(name, []).append(entry)

    def seal(self) -> None:
        """All rules are known."""
        self._exact = {name: PortTable(entries) for name, entries in self._raw[0].items()}
        self._suffixes = {name: PortTable(entries) for name, entries in self._raw[1].items()}
        self._depths = sorted({name.count(".") + 1 for name in self._suffixes}, reverse=True)
        self._raw = ({}, {})

    def find(self, name: str, protocol: Protocol, port: int) -> Entry | None:
        """The rule that counts for a name and a port."""
        for table in self.tables(name):
            entry = table.find(protocol, port)
            if entry is not None:
                return entry
        return None

    def tables(self, name: str) -> list[PortTable]:
        """The rules of the name and of everything it lies below, the most specific first."""
        found = [self._exact[name]] if name in self._exact else []
        if self._depths:
            labels = name.rsplit(".", self._depths[0])
            for depth in self._depths:
                if depth < len(labels):
                    table = self._suffixes.get(".".join(labels[-depth:]))
                    if table is not None:
                        found.append(table)
        return found


def counting(tables: Iterable[PortTable]) -> tuple[list[Entry], bool]:
    """The rules that count for at least one port, and whether some port has none at all."""
    left: dict[Protocol, list[tuple[int, int]]] = {p: [(1, LAST_PORT)] for p in PROTOCOLS}
    found: list[Entry] = []
    for table in tables:
        for protocol in PROTOCOLS:
            segments = table.segments(protocol) if left[protocol] else []
            left[protocol], taken = _subtract(left[protocol], segments)
            found += taken
        if not any(left.values()):
            break
    return found, any(left.values())


def _subtract(
    ranges: list[tuple[int, int]], segments: list[tuple[int, int, Entry]]
) -> tuple[list[tuple[int, int]], list[Entry]]:
    """What is left of ascending ranges without the ascending segments, and who took something."""
    left: list[tuple[int, int]] = []
    taken: list[Entry] = []
    at = 0
    for first, last in ranges:
        while at < len(segments) and segments[at][1] < first:
            at += 1
        here = at
        while here < len(segments) and segments[here][0] <= last:
            start, end, entry = segments[here]
            taken.append(entry)
            if start > first:
                left.append((first, start - 1))
            first = end + 1
            here += 1
        if first <= last:
            left.append((first, last))
    return left, taken
