"""Credentials as Docker and Podman keep them: `config.json` and `auth.json`.

Source: containers-auth.json(5), and Docker's description of `config.json`. Parsing is pure; only
`AuthFiles.read` looks at the disk.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.image.reference import DEFAULT_REGISTRY

MAX_FILE = 1 << 20
# Docker's own key for its default registry, kept from the first version of the protocol.
DEFAULT_KEY = "index.docker.io"
DEFAULT_SERVER = "https://index.docker.io/v1/"
TOKEN_USER = "<token>"
"""The user name by which helpers say that the secret is an identity token."""


@dataclass(frozen=True, repr=False)
class Credentials:
    """What to show a registry: a password, an identity token, or a ready bearer token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username or 'token'!r}, ****)"

    def basic(self) -> str:
        """The value of an Authorization header of the basic scheme."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(frozen=True)
class Helper:
    """A program `docker-credential-<name>` that holds the credentials of `server`."""

    name: str
    server: str


@dataclass(frozen=True)
class AuthFile:
    """One file of credentials."""

    auths: Mapping[str, Credentials] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    @classmethod
    def parse(cls, text: str | bytes, where: str = "the file of credentials") -> AuthFile:
        """Read a file's text. Raises ConfigError, which never quotes the text, when it is damaged."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(where, "it is not JSON") from error
        if not isinstance(data, dict):
            raise _damaged(where, "it is not a JSON object")
        auths: dict[str, Credentials] = {}
        for key, entry in _mapping(data, "auths", where).items():
            if not isinstance(entry, dict):
                raise _damaged(where, f"auths, {key}")
            made = _credentials(entry, f"auths, {key}", where)
            if made is not None:
                auths[_key(key)] = made
        helpers: dict[str, str] = {}
        for key, name in _mapping(data, "credHelpers", where).items():
            helpers[_key(key)] = _helper_name(name, where)
        store = data.get("credsStore") or ""
        return cls(auths, helpers, _helper_name(store, where) if store else "")

    def find(self, registry: str, repository: str = "") -> Credentials | Helper | None:
        """The entry for `registry/repository`, the most particular one first."""
        for key in keys(registry, repository):
            if key in self.helpers:
                return Helper(self.helpers[key], _server(registry))
            if key in self.auths:
                return self.auths[key]
        return Helper(self.store, _server(registry)) if self.store else None


def keys(registry: str, repository: str = "") -> Iterator[str]:
    """Under which keys a repository's credentials may stand, the most particular one first."""
    hosts = [registry, DEFAULT_KEY] if registry == DEFAULT_REGISTRY else [registry]
    parts = repository.split("/") if repository else []
    for count in range(len(parts), -1, -1):
        for host in hosts:
            yield "/".join([host, *parts[:count]])


def _server(registry: str) -> str:
    return DEFAULT_SERVER if registry == DEFAULT_REGISTRY else registry


def _key(key: str) -> str:
    """`https://host/v1/`, as old versions wrote, is `host`."""
    bare = re.sub(r"^https?://", "", key)
    host, _, path = bare.partition("/")
    path = path.strip("/")
    return host.lower() if path in ("", "v1", "v2") else f"{host.lower()}/{path}"


def _credentials(entry: Mapping[str, Any], what: str, where: str) -> Credentials | None:
    values = {}
    for name in ("auth", "username", "password", "identitytoken", "registrytoken"):
        value = entry.get(name) or ""
        if not isinstance(value, str):
            raise _damaged(where, f"{what}, {name}")
        values[name] = value
    username, password = values["username"], values["password"]
    if values["auth"]:
        try:
            pair = base64.b64decode(values["auth"], validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _damaged(where, f"{what}, auth") from error
        username, colon, password = pair.partition(":")
        if not colon:
            raise _damaged(where, f"{what}, auth")
        password = password.rstrip("\0")
    made = Credentials(username, password, values["identitytoken"], values["registrytoken"])
    if username == TOKEN_USER:
        made = Credentials("", "", password, values["registrytoken"])
    return made if made != Credentials() else None


def _mapping(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise _damaged(where, key)
    return value


def _helper_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", name):
        raise _damaged(where, "the name of a credential helper")
    return name


def _damaged(where: str, what: str) -> ConfigError:
    return ConfigError(f"{where} is damaged: {what[:200]}", hint="mend it, or log in again")


@dataclass(frozen=True)
class AuthFiles:
    """The files that exist on this machine, the first one that knows a registry counts."""

    files: tuple[tuple[Path, AuthFile], ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> AuthFiles:
        """Podman's files, then Docker's; `REGISTRY_AUTH_FILE`, when set, instead of Podman's.

        Raises ConfigError when one is damaged or cannot be read.
        """
        found: list[tuple[Path, AuthFile]] = []
        for path in auth_paths(environment):
            try:
                with path.open("rb") as file:
                    text = file.read(MAX_FILE + 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ConfigError(f"cannot read {path}: {error.strerror}") from error
            if len(text) > MAX_FILE:
                raise _damaged(str(path), "it is larger than 1 MiB")
            if text.strip():
                found.append((path, AuthFile.parse(text, str(path))))
        return cls(tuple(found))

    def find(self, registry: str, repository: str = "") -> Credentials | Helper | None:
        """The first file's entry for a repository."""
        for _, file in self.files:
            entry = file.find(registry, repository)
            if entry is not None:
                return entry
        return None


def auth_paths(environment: Mapping[str, str]) -> list[Path]:
    """Where files of credentials may lie, in the order in which they count."""
    home = Path(environment.get("HOME") or Path.home())
    named = environment.get("REGISTRY_AUTH_FILE")
    if named:
        paths = [Path(named)]
    else:
        runtime = environment.get("XDG_RUNTIME_DIR")
        paths = [Path(runtime) / "containers/auth.json"] if runtime else []
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        paths.append(config / "containers/auth.json")
    docker = environment.get("DOCKER_CONFIG")
    return [*paths, (Path(docker) if docker else home / ".docker") / "config.json"]
