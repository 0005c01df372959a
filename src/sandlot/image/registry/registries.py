"""What the user has set about registries: mirrors, plain HTTP, certificates.

A TOML file, and environment variables that count before it:

    [registry.default]                  # the registry of names without one
    mirrors = ["mirror.example.com", "https://cache.example.com/hub"]

    [registry."registry.example.com:5000"]
    insecure = true                     # plain HTTP is allowed
    ca = "/etc/ssl/our-ca.pem"

Parsing is pure; only `Registries.read` looks at the disk.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.image.reference import DEFAULT_REGISTRY

MAX_FILE = 1 << 20
MAX_MIRRORS = 16
DEFAULT_HOST = "registry-1.docker.io"
"""Where the default registry really answers."""
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::[0-9]{1,5})?"
)
_PREFIX = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")


@dataclass(frozen=True)
class Endpoint:
    """Where a registry, or a mirror of it, answers.

    `registry` is the name that credentials and certificates are kept under, `host` what is
    connected to. `prefix` goes before the repository. `plain` tells whether plain HTTP is
    allowed, and `secure` whether TLS is: at least one of them is.
    """

    registry: str
    host: str
    prefix: str = ""
    plain: bool = False
    secure: bool = True
    mirror: bool = False

    def repository(self, name: str) -> str:
        """A repository's name at this place."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True)
class RegistryOptions:
    """What is set for one registry."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str = ""


@dataclass(frozen=True)
class Registries:
    """All that is set.

    >>> options = {"registry.example.com": RegistryOptions(mirrors=("mirror.example.com",))}
    >>> [e.host for e in Registries(options).endpoints("registry.example.com")]
    ['mirror.example.com', 'registry.example.com']
    """

    options: Mapping[str, RegistryOptions] = field(default_factory=dict)
    ca: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str], insecure: Sequence[str] = ()) -> Registries:
        """From the environment and the file; `insecure` are names that the caller adds.

        Raises ConfigError when anything of it is malformed.
        """
        path = registries_path(environment)
        options: dict[str, RegistryOptions] = {}
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            if environment.get("SANDLOT_REGISTRIES"):
                raise ConfigError(
                    f"there is no file {path}, which SANDLOT_REGISTRIES names"
                ) from None
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        else:
            options = parse_options(data, str(path))
        for name, mirrors in parse_mirrors(environment.get("SANDLOT_REGISTRY_MIRRORS", "")).items():
            old = options.get(name, RegistryOptions())
            options[name] = RegistryOptions(mirrors, old.insecure, old.ca)
        words = environment.get("SANDLOT_INSECURE_REGISTRIES", "").replace(",", " ").split()
        for name in [*words, *insecure]:
            _check_host(name, "the insecure registry")
            old = options.get(name, RegistryOptions())
            options[name] = RegistryOptions(old.mirrors, True, old.ca)
        return cls(options, environment.get("SANDLOT_REGISTRY_CA", ""))

    def endpoints(self, registry: str) -> Iterator[Endpoint]:
        """Where to ask for an image of `registry`: its mirrors, then itself."""
        for mirror in self.options.get(registry, RegistryOptions()).mirrors:
            scheme, host, prefix = split_mirror(mirror)
            yield self._endpoint(host, host, scheme=scheme, prefix=prefix, mirror=True)
        yield self._endpoint(registry, DEFAULT_HOST if registry == DEFAULT_REGISTRY else registry)

    def _endpoint(
        self, registry: str, host: str, *, scheme: str = "", prefix: str = "", mirror: bool = False
    ) -> Endpoint:
        plain = self.allows_plain(host)
        if scheme == "http" and not plain:
            raise ConfigError(
                f"mirror http://{host} is neither encrypted nor named as insecure",
                hint=f"use https://, or add {host} to SANDLOT_INSECURE_REGISTRIES",
            )
        return Endpoint(
            registry, host, prefix, plain=plain and scheme != "https", secure=scheme != "http",
            mirror=mirror,
        )  # fmt: skip

    def allows_plain(self, host: str) -> bool:
        """Whether plain HTTP to this host, with its port if it has one, is allowed."""
        return is_loopback(host) or self.options.get(host, RegistryOptions()).insecure

    def authorities(self, registry: str) -> list[str]:
        """Files of certificates to trust for a registry, besides the system's."""
        own = self.options.get(registry, RegistryOptions()).ca
        return [path for path in (self.ca, own) if path]


def registries_path(environment: Mapping[str, str]) -> Path:
    """Where the file lies: `SANDLOT_REGISTRIES`, else `registries.toml` below XDG_CONFIG_HOME."""
    named = environment.get("SANDLOT_REGISTRIES")
    if named:
        return Path(named)
    home = Path(environment.get("HOME") or Path.home())
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "sandlot/registries.toml"


def is_loopback(host: str) -> bool:
    """Whether a host, with or without a port, is this machine itself by its name or number."""
    name = host if host.count(":") > 1 and not host.startswith("[") else split_port(host)[0]
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def split_port(host: str) -> tuple[str, int | None]:
    """`host:port` as name, without brackets, and number."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?", host)
    if match is None:
        return host, None
    return match[1].strip("[]"), int(match[2]) if match[2] else None


def split_mirror(text: str) -> tuple[str, str, str]:
    """`[http[s]://]host[:port][/prefix]` in its parts. Raises ConfigError when malformed."""
    match = re.fullmatch(r"(?:(https?)://)?([^/]+)/*(.*?)/*", text)
    if (
        match is None
        or not _HOST.fullmatch(match[2])
        or (match[3] and not _PREFIX.fullmatch(match[3]))
    ):
        shown = re.sub(r"//.*@", "//", text)[:200]
        raise ConfigError(
            f"{shown!r} is not the address of a mirror",
            hint="use mirror.example.com, https://mirror.example.com:5000 or a path below it",
        )
    return match[1] or "", match[2].lower(), match[3]


def parse_mirrors(text: str) -> dict[str, tuple[str, ...]]:
    """`[REGISTRY=]MIRROR` words, divided by commas or blanks; no registry means the default one.

    >>> parse_mirrors("registry.example.com=cache.example.com/registry")
    {'registry.example.com': ('cache.example.com/registry',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for word in text.replace(",", " ").split():
        name, equals, mirror = word.partition("=")
        if not equals:
            name, mirror = DEFAULT_REGISTRY, word
        name = DEFAULT_REGISTRY if name == "default" else name
        _check_host(name, "the registry of a mirror")
        split_mirror(mirror)
        found[name] = (*found.get(name, ()), mirror)
        _check_count(found[name], name)
    return found


def parse_options(data: bytes, where: str) -> dict[str, RegistryOptions]:
    """The TOML file. Raises ConfigError naming what is wrong."""
    hint = f"see docs/guides/images-from-registries.md, and mend {where}"
    if len(data) > MAX_FILE:
        raise ConfigError(f"{where} is larger than 1 MiB", hint=hint)
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not TOML: {error}", hint=hint) from error
    for key in document:
        if key != "registry":
            raise ConfigError(f"{where}: {key!r} is not known there", hint=hint)
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{where}: 'registry' is not a table", hint=hint)
    found: dict[str, RegistryOptions] = {}
    for name, table in tables.items():
        _check_host(name, f"{where}: the registry")
        name = DEFAULT_REGISTRY if name == "default" else name
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: {name} is not a table", hint=hint)
        for key in table:
            if key not in ("mirrors", "insecure", "ca"):
                raise ConfigError(f"{where}: {name} has no option {key!r}", hint=hint)
        mirrors, insecure = table.get("mirrors", []), table.get("insecure", False)
        ca = table.get("ca", "")
        if not isinstance(mirrors, list) or not all(isinstance(m, str) for m in mirrors):
            raise ConfigError(f"{where}: the mirrors of {name} are not a list of texts", hint=hint)
        if not isinstance(insecure, bool) or not isinstance(ca, str):
            raise ConfigError(f"{where}: an option of {name} has the wrong type", hint=hint)
        for mirror in mirrors:
            split_mirror(mirror)
        _check_count(mirrors, name)
        where_ca = str(Path(ca).expanduser()) if ca else ""
        found[name] = RegistryOptions(tuple(mirrors), insecure, where_ca)
    return found


def _check_host(name: str, what: str) -> None:
    if not _HOST.fullmatch(name):
        raise ConfigError(
            f"{what} {name[:200]!r} is not a host", hint="use host or host:port, without https://"
        )


def _check_count(mirrors: Sequence[str], name: str) -> None:
    if len(mirrors) > MAX_MIRRORS:
        raise ConfigError(f"{name} has more than {MAX_MIRRORS} mirrors")
