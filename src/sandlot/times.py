"""Times as JSON has them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(seconds: float) -> str | None:
    """Seconds since 1970 as JSON has them: ISO 8601 in UTC; None for 0, which means never."""
    if not seconds:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
