"""Published ports: `8000:80`, `127.0.0.1:53:53/udp` and the like, as data. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from sandlot.errors import ConfigError
from sandlot.network.flow import LAST_PORT, PROTOCOLS, Protocol

LOOPBACK = "127.0.0.1"
_HINT = "use HOST_PORT:SANDBOX_PORT, or ADDRESS:HOST_PORT:SANDBOX_PORT[/udp]"
_RANGES = "use as many ports of the host as of the sandbox, as in 8000-8010:8000-8010"
_TEXT = re.compile(
    r"(?:(?:(?P<address>\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):)?(?P<host>(?:\d+(?:-\d+)?)?):)?"
    r"(?P<port>\d+(?:-\d+)?)"
    r"(?:/(?P<protocol>\w+))?"
)


@dataclass(frozen=True, kw_only=True)
class PublishedPort:
    """A port of the host that leads to one of the sandbox.

    `host_port` is 0 for one that the system chooses when the sandbox starts.
    """

    address: str = LOOPBACK
    host_port: int
    port: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.host_port}->{self.port}/{self.protocol}"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "address": self.address, "host_port": self.host_port, "port": self.port,
            "protocol": self.protocol,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PublishedPort:
        """From what `to_json` gave."""
        return cls(
            address=data["address"], host_port=data["host_port"], port=data["port"],
            protocol=data["protocol"],
        )  # fmt: skip


def parse_ports(text: str) -> list[PublishedPort]:
    """Docker's spelling of a published port, or of a range of as many on both sides; without a
    host's port the system chooses one.

    Raises:
        ConfigError: it is none.
    """
    found = _TEXT.fullmatch(text)
    protocol = (found and found["protocol"]) or "tcp"
    if found is None or protocol not in PROTOCOLS:
        raise ConfigError(f"{text!r} is no published port", hint=_HINT)
    address = (found["address"] or LOOPBACK).strip("[]").replace("localhost", LOOPBACK)
    inner = _range(found["port"], text)
    outer = _range(found["host"], text) if found["host"] else [0] * len(inner)
    if len(outer) != len(inner):
        raise ConfigError(f"{text!r} has ranges of different lengths", hint=_RANGES)
    return [
        _checked(address, host, port, protocol, text)
        for host, port in zip(outer, inner, strict=True)
    ]


def _range(text: str, shown: str) -> list[int]:
    first, dash, last = text.partition("-")
    if not dash:
        return [int(text[:6])]  # who has more digits is no port either
    if len(text) > 11 or not int(first) <= int(last or first) <= LAST_PORT:
        raise ConfigError(f"{text!r} of {shown!r} is no range of ports", hint=_RANGES)
    return list(range(int(first), int(last or first) + 1))


def published_ports(ports: object) -> list[PublishedPort]:
    """What `ports=` may be: a mapping of host ports to sandbox ports, or a list of Docker's texts.

    A host port is a number, `(address, number)`, or a text such as `"127.0.0.1:8000"`.

    Raises:
        ConfigError: it is something else, or two of them are the same port of the host.
    """
    if ports is None:
        return []
    if isinstance(ports, Mapping):
        found = [_pair(host, inner) for host, inner in ports.items()]
    elif isinstance(ports, Iterable) and not isinstance(ports, str | bytes):
        found = [
            port for each in ports
            for port in (parse_ports(each) if isinstance(each, str) else [_given(each)])
        ]  # fmt: skip
    else:
        raise ConfigError(f"ports is {ports!r}, not a mapping", hint="use ports={8000: 8000}")
    seen = set()
    for each in found:
        key = (each.address, each.host_port, each.protocol)
        if each.host_port and key in seen:
            raise ConfigError(f"port {each.host_port} of the host is published twice")
        seen.add(key)
    return found


def _given(item: object) -> PublishedPort:
    if isinstance(item, PublishedPort):
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        return _checked(LOOPBACK, 0, item, "tcp", item)
    raise ConfigError(f"{item!r} is no published port", hint=_HINT)


def _pair(host: object, inner: object) -> PublishedPort:
    protocol = "tcp"
    if isinstance(inner, str):
        number, _, protocol = inner.partition("/")
        inner = int(number) if number.isdecimal() else inner
        protocol = protocol or "tcp"
    address: object = LOOPBACK
    if isinstance(host, tuple) and len(host) == 2:
        address, host = host
    elif isinstance(host, str):
        before, _, number = host.rpartition(":")
        address = before.strip("[]") or LOOPBACK
        host = int(number) if number.isdecimal() else host
    return _checked(address, host, inner, protocol, (host, inner))


def _checked(
    address: object, host: object, port: object, protocol: str, shown: object
) -> PublishedPort:
    if protocol not in PROTOCOLS:
        raise ConfigError(f"{protocol!r} of port {shown!r} is not tcp or udp", hint=_HINT)
    for number, least in ((host, 0), (port, 1)):
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or not least <= number <= LAST_PORT
        ):
            raise ConfigError(f"{number!r} of {shown!r} is no port", hint=_HINT)
    try:
        text = str(ip_address(str(address)))
    except ValueError:
        raise ConfigError(
            f"{address!r} of port {shown!r} is no address of the host", hint=_HINT
        ) from None
    assert isinstance(host, int) and isinstance(port, int)
    return PublishedPort(
        address=text, host_port=host, port=port, protocol="udp" if protocol == "udp" else "tcp"
    )
