"""What strangers say, made fit to be shown. Pure."""

from __future__ import annotations

import json

LONGEST = 200


def printable(text: str, limit: int = LONGEST) -> str:
    """One line without control characters, at most `limit` characters."""
    return "".join(c if c.isprintable() else " " for c in text[:limit]).strip()


def complaint(body: bytes) -> str:
    """A registry's own words about an error, with a colon before them; empty without any.

    >>> complaint(b'{"errors": [{"code": "DENIED", "message": "no access"}]}')
    ': no access'
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    text: object = None
    if isinstance(data, dict):
        errors = data.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            text = errors[0].get("message") or errors[0].get("code")
        text = text or data.get("details") or data.get("message") or data.get("error")
    shown = printable(text) if isinstance(text, str) else ""
    return f": {shown}" if shown else ""


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(21600), duration(90), duration(7)
    ('6 hours', '2 minutes', '7 seconds')
    """
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = round(seconds / size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    count = max(1, round(seconds))
    return f"{count} second{'s' if count > 1 else ''}"
