"""Values in place of placeholders in the body of a request, and back in that of an answer.

    body = request_body(substitution, content_type, encoding, use)
    send(body.feed(piece)); ...; send(body.finish())

None means that the body passes untouched. Memory is bounded by the longest placeholder or value
and by the window of the compression; a body that unpacks to far more than it was is refused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from urllib.parse import quote_from_bytes

from sandlot.secrets.replacer import Replacer
from sandlot.secrets.substitution import MIN_MASKED, Bound, Refusal, Substitution, Use

MAX_RATIO = 100
"""How much more than what came may come out of a compressed body, after the first MIN_UNPACKED."""
MIN_UNPACKED = 4 * 1024 * 1024
UNMASKABLE = (
    b"accept-encoding",
    b"range",
    b"if-range",
    b"a-im",
    b"want-digest",
    b"sec-websocket-extensions",
)
"""Fields of a request by which an answer would come packed, or in pieces that hide a value; a WebSocket's
extensions pack its messages."""
_STEP = 256 * 1024
_MAX_MEMBERS = 1024

Piece = bytes | memoryview


class Body(Protocol):
    """One body on its way. `same_length`: as many bytes come out as go in."""

    same_length: bool

    def feed(self, data: Piece) -> Piece:
        """The next piece, and what can be passed on."""

    def finish(self) -> bytes:
        """The body is complete: the rest of it."""


class PlainBody:
    """A body without compression."""

    def __init__(
        self, table: Mapping[bytes, bytes], found: Callable[[bytes], None] | None = None
    ) -> None:
        self._replacer = Replacer(table, found)
        self.same_length = all(len(old) == len(new) for old, new in table.items())

    def feed(self, data: Piece) -> Piece:
        return self._replacer.feed(data)

    def finish(self) -> bytes:
        return self._replacer.finish()


class PackedBody:
    """A body in gzip or zlib's deflate: unpacked, replaced in, packed again."""

    same_length = False

    def __init__(
        self, coding: str, table: Mapping[bytes, bytes], found: Callable[[bytes], None] | None
    ) -> None:
        self._bits = 31 if coding == "gzip" else 15
        self._replacer = Replacer(table, found)
        self._unpack = zlib.decompressobj(self._bits)
        self._pack = zlib.compressobj(1, zlib.DEFLATED, self._bits)
        self._came = self._unpacked = self._members = 0

    def feed(self, data: Piece) -> bytes:
        """The next piece.

        Raises:
            Refusal: it is damaged, or unpacks to far more than it is.
        """
        self._came += len(data)
        done: list[bytes] = []
        waiting: Piece = data
        while waiting:
            if self._unpack.eof:
                self._members += 1
                if self._bits != 31 or self._members > _MAX_MEMBERS:
                    raise Refusal("the compressed body goes on after its end", status=400)
                self._unpack = zlib.decompressobj(self._bits)
            try:
                plain = self._unpack.decompress(waiting, _STEP)
            except zlib.error:
                raise Refusal("the compressed body is damaged", status=400) from None
            self._unpacked += len(plain)
            if self._unpacked > max(MIN_UNPACKED, self._came * MAX_RATIO):
                raise Refusal("the compressed body unpacks to far more than it is", status=413)
            done.append(self._pack.compress(self._replacer.feed(plain)))
            waiting = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
        if data:  # a server of events waits for what was sent
            done.append(self._pack.flush(zlib.Z_SYNC_FLUSH))
        return b"".join(done)

    def finish(self) -> bytes:
        """The rest.

        Raises:
            Refusal: it ends too early.
        """
        if not self._unpack.eof and self._came:
            raise Refusal("the compressed body ends too early", status=400)
        rest = self._pack.compress(self._replacer.finish())
        return rest + self._pack.flush() if self._came else b""


def request_body(
    substitution: Substitution, content_type: str, encoding: str, use: Callable[[Use], None]
) -> Body | None:
    """What a request's body has to go through, or None if it passes as it is.

    `use` is called for each placeholder found. Values are escaped as the content type asks: JSON
    strings, forms. A body in another compression than gzip or deflate passes as it is.

    Raises:
        Refusal: a value that would be needed is missing.
    """
    table: dict[bytes, bytes] = {}
    names: dict[bytes, Bound] = {}
    for one in substitution.bound:
        refuse = one.secret.on_misuse == "refuse"
        replaced = one.secret.places.body and substitution.may(one)
        if not replaced and not refuse:
            continue
        names[one.placeholder] = one
        table[one.placeholder] = one.placeholder
        if replaced and one.value is not None:
            table[one.placeholder] = _escaped(one.value, content_type)
    if not table or encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return None
    packed = encoding in ("gzip", "x-gzip", "deflate")
    if packed and not any(one.secret.places.body for one in names.values()):
        return None

    def found(placeholder: bytes) -> None:
        taken = substitution.check(placeholder, "body", lambda one: one.secret.places.body)
        use(Use(names[placeholder].name, substitution.host, "body", taken is not None))

    if packed:
        return PackedBody(encoding.removeprefix("x-"), table, found)
    return PlainBody(table, found)


def masking(substitution: Substitution) -> dict[bytes, bytes]:
    """What is put back in answers: each value, as text and escaped, by its placeholder."""
    table = shapes(substitution.masked(), MIN_MASKED)
    return {**table, **substitution.echoes} if table else {}


def shapes(bound: Iterable[Bound], least: int = 1) -> dict[bytes, bytes]:
    """The placeholder of each value, also of former ones, by the forms that it is written in."""
    table: dict[bytes, bytes] = {}
    for one in bound:
        for value in (one.value, *one.former):
            if value is not None and len(value) >= least:
                for shape in (value, _json(value), quote_from_bytes(value, b"").encode()):
                    table[shape] = one.placeholder
    return table


def response_body(table: Mapping[bytes, bytes], encoding: str) -> Body | None:
    """What an answer's body has to go through so that no value is in it; None if nothing.

    Raises:
        Refusal: it is packed in a way that cannot be looked into.
    """
    if not table:
        return None
    if encoding in ("", "identity"):
        return PlainBody(table)
    if encoding in ("gzip", "x-gzip", "deflate"):
        return PackedBody(encoding.removeprefix("x-"), table, None)
    raise Refusal(f"the answer is packed as `{encoding}`, and echoes are to be masked", status=502)


def _escaped(value: bytes, content_type: str) -> bytes:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json") or kind == "application/x-ndjson":
        return _json(value)
    if kind == "application/x-www-form-urlencoded":
        return quote_from_bytes(value, b"").encode()
    return value


def _json(value: bytes) -> bytes:
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)[1:-1].encode(
        "utf-8", "surrogateescape"
    )
