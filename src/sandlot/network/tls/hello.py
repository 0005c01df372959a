"""The first message of a TLS client, as far as it says where it wants to go.

Nothing is decrypted and nothing is answered. What begins as TLS and is then wrong is told apart from
what is no TLS at all: the former must not be taken for the latter, or a hello that only its server
understands would go past every check of names.

Source: RFC 8446 (4.1.2, 5.1), RFC 6066 (server name), RFC 7301 (ALPN), RFC 9849 (ECH).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from sandlot.network.names import ends_in_number, normalise

LONGEST_HELLO = (
    32 * 1024
)  # post-quantum key shares take some 2 KiB; nothing known takes more than 8
LONGEST_RECORD = 16 * 1024
MOST_RECORDS = 64  # a hello may be cut into pieces, but not endlessly
MOST_PROTOCOLS = 64

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _EARLY_DATA, _VERSIONS = 0, 16, 42, 43
_ECH, _ESNI = 0xFE0D, 0xFFCE


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client said.

    Attributes:
        name: the server name, lower case and without a final dot, or None when it gave none. It is
            an address where a client names one, against the rules.
        alpn: the protocols that it offers, as `b"h2"`.
        versions: those of TLS that it offers, as 0x0304, without the meaningless ones (GREASE).
        ech: whether it carries an encrypted hello, or pretends to as browsers do. `name` is then
            the outer name, and the server may take the connection for another one.
        early_data: whether data follows before the handshake is over.
    """

    name: str | None
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = ()
    ech: bool = False
    early_data: bool = False


@dataclass(frozen=True, slots=True)
class NotTls:
    """The bytes are no TLS."""


@dataclass(frozen=True, slots=True)
class BrokenHello:
    """The bytes begin as TLS and are then wrong: what the server makes of them cannot be known."""

    reason: str


Outcome: TypeAlias = Hello | NotTls | BrokenHello


class _Broken(Exception):
    pass


class HelloReader:
    """Takes the client's first bytes in pieces of any size.

    What it was fed is for the caller to keep and pass on. It holds at most one hello.
    """

    def __init__(self) -> None:
        self._data = bytearray()  # not read yet, less than a record
        self._message = bytearray()
        self._records = 0
        self._outcome: Outcome | None = None

    def feed(self, data: bytes) -> Outcome | None:
        """What the bytes are, or None as long as more of them are needed. It is final."""
        if self._outcome is None:
            self._data += data[: LONGEST_HELLO + MOST_RECORDS * 5 + 16]
            try:
                self._outcome = self._read()
            except _Broken as error:
                self._outcome = BrokenHello(str(error))
            if self._outcome is not None:
                self._data.clear()
                self._message.clear()
        return self._outcome

    def _read(self) -> Outcome | None:
        while True:
            if not self._data:
                return None
            if self._data[0] != _HANDSHAKE or (len(self._data) > 1 and self._data[1] != 3):
                if self._records == 0:
                    return NotTls()
                raise _Broken("a record that is no handshake stands within the hello")
            if len(self._data) < 5:
                return None
            length = int.from_bytes(self._data[3:5], "big")
            self._records += 1
            if not 0 < length <= LONGEST_RECORD or self._records > MOST_RECORDS:
                raise _Broken("a record is empty or too long, or there are too many")
            # Kind and length come first: what is too long or no hello is not waited for.
            head = (self._message[:4] + self._data[5 : 5 + min(length, 4)])[:4]
            if head and head[0] != _CLIENT_HELLO:
                raise _Broken("the first message is no hello")
            size = int.from_bytes(head[1:4], "big") if len(head) == 4 else 0
            if size > LONGEST_HELLO:
                raise _Broken("the hello is too long")
            if len(self._data) < 5 + length:
                self._records -= 1
                return None
            self._message += self._data[5 : 5 + length]
            del self._data[: 5 + length]
            if len(head) == 4 and len(self._message) >= 4 + size:
                if len(self._message) > 4 + size:
                    raise _Broken("something follows the hello in its record")
                return _hello(bytes(self._message[4:]))


class _Bytes:
    """Reads lengths and what they announce."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise _Broken("a field is longer than what holds it")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Bytes:
        return _Bytes(self.take(self.number(size)))

    def end(self) -> None:
        if self.left:
            raise _Broken("a field is shorter than what holds it")


def _hello(body: bytes) -> Hello:
    data = _Bytes(body)
    legacy = data.number(2)
    if legacy >> 8 != 3:
        raise _Broken("the version is none of TLS")
    data.take(32)
    if data.vector(1).left > 32:
        raise _Broken("the session id is too long")
    suites, compressions = data.vector(2).left, data.vector(1).left
    if not suites or suites % 2 or not compressions:
        raise _Broken("the hello offers no ciphers")
    name: str | None = None
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = (legacy,)
    seen = set()
    for kind, content in _extensions(data):
        if kind in seen:
            raise _Broken("an extension stands there twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            alpn = _protocols(content)
        elif kind == _VERSIONS:
            versions = _versions(content)
    ech = bool(seen & {_ECH, _ESNI})
    return Hello(name, alpn, versions, ech, _EARLY_DATA in seen)


def _extensions(data: _Bytes) -> Iterator[tuple[int, _Bytes]]:
    if not data.left:
        return
    extensions = data.vector(2)
    data.end()
    while extensions.left:
        kind = extensions.number(2)
        yield kind, extensions.vector(2)


def _server_name(content: _Bytes) -> str:
    names = content.vector(2)
    content.end()
    if names.number(1) != 0:
        raise _Broken("the server name is of an unknown kind")
    raw = names.vector(2)
    names.end()  # one name of a kind at most, and there is one kind
    try:
        text = raw.take(raw.left).decode("ascii")
        with suppress(ValueError):
            return str(ip_address(text))
        name = normalise(text)
    except ValueError:  # UnicodeDecodeError too
        raise _Broken("the server name is no host name") from None
    if ends_in_number(name):
        raise _Broken("the server name is an address in disguise")
    return name


def _protocols(content: _Bytes) -> tuple[bytes, ...]:
    listed = content.vector(2)
    content.end()
    found: list[bytes] = []
    while listed.left:
        protocol = listed.vector(1)
        if not protocol.left or len(found) >= MOST_PROTOCOLS:
            raise _Broken("a protocol is empty, or there are too many")
        found.append(protocol.take(protocol.left))
    if not found:
        raise _Broken("the list of protocols is empty")
    return tuple(found)


def _versions(content: _Bytes) -> tuple[int, ...]:
    listed = content.vector(1)
    content.end()
    if not listed.left or listed.left % 2:
        raise _Broken("the list of versions is empty or odd")
    found = [listed.number(2) for _ in range(listed.left // 2)]
    return tuple(version for version in found if version >> 8 == 3)
