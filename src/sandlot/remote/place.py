"""What people write to say where something is pushed, or pulled from. Pure.

web            the name `web` in the default remote
web@3          its version 3
backup         a remote, by the name that `sandlot remote add` gave it
s3://bucket/x  an address; ADDRESS#web and ADDRESS#web@3 name something in it
"""

from __future__ import annotations

from dataclasses import dataclass

from sandlot.errors import ConfigError
from sandlot.remote.address import is_address
from sandlot.remote.manifest import is_name


@dataclass(frozen=True)
class Place:
    """`remote` is an address or the name of a remote, empty for the default one; `name` is empty
    and `version` None where none was said."""

    remote: str = ""
    name: str = ""
    version: int | None = None


def parse_place(text: str, remote: str = "") -> Place:
    """What to pull.

    >>> parse_place("web@3"), parse_place("s3://b/x#web").name
    (Place(remote='', name='web', version=3), 'web')

    Raises:
        ConfigError: it cannot be read, or names a remote although one was given.
    """
    if not is_address(text):
        name, version = _named(text)
        return Place(remote, name, version)
    address, _, fragment = text.partition("#")
    if remote:
        raise ConfigError(f"{text!r} is an address, and a remote was given: {remote!r}")
    name, version = _named(fragment) if fragment else ("", None)
    return Place(address, name, version)


def checked_push_name(name: str) -> str:
    """A name to push under.

    Raises:
        ConfigError: it cannot be one.
    """
    if not is_name(name):
        raise ConfigError(
            f"{name!r} is not a name to push under",
            hint="use letters, digits, `_`, `.` and `-`, at most 63, beginning with a letter or "
            "digit",
        )
    return name


def _named(text: str) -> tuple[str, int | None]:
    name, mark, number = text.partition("@")
    if not mark:
        return checked_push_name(name), None
    if not number.isdecimal() or not number.isascii() or not 0 < int(number[:13]) < 1 << 40:
        raise ConfigError(f"{number[:20]!r} is no version", hint="use for example web@3")
    return checked_push_name(name), int(number)
