"""The index gives what looking through every rule would give."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.addresses import Kind
from sandlot.network.flow import PROTOCOLS
from sandlot.network.matching import AddressIndex, Entry, NameIndex, PortTable, counting

PORT = st.integers(1, 12) | st.integers(65530, 65535) | st.integers(1, 65535)
PROTOCOL = st.sampled_from(PROTOCOLS)
ENTRY = st.builds(
    lambda allowed, ports, protocol, kind: Entry(
        allowed, "", min(ports), max(ports), protocol, None if allowed else kind
    ),
    st.booleans(), st.tuples(PORT, PORT), st.none() | PROTOCOL, st.none() | st.just(Kind.PRIVATE),
)  # fmt: skip
ENTRIES = st.lists(ENTRY, max_size=30)


def best(entries: list[Entry], protocol: str, port: int) -> Entry | None:
    fitting = [e for e in entries if e.first <= port <= e.last and e.protocol in (None, protocol)]
    return min(fitting, key=lambda e: e.rank, default=None)


@given(ENTRIES, PROTOCOL, PORT)
def test_ports(entries, protocol, port) -> None:  # type: ignore[no-untyped-def]
    found = PortTable(entries).find(protocol, port)
    expected = best(entries, protocol, port)
    assert (found and found.rank) == (expected and expected.rank)


@given(ENTRIES, PROTOCOL, PORT)
def test_segments_say_the_same(entries, protocol, port) -> None:  # type: ignore[no-untyped-def]
    table = PortTable(entries)
    segments = table.segments(protocol)
    fitting = [entry for first, last, entry in segments if first <= port <= last]
    assert len(fitting) <= 1
    expected = best(entries, protocol, port)
    assert (fitting[0].rank if fitting else None) == (expected and expected.rank)
    assert all(a[1] < b[0] for a, b in pairwise(segments))


def test_fewer_ports_then_the_protocol_then_deny() -> None:
    wide, narrow = Entry(False, "wide", 1, 100), Entry(True, "narrow", 22, 22)
    assert PortTable([wide, narrow]).find("tcp", 22) == narrow
    named, unnamed = Entry(True, "named", 22, 22, "tcp"), Entry(False, "unnamed", 22, 22)
    assert PortTable([unnamed, named]).find("tcp", 22) == named
    assert PortTable([unnamed, named]).find("udp", 22) == unnamed
    yes, no = Entry(True, "yes", 22, 22), Entry(False, "no", 22, 22)
    assert PortTable([yes, no]).find("tcp", 22) == no
    own = Entry(False, "own", 22, 22, kind=Kind.PRIVATE)
    assert PortTable([own, yes]).find("tcp", 22) == yes


V4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)).map(
    lambda pair: IPv4Network(pair, strict=False)
)
V6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(1, 128)).map(
    lambda pair: IPv6Network(pair, strict=False)
)
# Ranges that nest and touch.
NEAR = st.tuples(st.integers(0, 7), st.integers(28, 32)).map(
    lambda pair: IPv4Network((0xFFFFFFF8 | pair[0], pair[1]), strict=False)
)


@given(
    st.lists(st.tuples(V4 | V6 | NEAR, ENTRY), max_size=20),
    st.sampled_from([0, 1, 2**32 - 1, 2**32 - 3]) | st.integers(0, 2**32 - 1),
    st.data(), PROTOCOL, PORT,
)  # fmt: skip
def test_addresses(rules, number, data, protocol, port) -> None:  # type: ignore[no-untyped-def]
    index = AddressIndex()
    for network, entry in rules:
        index.add(network.network_address, network.prefixlen, entry)
    index.seal()
    edges = [n.network_address for n, _ in rules] + [n.broadcast_address for n, _ in rules]
    address = data.draw(st.sampled_from([IPv4Address(number), IPv6Address(number), *edges]))
    around: dict[int, list[Entry]] = {}
    for network, entry in rules:
        if network.version == address.version and address in network:
            around.setdefault(network.prefixlen, []).append(entry)
    expected = None
    for prefix in sorted(around, reverse=True):
        expected = expected or best(around[prefix], protocol, port)
    found = index.find(address, protocol, port)
    assert (found and found.rank) == (expected and expected.rank)
    assert len(index.tables(address)) == len(around)


def test_an_empty_index_finds_nothing() -> None:
    index = AddressIndex()
    index.seal()
    assert index.find(ip_address("1.2.3.4"), "tcp", 1) is None
    names = NameIndex()
    names.seal()
    assert names.find("a.b", "tcp", 1) is None


LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(".".join)


@given(st.lists(st.tuples(LABELS, st.booleans(), ENTRY), max_size=15), LABELS, PROTOCOL, PORT)
def test_names(rules, name, protocol, port) -> None:  # type: ignore[no-untyped-def]
    index = NameIndex()
    groups: dict[tuple[bool, int], list[Entry]] = {}
    for target, wild, entry in rules:
        index.add(target, wild, entry)
        if (wild and name.endswith("." + target)) or (not wild and name == target):
            groups.setdefault((not wild, len(target)), []).append(entry)
    index.seal()
    expected = None
    for key in sorted(groups, reverse=True):
        expected = expected or best(groups[key], protocol, port)
    found = index.find(name, protocol, port)
    assert (found and found.rank) == (expected and expected.rank)


SMALL = st.builds(
    lambda allowed, ports, protocol: Entry(allowed, "", min(ports), max(ports), protocol),
    st.booleans(), st.tuples(*[st.sampled_from([1, 2, 3, 65534, 65535])] * 2), st.none() | PROTOCOL,
)  # fmt: skip


@given(st.lists(st.lists(SMALL, max_size=5), max_size=4))
def test_the_rules_that_count_for_some_port(levels: list[list[Entry]]) -> None:
    tables = [PortTable(entries) for entries in levels]
    found, more = counting(tables)
    expected: set[tuple[object, ...]] = set()
    none = False
    for protocol in PROTOCOLS:
        for port in (1, 2, 3, 4, 65533, 65534, 65535):
            winners = [table.find(protocol, port) for table in tables]
            winner = next((w for w in winners if w is not None), None)
            none = none or winner is None
            if winner is not None:
                expected.add(winner.rank)
    assert {entry.rank for entry in found} == expected
    assert more == none
