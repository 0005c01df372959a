"""What a sandbox wants to reach, and what the policy says to it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Protocol: TypeAlias = Literal["tcp", "udp"]

PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection, or the datagrams between two sockets, as the guest asks for it.

    `name` is the name that was looked up for `address` by this sandbox, lower case and without the
    final dot, or None when none was.
    """

    protocol: Protocol
    address: Address
    port: int
    name: str | None = None

    def __str__(self) -> str:
        return destination(self.name or self.address, self.port, self.protocol)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may be, by which rule and why; `hint` is the rule to add, or empty."""

    allowed: bool
    rule: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """The process of the guest that connects, in the guest's own words: 0 and empty when unknown."""

    pid: int = 0
    name: str = ""


LONGEST_CALLER = 64
LAST_PID = 1 << 22


def caller(pid: int, name: bytes) -> Caller:
    """What the guest says of itself, fit to be shown: short, and printable."""
    if not 0 < pid <= LAST_PID:
        return Caller()
    shown = (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in name[:LONGEST_CALLER])
    return Caller(pid, "".join(shown))


def destination(host: str | Address, port: int | None = None, protocol: Protocol = "tcp") -> str:
    """A destination as a rule spells it: `example.com:443`, `[2001:db8::1]:53/udp`."""
    text = str(host)
    if port is not None:
        text = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
    return text if protocol == "tcp" else f"{text}/{protocol}"
