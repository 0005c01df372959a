"""The addresses that every sandbox sees, and those of the host."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from sandlot.network.flow import Address

# As in agent/internal/network/device.go.
GUEST4 = IPv4Address("10.231.0.2")
ROUTER4 = IPv4Address("10.231.0.1")
GUEST6 = IPv6Address("fd5a:6e64:6c6f:7400::2")
ROUTER6 = IPv6Address("fd5a:6e64:6c6f:7400::1")
ROUTERS: frozenset[Address] = frozenset({ROUTER4, ROUTER6})
"""Where the sandbox asks for names; on every other port they stand for the host's loopback."""
DNS_PORT = 53

_SIOCGIFADDR = 0x8915


def host_addresses() -> set[Address]:
    """Every address of the host, and those that stand for it in the guest."""
    found: set[Address] = set(ROUTERS)
    if sys.platform == "linux":
        return found | _linux_addresses()
    with contextlib.suppress(OSError):  # others have no file that says so
        for info in socket.getaddrinfo(socket.gethostname(), None):
            found.add(ip_address(str(info[4][0]).partition("%")[0]))
    return found


def _linux_addresses() -> set[Address]:
    found: set[Address] = set()
    with contextlib.suppress(OSError):
        # Local addresses are leaves of the local table: `|-- ADDRESS` and then `/32 host LOCAL`.
        leaf = ""
        for line in Path("/proc/net/fib_trie").read_text().splitlines():
            mark, _, rest = line.strip().partition(" ")
            if mark == "|--":
                leaf = rest
            elif line.strip() == "/32 host LOCAL":
                found.add(IPv4Address(leaf))
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(IPv6Address(bytes.fromhex(line.split()[0])))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("16s16x", name.encode()[:15])
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, request)
                found.add(IPv4Address(answer[20:24]))
    return found
