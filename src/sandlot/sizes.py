"""Sizes as people write them. Pure."""

from __future__ import annotations

import re

from sandlot.errors import ConfigError

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$", re.IGNORECASE | re.ASCII)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(value: int | str, what: str = "size") -> int:
    """`"512M"`, `"4GiB"` or a number of bytes, as bytes; units are powers of 1024.

    Raises:
        ConfigError: not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value <= 0:
            raise ConfigError(f"{what} {value} is not a size", hint="use for example 512M or 4G")
        return value
    found = _SIZE.match(str(value).strip())
    size = int(float(found[1]) * unit_size(found[2].upper())) if found else 0
    if size <= 0:
        raise ConfigError(f"{what} {value!r} is not a size", hint="use for example 512M or 4G")
    return size


def unit_size(unit: str) -> int:
    """How many bytes `""`, `"K"`, `"M"`, `"G"` or `"T"` stand for."""
    return 1 << (10 * _UNITS[unit])
