"""The hosts that a secret names: `api.example.com`, `*.example.com`, each with a port or without."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from sandlot.errors import ConfigError

HOST_NAME = "host.sandlot.internal"
"""What the sandbox calls the host; `host` for short."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_AMBIGUOUS = frozenset("\u00df\u03c2\u200c\u200d")
_PORTED = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


def normal(host: str) -> str:
    """A host as it is compared: ASCII, lower case, no final dot, addresses in their short form.

    Raises:
        ConfigError: it is no name and no address.
    """
    text = host.strip().removesuffix(".").lower()
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    if not text.isascii():
        if _AMBIGUOUS & set(text):
            raise ConfigError(
                f"`{host}` has letters that two standards spell differently",
                hint="write its xn-- form",
            )
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise ConfigError(f"`{host}` is not a host name") from None
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(f"`{host}` is not a host name")
    return text


@dataclass(frozen=True, slots=True)
class HostPattern:
    """One named host. With `suffix`, every name below it and not itself; port 0 is any port."""

    name: str
    suffix: bool = False
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Read one as a user writes it.

        Raises:
            ConfigError: it is none, or so wide that the secret would go to anybody.
        """
        try:
            address = ipaddress.ip_address(text.strip("[] "))
        except ValueError:
            match = _PORTED.fullmatch(text.strip())
        else:
            return cls(str(address))
        if match is None or "/" in text or "@" in text:
            raise ConfigError(
                f"a secret cannot name the host `{text}`",
                hint="write `api.example.com`, `*.example.com` or `api.example.com:8443`",
            )
        port = int(match["port"] or 0)
        if match["port"] and not 0 < port < 65536:
            raise ConfigError(f"the host `{text}` has no such port")
        name, suffix = match["host"], False
        if name.strip().lower() == "host":
            name = HOST_NAME  # as in rules
        if name.startswith("*."):
            name, suffix = name[2:], True
        if "*" in name or (suffix and "." not in name):
            raise ConfigError(
                f"`{text}` is too wide for a secret",
                hint="name the host, or one domain as in `*.example.com`",
            )
        return cls(normal(name), suffix, port)

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name and self.port else self.name
        return ("*." if self.suffix else "") + name + (f":{self.port}" if self.port else "")

    def matches(self, host: str, port: int) -> bool:
        """Whether this is the host. `host` is in its normal form."""
        if self.port and self.port != port:
            return False
        return host.endswith("." + self.name) if self.suffix else host == self.name
