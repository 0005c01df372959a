"""Rules as people write them: `api.example.com`, `*.example.com:443`, `10.0.0.0/8:5432`, `host:8080`.

    TARGET[:PORT[-PORT]][/tcp|/udp]

TARGET is a name, `*.suffix` (every name below it, not itself), an address, a CIDR range, `host` (the
host itself) or `*` (any destination that nothing refuses). IPv6 is put in brackets before a port.
Without ports all are meant, without a protocol both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sandlot.errors import ConfigError
from sandlot.network.addresses import canonical
from sandlot.network.flow import LAST_PORT, PROTOCOLS, Protocol
from sandlot.network.names import ends_in_number, loose_ipv4, normalise

HOST = "host"
HOST_NAME = "host.sandlot.internal"  # what the guest calls it
LONGEST_RULE = 512
_FORMS = (
    "use NAME, *.SUFFIX, ADDRESS, CIDR, host or *, then :PORT or :FIRST-LAST, then /tcp or /udp"
)
_SCHEMES = {
    "http": ":80",
    "https": ":443",
    "ws": ":80",
    "wss": ":443",
    "tcp": "/tcp",
    "udp": "/udp",
}


class Target(StrEnum):
    """What a rule is about."""

    ANY = "any"
    HOST = "host"
    NAME = "name"
    SUFFIX = "suffix"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule. `name` is without `*.`; `network` is there for addresses and ranges."""

    target: Target
    name: str = ""
    network: IPv4Network | IPv6Network | None = None
    first: int = 1
    last: int = LAST_PORT
    protocol: Protocol | None = None

    def __str__(self) -> str:
        text = self._target()
        if (self.first, self.last) != (1, LAST_PORT):
            text = f"[{text}]" if text.count(":") > 1 else text
            text += f":{self.first}" if self.first == self.last else f":{self.first}-{self.last}"
        return f"{text}/{self.protocol}" if self.protocol else text

    def _target(self) -> str:
        if self.network is not None:
            single = self.network.prefixlen == self.network.max_prefixlen
            return str(self.network.network_address if single else self.network)
        names = {Target.ANY: "*", Target.HOST: HOST, Target.SUFFIX: f"*.{self.name}"}
        return names.get(self.target, self.name)


def parse_rule(text: str) -> Rule:
    """A rule from its text.

    Raises:
        ConfigError: it is none; the hint says what to write instead.
    """
    if not isinstance(text, str):
        raise ConfigError(f"the rule {text!r} is {type(text).__name__}, not text", hint=_FORMS)
    rest = text.strip()
    if not rest or len(rest) > LONGEST_RULE or not rest.isprintable():
        raise _wrong(text[:64], "is no rule", _FORMS)
    if "://" in rest:
        raise _wrong(text, "is a URL, not a rule", _from_url(rest))
    protocol: Protocol | None = None
    for each in PROTOCOLS:
        if rest.lower().endswith(f"/{each}"):
            protocol, rest = each, rest[: -len(each) - 1]
    target, ports = _split(text, rest)
    first, last = _ports(text, ports)
    kind, name, network = _target(text, target)
    return Rule(kind, name, network, first, last, protocol)


def _wrong(text: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"the rule {text!r} {what}", hint=hint)


def _from_url(text: str) -> str:
    scheme, _, rest = text.partition("://")
    host = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    suffix = _SCHEMES.get(scheme.lower(), "")
    has_port = re.search(r":\d+$", host) is not None
    return f"use {host}{'' if has_port and suffix.startswith(':') else suffix}" if host else _FORMS


def _split(text: str, rest: str) -> tuple[str, str | None]:
    """Target and ports."""
    if rest.startswith("["):
        inside, closed, after = rest[1:].partition("]")
        if not closed or (after and not after.startswith(":")) or ":" not in inside:
            raise _wrong(text, "has brackets that hold no IPv6 address", "use [2001:db8::1]:443")
        return inside, after[1:] if after else None
    if rest.count(":") == 1:
        target, _, ports = rest.partition(":")
        return target, ports
    return rest, None


def _ports(text: str, ports: str | None) -> tuple[int, int]:
    if ports is None or ports == "*":
        return 1, LAST_PORT
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", ports)
    if match is None:
        hint = "use one rule for each port" if "," in ports else "use :443 or :8000-8999"
        raise _wrong(text, f"has the ports {ports!r}, which are none", hint)
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= LAST_PORT:
        raise _wrong(
            text, f"has the ports {ports!r}", f"use ports from 1 to {LAST_PORT}, ascending"
        )
    return first, last


def _target(text: str, target: str) -> tuple[Target, str, IPv4Network | IPv6Network | None]:
    if target == "*":
        return Target.ANY, "", None
    if "/" in target or ":" in target or _is_address(target):
        return Target.NETWORK, "", _network(text, target)
    wild = target.startswith("*.")
    bare = target[2:] if wild else target
    if "*" in bare:
        raise _wrong(
            text, "has a `*` in a place that means nothing", "use *.SUFFIX, or a whole name"
        )
    try:
        name = normalise(bare)
    except ValueError as error:
        raise _wrong(text, f"names no host: {error}", _FORMS) from None
    if not wild and name in (HOST, HOST_NAME):
        return Target.HOST, "", None
    if ends_in_number(name):
        address = loose_ipv4(name)
        hint = f"use {address}" if address and not wild else "write four decimal numbers"
        raise _wrong(text, "is neither a name nor a plain address", hint)
    if name == "localhost" or name.endswith(".localhost"):
        raise _wrong(text, "means the sandbox itself, which no policy governs", "use host")
    return Target.SUFFIX if wild else Target.NAME, name, None


def _is_address(target: str) -> bool:
    try:
        ip_address(target)
    except ValueError:
        return False
    return True


def _network(text: str, target: str) -> IPv4Network | IPv6Network:
    if "%" in target:
        raise _wrong(text, "names a zone, which means nothing here", "leave the % and the rest out")
    try:
        network = ip_network(target, strict=False)
    except ValueError:
        if target.count(":") == 1 or "/" not in target:
            raise _wrong(text, "is neither a name nor an address", _FORMS) from None
        raise _wrong(text, "is no address range", "use 10.0.0.0/8 or 2001:db8::/32") from None
    if "/" in target and int(ip_address(target.partition("/")[0])) != int(network.network_address):
        raise _wrong(text, "has bits set beyond its length", f"use {network}")
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        real = canonical(network.network_address)
        if real.version == 4:
            return IPv4Network((int(real), network.prefixlen - 96))
    return network
