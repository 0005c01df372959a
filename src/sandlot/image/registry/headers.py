"""What registries say in headers, read without trust: any text gives an answer or None.

Sources: RFC 9110 (challenges, Retry-After, Content-Range), RFC 8288 (Link), the OCI distribution
specification, and the `ratelimit-*` headers of the registries that have them.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass, field

MAX_HEADER = 16 * 1024
"""Bytes of one header that are looked at."""
MAX_CHALLENGES = 16
MAX_RETRY_AFTER = 24 * 3600.0
"""Seconds: what asks for more is read as this."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
_SPACE = re.compile(r"[\s,]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Challenge:
    """One way to authenticate that a server names. `scheme` is in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(value: str) -> tuple[Challenge, ...]:
    """The challenges of a WWW-Authenticate header; what is malformed ends the list.

    >>> parse_challenges('Bearer realm="https://auth.example.com/t",service="s", Basic realm="x"')[1]
    Challenge(scheme='basic', parameters={'realm': 'x'})
    """
    text = value[:MAX_HEADER]
    found: list[Challenge] = []
    at = _skip(text, 0)
    while at < len(text) and len(found) < MAX_CHALLENGES:
        scheme = _TOKEN.match(text, at)
        if scheme is None or text[scheme.end() :].lstrip()[:1] == "=":
            break
        challenge = Challenge(scheme[0].lower())
        found.append(challenge)
        at = scheme.end()
        blank = re.compile(r"[ \t]+").match(text, at)
        single = _TOKEN68.match(text, blank.end()) if blank else None
        if single is not None and "=" not in single[0].rstrip("="):
            following = _parameter(text, single.start())
            if following is None:
                at = _skip(text, single.end())
                continue
        at = _skip(text, at)
        while (read := _parameter(text, at)) is not None:
            name, content, at = read
            challenge.parameters.setdefault(name, content)
            at = _skip(text, at)
    return tuple(found)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _parameter(text: str, at: int) -> tuple[str, str, int] | None:
    """`name=value` or `name="value"` at this place, and where it ends."""
    name = _TOKEN.match(text, at)
    if name is None:
        return None
    equals = re.compile(r"\s*=\s*").match(text, name.end())
    if equals is None:
        return None
    quoted = _QUOTED.match(text, equals.end())
    if quoted is not None:
        return name[0].lower(), re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    plain = _TOKEN.match(text, equals.end())
    if plain is None:
        return None
    return name[0].lower(), plain[0], plain.end()


def next_link(value: str) -> str | None:
    """The address of the next page in a Link header, as it stands there.

    >>> next_link('</v2/a/tags/list?n=2&last=b>; rel="next"')
    '/v2/a/tags/list?n=2&last=b'
    """
    for match in re.finditer(r"<([^<>]*)>([^<]*)", value[:MAX_HEADER]):
        relation = re.search(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))", match[2], re.IGNORECASE)
        if relation is not None and "next" in (relation[1] or relation[2] or "").lower().split():
            return match[1]
    return None


def retry_after(value: str, now: float) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or a date, of which `now` is known."""
    text = value.strip()[:100]
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(float(text), MAX_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    return min(max(when - now, 0.0), MAX_RETRY_AFTER)


@dataclass(frozen=True)
class RateLimit:
    """How many pulls a registry allows. `window` is in seconds; None is what it did not say."""

    limit: int | None
    remaining: int | None
    window: int | None = None


def rate_limit(limit: str, remaining: str) -> RateLimit | None:
    """From `ratelimit-limit` and `ratelimit-remaining`, such as `100;w=21600`; None without both.

    >>> rate_limit("100;w=21600", "76;w=21600")
    RateLimit(limit=100, remaining=76, window=21600)
    """
    most, left = _count(limit), _count(remaining)
    if most is None and left is None:
        return None
    window = re.search(r";\s*w=([0-9]{1,9})", limit[:200]) or re.search(
        r";\s*w=([0-9]{1,9})", remaining[:200]
    )
    return RateLimit(most, left, int(window[1]) if window else None)


def _count(value: str) -> int | None:
    match = re.match(r"\s*([0-9]{1,12})", value[:200])
    return int(match[1]) if match else None


def content_range(value: str) -> tuple[int, int, int | None] | None:
    """First byte, last byte and whole length of a Content-Range header; None when malformed.

    >>> content_range("bytes 100-199/200")
    (100, 199, 200)
    """
    match = re.fullmatch(r"\s*bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)\s*", value[:200])
    if match is None or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])


def media_type(value: str) -> str:
    """A Content-Type header without its parameters, in lower case."""
    return value[:200].partition(";")[0].strip().lower()
