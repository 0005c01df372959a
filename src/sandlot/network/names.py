"""Names of hosts: one spelling for each, and what is no name but an address in disguise."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

LONGEST_NAME = 253
LONGEST_LABEL = 63

_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
# IDNA 2003 and 2008 give these to different hosts: nobody can tell which is meant.
_AMBIGUOUS = "\u00df\u03c2\u200c\u200d"


def normalise(text: str) -> str:
    """The one spelling of a host name: A-labels, lower case, no final dot.

    Raises:
        ValueError: it is no host name; the text says why.
    """
    if not text.isascii():
        text = _ascii(text)
    name = text.removesuffix(".").lower()
    if not name:
        raise ValueError("it is empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"it is longer than {LONGEST_NAME} characters")
    for label in name.split("."):
        if not label:
            raise ValueError("it has an empty part between dots")
        if len(label) > LONGEST_LABEL:
            raise ValueError(f"a part of it is longer than {LONGEST_LABEL} characters")
        if not _LABEL.fullmatch(label):
            raise ValueError("only letters, digits, `-`, `_` and dots make a name")
    return name


def _ascii(text: str) -> str:
    if any(character in text for character in _AMBIGUOUS):
        raise ValueError("it has letters that two standards spell differently, use its xn-- form")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"it is longer than {LONGEST_NAME} characters")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("it cannot be spelled in ASCII, use its xn-- form") from None


def ends_in_number(name: str) -> bool:
    """Whether resolvers and URL parsers may take the name for an IPv4 address.

    `127.1`, `0x7f.1`, `2130706433` and `017700000001` reach loopback with some; no host is called so.
    """
    return _NUMBER.fullmatch(name.lower().removesuffix(".").rpartition(".")[2]) is not None


def loose_ipv4(text: str) -> IPv4Address | None:
    """The address that inet_aton(3) reads: one to four parts, decimal, octal or hexadecimal."""
    parts = text.lower().removesuffix(".").split(".")
    if len(parts) > 4 or len(text) > 64:
        return None
    numbers = []
    for part in parts:
        if not _NUMBER.fullmatch(part):
            return None
        base = 16 if part.startswith("0x") else 8 if part.startswith("0") else 10
        try:
            numbers.append(int(part.removeprefix("0x") or "0", base))
        except ValueError:
            return None
    *high, last = numbers
    if any(number > 255 for number in high) or last >= 1 << 8 * (5 - len(numbers)):
        return None
    for place, number in enumerate(high):
        last |= number << 8 * (3 - place)
    return IPv4Address(last)
