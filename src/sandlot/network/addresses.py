"""Addresses that are not the public internet, and addresses inside of other addresses.

Source: the special-purpose address registries of IANA, RFC 6052 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo), RFC 5214 (ISATAP), and the metadata addresses that clouds document.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from sandlot.network.flow import Address


class Kind(StrEnum):
    """What an address is, in words that complete "is a ... address"."""

    PRIVATE = "private"
    SHARED = "carrier's shared"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "cloud metadata"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    UNSPECIFIED = "unspecified"
    DOCUMENTATION = "documentation"
    BENCHMARK = "benchmark"
    RESERVED = "reserved"
    TRANSLATED = "translated"
    HOST = "host's own"


# What `Network.open()` opens beyond the public internet.
INNER = frozenset({Kind.PRIVATE, Kind.SHARED})


@dataclass(frozen=True, slots=True)
class Range:
    """A range of addresses of one kind."""

    network: IPv4Network | IPv6Network
    kind: Kind


_RANGES = {
    Kind.PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
    Kind.SHARED: "100.64.0.0/10",
    Kind.LOOPBACK: "127.0.0.0/8 ::1/128",
    Kind.LINK_LOCAL: "169.254.0.0/16 fe80::/10",
    Kind.METADATA: (
        "169.254.169.254/32 169.254.169.253/32 169.254.170.2/32 169.254.170.23/32 "
        "100.100.100.200/32 168.63.129.16/32 192.0.0.192/32 "
        "fd00:ec2::/32 fd20:ce::254/128 fd00:c1::a9fe:a9fe/128"
    ),
    Kind.MULTICAST: "224.0.0.0/4 ff00::/8",
    Kind.BROADCAST: "255.255.255.255/32",
    Kind.UNSPECIFIED: "0.0.0.0/8 ::/128",
    Kind.DOCUMENTATION: "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    Kind.BENCHMARK: "198.18.0.0/15 2001:2::/48",
    Kind.RESERVED: (
        "192.0.0.0/24 192.88.99.0/24 240.0.0.0/4 "
        "::/8 100::/8 200::/7 400::/6 800::/5 1000::/4 2001:10::/28 2001:20::/28 4000::/3 5f00::/16 "
        "6000::/3 8000::/3 a000::/3 c000::/3 e000::/4 f000::/5 f800::/6 fe00::/9 64:ff9b:1::/48"
    ),
    # Not refused by itself: what is inside counts.
    Kind.TRANSLATED: "64:ff9b::/96",
}
SPECIAL: tuple[Range, ...] = tuple(
    Range(ip_network(text), kind) for kind, texts in _RANGES.items() for text in texts.split()
)

_MAPPED = 0xFFFF  # ::ffff:0:0/96
_SIIT = 0xFFFF0000  # ::ffff:0:0:0/96
_NAT64 = 0x64FF9B << 64  # 64:ff9b::/96, without its last 32 bits
_LOCAL_NAT64 = 0x64FF9B0001  # 64:ff9b:1::/48, the first 48 bits
_TEREDO = 0x20010000
_ISATAP = {0x00005EFE, 0x02005EFE}
_LOW = 0xFFFFFFFF


def canonical(address: Address) -> Address:
    """The address that is really spoken to: IPv4-mapped ones are IPv4, zones are dropped."""
    if isinstance(address, IPv4Address):
        return address
    value = int(address)
    if value >> 32 == _MAPPED:
        return IPv4Address(value & _LOW)
    return IPv6Address(value) if address.scope_id is not None else address


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a translator or tunnel would reach for this IPv6 address."""
    if isinstance(address, IPv4Address):
        return ()
    value = int(address)
    high, low = value >> 32, value & _LOW
    found: list[int] = []
    if high in (0, _MAPPED, _SIIT, _NAT64):
        if value > 1:  # :: and ::1 hold nothing
            found.append(low)
    elif value >> 80 == _LOCAL_NAT64:
        found += _rfc6052(value)
    elif value >> 112 == 0x2002:
        found.append(value >> 80 & _LOW)
    elif value >> 96 == _TEREDO:
        found += (value >> 64 & _LOW, low ^ _LOW)
    if high & _LOW in _ISATAP:
        found.append(low)
    return tuple(IPv4Address(each) for each in found)


def _rfc6052(value: int) -> list[int]:
    """Every place where a translator of the local prefix may look for the address."""
    octets = value.to_bytes(16, "big")
    joined = octets[:8] + octets[9:]  # the ninth is skipped by the format
    places = [octets[12:], joined[6:10], joined[7:11], joined[8:12]]
    return [int.from_bytes(place, "big") for place in places if place[0]]


def special(address: Address) -> Range | None:
    """The range of what is not the public internet that the address, or one inside it, is in."""
    real = canonical(address)
    for each in (real, *embedded(real)):
        fitting = [r for r in SPECIAL if each.version == r.network.version and each in r.network]
        if fitting:
            best = max(fitting, key=lambda one: one.network.prefixlen)
            if best.kind is not Kind.TRANSLATED:
                return best
    return None
