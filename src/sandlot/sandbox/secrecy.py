"""The secrets of a sandbox, from what a program gives to what its owner holds.

What is written down are sources and placeholders. Values are in the memory of the owner alone; the
keeper of a detached sandbox gets those that a program gave through a pipe.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError
from sandlot.sandbox.trusting import ENVIRONMENT
from sandlot.secrets import Secret, Vault, as_secret
from sandlot.secrets.source import Called, Given, Missing
from sandlot.state.records import SandboxRecord

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.network.hooks import Hooks
    from sandlot.network.tls.authority import Authority


@dataclass(frozen=True)
class Grants:
    """What children of a sandbox in this program are given: its secrets, its hooks, its plugins,
    its volumes, and the authority whose certificate its programs may have loaded."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)
    hooks: Hooks | None = None
    authority: Authority | None = None
    volumes: Mapping[str, FileSystem] = field(default_factory=dict)
    plugins: tuple[object, ...] = ()


def checked_secrets(secrets: object, env: Mapping[str, str], detached: bool) -> dict[str, Secret]:
    """What `secrets=` may be.

    Raises:
        ConfigError: it is not a mapping of names to secrets, or a name is a variable as well.
    """
    if secrets is None:
        return {}
    if not isinstance(secrets, Mapping):
        raise ConfigError(
            f"secrets is {type(secrets).__name__}, not a mapping",
            hint='use secrets={"API_KEY": (key, "api.example.com")}',
        )
    found = {}
    for name, given in secrets.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ConfigError(f"{name!r} is not the name of a secret's variable")
        if name in env:
            raise ConfigError(f"{name} is a secret and in env=", hint="leave it out of env=")
        found[name] = as_secret(name, given)
        if detached and isinstance(found[name].source, Called):
            raise ConfigError(
                f"the secret {name} is a function, which a detached sandbox cannot call",
                hint="use Secret(command=...) or Secret(file=...)",
            )
    return found


async def secret_options(
    secrets: Mapping[str, Secret], *, looks: bool = False
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a record, and the variables of the sandbox. Every value is read once.

    With `looks` hosts are looked into also without a secret.

    Raises:
        SecretUnavailable: one cannot be had.
    """
    if not secrets and not looks:
        return {}, {}
    placeholders = (await Vault.fresh(secrets)).environment()
    fields = {
        "secrets": {name: secret.to_record() for name, secret in secrets.items()},
        "placeholders": placeholders,
    }
    return fields, {**ENVIRONMENT, **placeholders}


def recorded_secrets(record: SandboxRecord, given: Mapping[str, Secret]) -> dict[str, Secret]:
    """The secrets of a sandbox that is about to start: as its record says, or as they are given."""
    return {
        name: given.get(name) or Secret.from_record(described)
        for name, described in record.secrets.items()
    }


def again(
    record: SandboxRecord, before: Mapping[str, Secret], secrets: object
) -> dict[str, Secret]:
    """Secrets that are given anew for a start.

    Raises:
        ConfigError: the sandbox has none of that name.
    """
    fresh = checked_secrets(secrets, {}, record.detached)
    for name in fresh:
        if name not in record.secrets:
            raise ConfigError(
                f"sandbox {record.name!r} has no secret {name}",
                hint="name its secrets when it is made",
            )
    return {**before, **fresh}


def packed(secrets: Mapping[str, Secret]) -> bytes:
    """The values that a program gave, for a keeper's pipe. Others it reads by itself."""
    values = {}
    for name, secret in secrets.items():
        if isinstance(secret.source, Given):
            values[name] = base64.b64encode(secret.source.value).decode()
    return json.dumps(values).encode()


def unpacked(record: SandboxRecord, data: bytes) -> dict[str, Secret]:
    """What a keeper got, as the secrets of its sandbox."""
    found = {}
    for name, text in json.loads(data or b"{}").items():
        secret = Secret.from_record(record.secrets[name])
        if isinstance(secret.source, Missing):
            secret.source = Given(base64.b64decode(text))
        found[name] = secret
    return found
