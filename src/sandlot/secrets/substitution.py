"""Values in place of placeholders, in the head of one request.

A `Substitution` is what one connection to one host may have. It knows which of the sandbox's
secrets that host may get; each other placeholder goes out as it is, and is told as misuse.
Everything here is pure: values are handed in (`Bound.value`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sandlot.secrets.places import AUTHORIZATION_SCHEMES
from sandlot.secrets.secret import Secret

Fields = list[tuple[bytes, bytes]]

MIN_MASKED = 8
"""Bytes of a value that can be masked in answers: shorter ones are found by chance."""
MOST_FORMER = 8
"""Values that were rotated, and are still masked in answers."""
MAX_ECHOES = 32
"""Tokens of basic authentication that are remembered, to mask them in answers."""
MAX_SHOWN = 64
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_AUTHORIZATION = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)( +)(.*)", re.DOTALL)


class Bound:
    """A secret of one sandbox: its name, its placeholder there, and its value, if it is known.

    `value` may be set at any time; the next request has it. `problem` says why there is none.
    `former` are the last few values before it, where answers are masked.
    """

    __slots__ = ("_value", "former", "name", "placeholder", "problem", "secret")

    def __init__(
        self, name: str, secret: Secret, placeholder: str, value: bytes | None = None
    ) -> None:
        self.name = name
        self.secret = secret
        self.placeholder = placeholder.encode("ascii")
        self._value = value
        self.former: tuple[bytes, ...] = ()
        self.problem = ""

    @property
    def value(self) -> bytes | None:
        """What goes out in the place of the placeholder."""
        return self._value

    @value.setter
    def value(self, value: bytes | None) -> None:
        before, self._value = self._value, value
        if self.secret.mask_echo and before is not None and before != value:
            rest = tuple(one for one in self.former if one != before)
            self.former = (before, *rest)[:MOST_FORMER]

    def __repr__(self) -> str:
        return f"Bound({self.name!r}, {self.placeholder.decode()!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a bound secret cannot be pickled: its value would be written down")


@dataclass(frozen=True, slots=True)
class Use:
    """A placeholder was found. `place` is `header NAME`, `query NAME`, `path`, `body`; `replaced`
    says whether the value went out, or the placeholder as it stood."""

    secret: str
    host: str
    place: str
    replaced: bool


class Refusal(Exception):
    """This request is not sent. The guest gets `reason`; `hint` is for the user alone, and may
    tell of the host. `use` is the placeholder that was found, if that is why."""

    def __init__(
        self, reason: str, hint: str = "", *, status: int = 403, use: Use | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.status = status
        self.use = use


@dataclass(slots=True)
class Head:
    """The head of a request as it goes out, and what was found in it."""

    target: bytes
    fields: Fields
    uses: list[Use] = field(default_factory=list)


@dataclass(slots=True)
class Substitution:
    """What the requests of one connection may have. `host` is in its normal form."""

    bound: Sequence[Bound]
    host: str
    port: int
    tls: bool = True
    echoes: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    _pattern: re.Pattern[bytes] = field(init=False)
    _by_placeholder: dict[bytes, Bound] = field(init=False)
    _shortest: int = field(init=False)

    def __post_init__(self) -> None:
        self._by_placeholder = {one.placeholder: one for one in self.bound}
        pattern = b"|".join(map(re.escape, self._by_placeholder))
        self._pattern = re.compile(pattern or b"(?!)")
        self._shortest = min(map(len, self._by_placeholder), default=0)

    def may(self, one: Bound) -> bool:
        """Whether this host may get this secret now."""
        secret = one.secret
        return (self.tls or secret.plain_http) and secret.names(self.host, self.port)

    @property
    def active(self) -> bool:
        """Whether this host may get any secret."""
        return any(self.may(one) for one in self.bound)

    def named(self) -> list[Bound]:
        """The secrets that this host may get."""
        return [one for one in self.bound if self.may(one)]

    def masked(self) -> list[Bound]:
        """Those of them whose values are masked in answers."""
        return [one for one in self.named() if one.secret.mask_echo]

    def head(self, target: bytes, fields: Fields) -> Head:
        """The head as it goes out.

        Raises:
            Refusal: a secret says so, or its value is missing or cannot stand there.
        """
        made = Head(target, fields)
        if self.bound:
            made.target = self._target(target, made.uses)
            made.fields = [(name, self._field(name, value, made.uses)) for name, value in fields]
        return made

    def check(
        self, placeholder: bytes, place: str, allowed: Callable[[Bound], bool]
    ) -> Bound | None:
        """The secret whose value goes there, or None when the placeholder stays.

        Raises:
            Refusal: the secret says so, or its value is missing.
        """
        one = self._by_placeholder[placeholder]
        if not self.may(one) or not allowed(one):
            if one.secret.on_misuse == "refuse":
                raise Refusal(
                    f"the placeholder of {one.name} is in the {place} of a request to {self.host}",
                    f"to allow it, name the host or the place in the secret {one.name}",
                    use=Use(one.name, self.host, place, False),
                )
            return None
        if one.value is None:
            raise Refusal(
                f"the value of {one.name} is missing",
                one.problem or f"the value of {one.name} was not read",
                status=502,
            )
        return one

    def _replace(
        self,
        text: bytes,
        place: str,
        allowed: Callable[[Bound], bool],
        uses: list[Use],
        encode: Callable[[bytes], bytes],
    ) -> bytes:
        def swap(match: re.Match[bytes]) -> bytes:
            one = self.check(match[0], place, allowed)
            found = self._by_placeholder[match[0]]
            uses.append(Use(found.name, self.host, place, one is not None))
            return match[0] if one is None or one.value is None else encode(one.value)

        return self._pattern.sub(swap, text)

    # header fields

    def _field(self, name: bytes, value: bytes, uses: list[Use]) -> bytes:
        lower = name.lower()
        if lower == b"authorization":
            return self._authorization(value, uses)
        if self._pattern.search(value) is None:
            return value
        key = lower.decode("ascii", "replace")
        return self._replace(
            value, f"header {key}", lambda one: one.secret.places.has_field(key), uses, _one_line
        )

    def _authorization(self, value: bytes, uses: list[Use]) -> bytes:
        match = _AUTHORIZATION.fullmatch(value)
        scheme = match[1].lower().decode() if match else ""
        if match and scheme == "basic":
            return self._basic(match, uses)
        if self._pattern.search(value) is None:
            return value

        def allowed(one: Bound) -> bool:
            places = one.secret.places
            if places.any_field or "authorization" in places.fields:
                return True
            # A server may answer with a scheme that it does not know: no value there.
            known = scheme in AUTHORIZATION_SCHEMES
            alone = value == one.placeholder
            return places.credentials and (
                alone or (known and match is not None and one.placeholder in match[3])
            )

        head = match[1] + match[2] if match and scheme in AUTHORIZATION_SCHEMES else b""
        rest = value[len(head) :]
        return head + self._replace(rest, "header authorization", allowed, uses, _one_line)

    def _basic(self, match: re.Match[bytes], uses: list[Use]) -> bytes:
        try:
            user = base64.b64decode(match[3], validate=True)
        except binascii.Error:
            user = b""
        if self._pattern.search(user) is None:
            # The placeholder itself in place of base64 is no basic authentication.
            return self._replace(match[0], "header authorization", _nowhere, uses, _one_line)
        made = self._replace(
            user,
            "header authorization",
            lambda one: one.secret.places.has_field("authorization"),
            uses,
            _one_line,
        )
        if made == user:
            return match[0]
        token = base64.b64encode(made)
        if self.masked():
            while len(self.echoes) >= MAX_ECHOES:
                del self.echoes[next(iter(self.echoes))]
            self.echoes[token] = match[3]
        return match[1] + match[2] + token

    # the target

    def _target(self, target: bytes, uses: list[Use]) -> bytes:
        found = self._pattern.search(target) is not None
        if not found and (b"%" not in target or not self._pattern.search(unquote_to_bytes(target))):
            return target
        path, mark, query = target.partition(b"?")
        path = self._part(path, "path", lambda one: one.secret.places.path, uses)
        if mark:
            query = b"&".join(self._parameter(one, uses) for one in query.split(b"&"))
        return path + mark + query

    def _parameter(self, text: bytes, uses: list[Use]) -> bytes:
        if len(text) < self._shortest:
            return text
        name, mark, value = text.partition(b"=") if b"=" in text else (b"", b"", text)
        key = unquote_to_bytes(name.replace(b"+", b" ")).decode("utf-8", "replace")
        name = self._part(name, "query", _nowhere, uses)
        return (name + mark) + self._part(
            value, f"query {_shown(key)}", lambda one: one.secret.places.has_parameter(key), uses
        )

    def _part(
        self, text: bytes, place: str, allowed: Callable[[Bound], bool], uses: list[Use]
    ) -> bytes:
        """A part of the target, in which each character may be percent-encoded."""
        if b"%" not in text:
            return self._replace(text, place, allowed, uses, _percent)
        for one in self.bound:
            if one.placeholder not in unquote_to_bytes(text):
                continue

            def swap(match: re.Match[bytes], placeholder: bytes = one.placeholder) -> bytes:
                made = self._replace(placeholder, place, allowed, uses, _percent)
                return match[0] if made == placeholder else made

            text = _encoded(one.placeholder).sub(swap, text)
        return text


@lru_cache(maxsize=256)
def _encoded(placeholder: bytes) -> re.Pattern[bytes]:
    """Finds it with any of its characters percent-encoded."""
    return re.compile(
        b"".join(b"(?:%b|(?i:%%%02x))" % (re.escape(bytes([c])), c) for c in placeholder)
    )


def _shown(name: str) -> str:
    """A guest's name for something, as it may stand in a record or on a terminal."""
    short = name[:MAX_SHOWN]
    return short if short.isprintable() else ascii(short)[1:-1]


def _nowhere(_: Bound) -> bool:
    return False


def _one_line(value: bytes) -> bytes:
    if _CONTROL.search(value):
        raise Refusal(
            "a value with line breaks or control characters cannot stand in a header field",
            "check the secret's source: it should hold the key and nothing else",
            status=502,
        )
    return value


def _percent(value: bytes) -> bytes:
    return quote_from_bytes(value, b"").encode()
