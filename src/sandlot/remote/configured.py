"""The remotes that this user has given names: a file that `sandlot remote` writes, and people may.

default = "team"

[remote.team]
address = "s3://bucket/sandboxes"
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.remote.address import Address, is_address, parse_address
from sandlot.settings import Settings

MAX_FILE = 1 << 20
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Remotes:
    """Addresses by their names, and the name of the default one, empty when there is none."""

    addresses: dict[str, str] = field(default_factory=dict)
    default: str = ""


def read_remotes(settings: Settings) -> Remotes:
    """What is written down. Raises ConfigError when the file is malformed."""
    path = settings.remotes
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Remotes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return parse_remotes(data, str(path))


def parse_remotes(data: bytes, where: str) -> Remotes:
    """The file's text. Raises ConfigError naming what is wrong."""
    hint = f"mend {where}, or remove it and use `sandlot remote add`"
    if len(data) > MAX_FILE:
        raise ConfigError(f"{where} is larger than 1 MiB", hint=hint)
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not TOML: {error}", hint=hint) from error
    for key in document:
        if key not in ("default", "remote"):
            raise ConfigError(f"{where}: {key!r} is not known there", hint=hint)
    tables, default = document.get("remote", {}), document.get("default", "")
    if not isinstance(tables, dict) or not isinstance(default, str):
        raise ConfigError(f"{where}: 'remote' or 'default' has the wrong type", hint=hint)
    addresses: dict[str, str] = {}
    for name, table in tables.items():
        check_remote_name(name)
        if not isinstance(table, dict) or set(table) != {"address"}:
            raise ConfigError(f"{where}: {name} has more or less than an address", hint=hint)
        if not isinstance(table["address"], str):
            raise ConfigError(f"{where}: the address of {name} is not a text", hint=hint)
        addresses[name] = str(parse_address(table["address"]))
    if default and default not in addresses:
        raise ConfigError(f"{where}: the default {default[:100]!r} is no remote of it", hint=hint)
    return Remotes(addresses, default)


def check_remote_name(name: str) -> str:
    """The name, if a remote may have it. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:100]!r} is not a name for a remote",
            hint="use letters, digits, _ . and -, at most 63, beginning with a letter or digit",
        )
    return name


def find_remote(text: str, settings: Settings) -> str:
    """The address that a name or an address stands for; an empty text is the default remote.

    Raises ConfigError when there is no such remote, or no default.
    """
    text = text or settings.remote
    if text and is_address(text):
        return str(parse_address(text))
    remotes = read_remotes(settings)
    if not text and not remotes.default:
        raise ConfigError(
            "no remote was given, and none is the default",
            hint="run `sandlot remote add --default NAME ADDRESS`, or set SANDLOT_REMOTE",
        )
    name = text or remotes.default
    if name not in remotes.addresses:
        known = ", ".join(sorted(remotes.addresses))
        raise ConfigError(
            f"there is no remote {name[:100]!r}",
            hint=f"there are {known}" if known else "run `sandlot remote add NAME ADDRESS`",
        )
    return remotes.addresses[name]


def add_remote(name: str, address: Address, settings: Settings, *, default: bool = False) -> None:
    """Write a remote down. A folder's path is made absolute. Raises ConfigError."""
    check_remote_name(name)
    if address.kind == "folder":
        path = os.path.abspath(Path(address.path).expanduser())  # noqa: PTH100, no links followed
        address = replace(address, path=path)
    with _changing(settings) as remotes:
        if remotes.addresses.get(name, str(address)) != str(address):
            raise ConfigError(
                f"there is a remote {name} already: {remotes.addresses[name]}",
                hint=f"remove it with `sandlot remote rm {name}`, or choose another name",
            )
        addresses = {**remotes.addresses, name: str(address)}
        _write(settings.remotes, Remotes(addresses, name if default else remotes.default))


def remove_remote(name: str, settings: Settings) -> None:
    """Forget a remote. What was pushed to it stays there. Raises ConfigError."""
    with _changing(settings) as remotes:
        if name not in remotes.addresses:
            raise ConfigError(f"there is no remote {name[:100]!r}")
        addresses = {key: value for key, value in remotes.addresses.items() if key != name}
        _write(
            settings.remotes, Remotes(addresses, "" if remotes.default == name else remotes.default)
        )


def written(remotes: Remotes) -> str:
    """The file's text."""
    lines = ["# Written by `sandlot remote`."]
    if remotes.default:
        lines.append(f"default = {json.dumps(remotes.default)}")
    for name, address in sorted(remotes.addresses.items()):
        text = json.dumps(address, ensure_ascii=False)
        lines += ["", f"[remote.{json.dumps(name)}]", f"address = {text}"]
    return "\n".join(lines) + "\n"


@contextmanager
def _changing(settings: Settings) -> Iterator[Remotes]:
    """The remotes, which nobody else changes meanwhile."""
    path = settings.remotes
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.with_name(f".{path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield read_remotes(settings)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, remotes: Remotes) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        new.write_text(written(remotes), encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
