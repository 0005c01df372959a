"""Addresses that are not the public internet, in all their disguises."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.addresses import SPECIAL, Kind, canonical, embedded, special

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
NEAR_V6 = st.builds(
    lambda network, low: IPv6Address(int(network) | low),
    st.sampled_from([r.network.network_address for r in SPECIAL if r.network.version == 6]),
    st.integers(0, 2**64 - 1),
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("10.1.2.3", Kind.PRIVATE),
        ("172.16.0.1", Kind.PRIVATE),
        ("172.31.255.255", Kind.PRIVATE),
        ("192.168.1.1", Kind.PRIVATE),
        ("100.64.0.1", Kind.SHARED),
        ("127.0.0.1", Kind.LOOPBACK),
        ("127.255.255.254", Kind.LOOPBACK),
        ("169.254.1.1", Kind.LINK_LOCAL),
        ("169.254.169.254", Kind.METADATA),
        ("169.254.170.2", Kind.METADATA),
        ("100.100.100.200", Kind.METADATA),
        ("168.63.129.16", Kind.METADATA),
        ("192.0.0.192", Kind.METADATA),
        ("224.0.0.251", Kind.MULTICAST),
        ("239.255.255.250", Kind.MULTICAST),
        ("255.255.255.255", Kind.BROADCAST),
        ("0.0.0.0", Kind.UNSPECIFIED),
        ("0.1.2.3", Kind.UNSPECIFIED),
        ("192.0.2.1", Kind.DOCUMENTATION),
        ("198.51.100.1", Kind.DOCUMENTATION),
        ("203.0.113.1", Kind.DOCUMENTATION),
        ("198.18.0.1", Kind.BENCHMARK),
        ("192.0.0.8", Kind.RESERVED),
        ("192.88.99.1", Kind.RESERVED),
        ("240.0.0.1", Kind.RESERVED),
        ("::", Kind.UNSPECIFIED),
        ("::1", Kind.LOOPBACK),
        ("fe80::1", Kind.LINK_LOCAL),
        ("fe80::1%eth0", Kind.LINK_LOCAL),
        ("fc00::1", Kind.PRIVATE),
        ("fd12:3456::1", Kind.PRIVATE),
        ("fec0::1", Kind.PRIVATE),
        ("fd00:ec2::254", Kind.METADATA),
        ("fd20:ce::254", Kind.METADATA),
        ("ff02::1", Kind.MULTICAST),
        ("2001:db8::1", Kind.DOCUMENTATION),
        ("3fff::1", Kind.DOCUMENTATION),
        ("100::1", Kind.RESERVED),
        ("4000::1", Kind.RESERVED),
        ("5f00::1", Kind.RESERVED),
        ("64:ff9b:1::a00:1", Kind.RESERVED),
        # The same addresses inside of others.
        ("::ffff:10.0.0.1", Kind.PRIVATE),
        ("::ffff:127.0.0.1", Kind.LOOPBACK),
        ("::ffff:a9fe:a9fe", Kind.METADATA),
        ("::ffff:a9fe:a9fe%eth0", Kind.METADATA),
        ("::10.0.0.1", Kind.RESERVED),
        ("::ffff:0:10.0.0.1", Kind.RESERVED),
        ("64:ff9b::10.0.0.1", Kind.PRIVATE),
        ("64:ff9b::169.254.169.254", Kind.METADATA),
        ("2002:a00:1::", Kind.PRIVATE),
        ("2002:7f00:1::1", Kind.LOOPBACK),
        ("2001:0:a00:1::f7f7:f7f7", Kind.PRIVATE),  # Teredo: its server
        ("2001:0:808:808::f5ff:fffe", Kind.PRIVATE),  # Teredo: its client, inverted
        ("2606:4700::5efe:c0a8:101", Kind.PRIVATE),  # ISATAP
        ("2606:4700::200:5efe:c0a8:101", Kind.PRIVATE),
    ],
)
def test_special_addresses(text: str, kind: Kind) -> None:
    found = special(ip_address(text))
    assert found is not None and found.kind is kind


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8", "1.1.1.1", "172.32.0.1", "172.15.255.255", "100.63.255.255", "100.128.0.0",
        "169.253.255.255", "11.0.0.0", "223.255.255.255", "192.0.1.1", "198.20.0.0",
        "2606:4700:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
        "2002:808:808::1", "2001:0:808:808::f7f7:f7f7", "2620:fe::fe",
    ],
)  # fmt: skip
def test_public_addresses(text: str) -> None:
    assert special(ip_address(text)) is None


@given(V4 | V6 | NEAR_V6)
def test_what_the_standard_library_calls_private_is_special(address) -> None:  # type: ignore[no-untyped-def]
    real = canonical(address)
    # Teredo and the translator's own prefix are judged by what is inside.
    inside_counts = real.version == 6 and any(
        real in ip_network(each) for each in ("2001::/23", "64:ff9b::/96")
    )
    if (real.is_private or real.is_multicast or real.is_reserved) and not inside_counts:
        assert special(address) is not None


@given(V4)
def test_what_is_special_stays_so_in_every_wrapping(address: IPv4Address) -> None:
    number = int(address)
    wrapped = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF),
        IPv6Address(0x2606 << 112 | 0x5EFE << 32 | number),
    ]
    for each in wrapped:
        real = canonical(each)
        assert address in (real, *embedded(real))
        assert (special(each) is None) == (special(address) is None)


@pytest.mark.parametrize("text", ["64:ff9b:1:a00:1:200::", "64:ff9b:1:a:0:2:300::"])
def test_the_local_translator_s_prefix_is_read_in_every_way(text: str) -> None:
    assert any(each in ip_network("10.0.0.0/8") for each in embedded(ip_address(text)))


def test_canonical_drops_the_zone() -> None:
    assert canonical(ip_address("fe80::1%eth0")) == ip_address("fe80::1")
    assert canonical(ip_address("::ffff:1.2.3.4")) == ip_address("1.2.3.4")
    assert canonical(ip_address("1.2.3.4")) == ip_address("1.2.3.4")
