"""What a program of a guest may ask of the runtime that it was lent. Pure.

A request is one JSON object. Every field is checked here for its type, its length and its range; a
field that is not known is refused, so that nobody relies on what is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sandlot.errors import ConfigError, GuestProtocolError
from sandlot.network.policy import Network
from sandlot.sizes import parse_size

VERSION = 1
LONGEST_TEXT = 4096
LONGEST_ARGUMENT = 32768
MOST_ARGUMENTS = 1024
MOST_VARIABLES = 512
MOST_NAMES = 64
MOST_RULES = 256
LARGEST = 1 << 50
"""Bytes of memory or disk that anybody could mean."""
LONGEST_TIMEOUT = 1e8
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_VARIABLE = re.compile(r"[^=\x00]{1,256}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Base of all requests."""


@dataclass(frozen=True, kw_only=True)
class Hello(Request):
    """What is this, and what was granted?"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a peer is to be granted itself; what is None is as much as there is."""

    max_sandboxes: int = 1
    memory: int | None = None
    images: tuple[str, ...] | None = None
    network: Network | None = None
    secrets: tuple[str, ...] | None = None
    max_depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Start(Request):
    """Start a peer. What is None or 0 is chosen on the host."""

    name: str | None = None
    image: str | None = None
    command: tuple[str, ...] = ()
    memory: int | None = None
    cpus: int = 1
    disk: int | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str | None = None
    user: str | None = None
    network: Network | None = None
    secrets: tuple[str, ...] = ()
    runtime: Wanted | None = None


@dataclass(frozen=True, kw_only=True)
class ListPeers(Request):
    """Every peer that this guest started."""


@dataclass(frozen=True, kw_only=True)
class OfPeer(Request):
    """Base of what is asked about one peer, by its name or id."""

    peer: str


@dataclass(frozen=True, kw_only=True)
class Exec(OfPeer):
    """Run a program; with `stdin`, frames of INPUT are what it reads."""

    command: tuple[str, ...]
    stdin: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    workdir: str | None = None
    user: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Logs(OfPeer):
    """What the peer's command said."""

    follow: bool = False
    tail: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stop(OfPeer):
    """Stop and remove a peer."""

    grace: float | None = None
    kill: bool = False


@dataclass(frozen=True, kw_only=True)
class OfFile(OfPeer):
    """Base of what is asked about a file of a peer."""

    path: str


@dataclass(frozen=True, kw_only=True)
class ReadFile(OfFile):
    """The contents of a file."""


@dataclass(frozen=True, kw_only=True)
class WriteFile(OfFile):
    """Write a file, whole or not at all; frames of INPUT are what it holds."""

    mode: int | None = None
    parents: bool = False


@dataclass(frozen=True, kw_only=True)
class ListFiles(OfFile):
    """What is in a folder."""


@dataclass(frozen=True, kw_only=True)
class MakeFolder(OfFile):
    """Make a folder, and those above it."""


@dataclass(frozen=True, kw_only=True)
class RemoveFile(OfFile):
    """Remove a file, or a folder with all that is in it."""

    recursive: bool = False


OPERATIONS: dict[str, type[Request]] = {
    "hello": Hello, "start": Start, "list": ListPeers, "exec": Exec, "logs": Logs, "stop": Stop,
    "read": ReadFile, "write": WriteFile, "files": ListFiles, "mkdir": MakeFolder,
    "remove": RemoveFile,
}  # fmt: skip
TAKES_INPUT = (Exec, WriteFile)


def parse_request(data: bytes) -> Request:
    """What a guest asks.

    Raises:
        GuestProtocolError: this is no request.
        ConfigError: a field of it is wrong.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GuestProtocolError("a request is one JSON object") from error
    if not isinstance(found, dict):
        raise GuestProtocolError("a request is one JSON object")
    version = found.pop("version", None)
    if isinstance(version, bool) or version != VERSION:
        raise GuestProtocolError(f"version {_shown(version)}; this host speaks {VERSION}")
    operation = found.pop("op", None)
    kind = OPERATIONS.get(operation) if isinstance(operation, str) else None
    if kind is None:
        raise GuestProtocolError(f"nothing is called {_shown(operation)}")
    made: Request = _made(kind, found)
    return made


def _made(kind: type[Any], found: dict[str, Any]) -> Any:
    known = {each.name for each in fields(kind)}
    for name in found:
        if name not in known:
            raise ConfigError(f"nothing is called {_shown(name)} in a request of this kind")
    values = {name: CHECKS[name](name, value) for name, value in found.items() if value is not None}
    for each in ("peer", "path", "command"):
        if each in known and each not in values and kind is not Start:
            raise ConfigError(f"{each} is missing")
    return kind(**values)


def _shown(value: object) -> str:
    return ascii(value)[:40]


def _text(what: str, value: object, most: int = LONGEST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise ConfigError(f"{what} is not text of at most {most} characters without NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{what} has characters that are none") from None
    return value


def _word(what: str, value: object) -> str:
    text = _text(what, value, 256)
    if not text:
        raise ConfigError(f"{what} is empty")
    return text


def _name(what: str, value: object) -> str:
    text = _text(what, value, 256)
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"{_shown(text)} is not a name for a sandbox",
            hint="use lower-case letters, digits and `-` inside, at most 32",
        )
    return text


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{what} is neither true nor false")
    return value


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    def check(what: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{what} is not a whole number from {least} to {most}")
        return value

    return check


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{what} is not a number of seconds")
    if not 0 <= value <= LONGEST_TIMEOUT:  # neither is one that is no number
        raise ConfigError(f"{what} is out of range")
    return float(value)


def _size(what: str, value: object) -> int:
    if isinstance(value, str):
        if len(value) > 32:
            raise ConfigError(f"{what} is not a size")
        value = parse_size(value, what)
    return _whole(1, LARGEST)(what, value)


def _listed(what: str, value: object, most: int) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise ConfigError(f"{what} is not a list of at most {most}")
    return value


def _command(what: str, value: object) -> tuple[str, ...]:
    found = _listed(what, value, MOST_ARGUMENTS)
    if not found:
        raise ConfigError(f"{what} is empty")
    return tuple(_text(what, each, LONGEST_ARGUMENT) for each in found)


def _names(what: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_word(what, each) for each in _listed(what, value, MOST_NAMES)))


def _env(what: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MOST_VARIABLES:
        raise ConfigError(f"{what} is not at most {MOST_VARIABLES} names and values")
    for name in value:
        if not _VARIABLE.fullmatch(_text(what, name)):
            raise ConfigError(f"{_shown(name)} is not the name of a variable")
    return {name: _text(what, each, LONGEST_ARGUMENT) for name, each in value.items()}


def _network(what: str, value: object) -> Network:
    if not isinstance(value, dict) or set(value) - {"allow", "deny", "default", "hidden_names"}:
        raise ConfigError(f"{what} is not a policy with allow, deny and default")
    rules = {
        verb: [_text(f"a rule of {what}", each, 512) for each in _listed(what, given, MOST_RULES)]
        for verb in ("allow", "deny")
        if (given := value.get(verb)) is not None
    }
    default = value.get("default")
    if default not in (None, "deny", "public", "open"):
        raise ConfigError(f"{what} has an unknown default", hint="use deny, public or open")
    return Network(
        rules.get("allow"), rules.get("deny"), default,
        hidden_names=_flag(what, value.get("hidden_names", False)),
    )  # fmt: skip


def _runtime(what: str, value: object) -> Wanted:
    if not isinstance(value, dict):
        raise ConfigError(f"{what} is not a grant")
    made: Wanted = _made(Wanted, value)
    return made


CHECKS: dict[str, Callable[[str, object], Any]] = {
    "name": _name, "image": _word, "command": _command, "memory": _size,
    "cpus": _whole(1, 64), "disk": _size, "env": _env, "workdir": _text, "user": _text,
    "network": _network, "secrets": _names, "runtime": _runtime, "peer": _word,
    "stdin": _flag, "timeout": _seconds, "follow": _flag, "tail": _whole(0, 1_000_000),
    "grace": _seconds, "kill": _flag, "path": _text,
    "mode": _whole(0, 0o7777), "parents": _flag, "recursive": _flag,
    "max_sandboxes": _whole(1, 256), "images": _names, "max_depth": _whole(1, 8),
}  # fmt: skip
