"""Sizes, times and names as people write them, and as JSON has them. Pure."""

from __future__ import annotations

import re

from sandlot.errors import ConfigError
from sandlot.sandbox.arguments import text
from sandlot.sizes import parse_size, unit_size
from sandlot.times import iso_time

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_SECONDS = {"ms": 0.001, "s": 1, None: 1, "m": 60, "h": 3600, "d": 86400}


__all__ = [
    "check_hostname", "check_name", "check_range", "iso_time", "parse_duration", "parse_size",
]  # fmt: skip


def check_range(value: int | str, size: int, what: str, least: int, most: int) -> None:
    """Raise ConfigError unless `size`, which `value` stands for, lies between two whole MiB.

    A number without a unit is bytes, which nobody means who writes a small one.
    """
    if least <= size <= most:
        return
    near, bound = ("small", f"the least is {_short(least)}") if size < least else (
        "large", f"the most is {_short(most)}"
    )  # fmt: skip
    text = str(value).strip()
    if text.isdecimal():
        meant = next((unit for unit in "MG" if least <= int(text) * unit_size(unit) <= most), "")
        raise ConfigError(
            f"{what} {text} means {text} byte{'' if text == '1' else 's'}, and {bound}",
            hint=f"did you mean {text}{meant}?" if meant else "use for example 512M or 4G",
        )
    raise ConfigError(
        f"{what} {text} is too {near}: {bound}", hint=f"use {_short(least)} to {_short(most)}"
    )


def _short(size: int) -> str:
    """A whole number of MiB, as people write it."""
    gigabytes = size % unit_size("G") == 0
    return f"{size // unit_size('G')}G" if gigabytes else f"{size // unit_size('M')}M"


def parse_duration(value: float | str | None, what: str = "timeout") -> float | None:
    """`"10m"`, `"1.5s"` or seconds, as seconds; None stays None.

    Raises:
        ConfigError: not a duration, or not above zero.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        found = _DURATION.match(str(value).strip())
        seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds < 1e9:
        raise ConfigError(f"{what} {value!r} is not a duration", hint="use for example 30s or 10m")
    return seconds


def check_name(name: str, what: str = "sandbox") -> str:
    """A name for a sandbox or the like, if it is one.

    Raises:
        ConfigError: it is not.
    """
    if not _NAME.fullmatch(text(name, f"the name of a {what}", f'"my-{what}"')):
        raise ConfigError(
            f"{name!r} is not a name for a {what}",
            hint="use letters, digits, `_`, `.` and `-`, at most 63, beginning with a letter or digit",
        )
    return name


def check_hostname(name: str) -> str:
    """A host name, if it is one.

    Raises:
        ConfigError: it is not.
    """
    if not re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?", name):
        raise ConfigError(f"{name!r} is not a host name", hint="use letters, digits, `.` and `-`")
    return name
