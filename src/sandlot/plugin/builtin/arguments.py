"""What stands after `NAME=` of a plugin that is named."""

from __future__ import annotations

from collections.abc import Collection

from sandlot.errors import ConfigError
from sandlot.sizes import parse_size


def words(plugin: str, argument: str, known: Collection[str]) -> dict[str, str]:
    """`NAME:VALUE,NAME:VALUE` as a mapping.

    Raises:
        ConfigError: it is not that, or has a name that is not known.
    """
    found: dict[str, str] = {}
    for part in filter(None, argument.split(",")):
        name, colon, value = part.partition(":")
        if not colon or name not in known:
            raise ConfigError(
                f"{plugin}={argument}: {part!r} is not understood",
                hint=f"use {plugin}=NAME:VALUE,... with {', '.join(known)}",
            )
        found[name] = value
    return found


def numbers(plugin: str, argument: str, known: Collection[str]) -> dict[str, float]:
    """As `words`, with numbers; `bytes` may have a unit.

    Raises:
        ConfigError: one is no number.
    """
    found = {}
    for name, value in words(plugin, argument, known).items():
        try:
            found[name] = float(parse_size(value, "bytes")) if name == "bytes" else float(value)
        except ValueError:
            raise ConfigError(f"{plugin}: {name}:{value} is not a number") from None
    return found
