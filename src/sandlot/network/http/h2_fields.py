"""Header fields of HTTP/2 (RFC 9113, section 8): which ones there must and must not be.

A server behind the upstream may speak HTTP/1.1. So nothing passes that would be read there as
the end of a line, as a length, or as a field of the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandlot.network.http import checks
from sandlot.network.http.framing import FORBIDDEN_TRAILERS
from sandlot.network.http.head import Malformed, parse_length
from sandlot.secrets.substitution import Fields

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,256}")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")
_PATH = re.compile(rb"[!\"$-~\x80-\xff]+")
_OF_CONNECTION = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade",
     b"transfer_encoding", b"content_length", b"http2-settings"}
)  # fmt: skip
_PSEUDO = {b":method", b":scheme", b":authority", b":path"}


@dataclass(frozen=True, slots=True)
class RequestFields:
    """A request. `length` is what Content-Length says, if it says something."""

    method: bytes
    path: bytes
    authority: bytes
    fields: Fields
    length: int | None


def read_request(fields: Fields, host: str, port: int, *, tls: bool) -> RequestFields:
    """Check a request's fields.

    Raises:
        Malformed: with the status that the guest gets.
    """
    pseudo, rest = _split(fields, _PSEUDO)
    method = pseudo.get(b":method", b"")
    if not _METHOD.fullmatch(method):
        raise Malformed("the method is malformed")
    checks.check_method(method)
    if pseudo.get(b":scheme") != (b"https" if tls else b"http"):
        raise Malformed("the scheme is not that of the connection")
    path = pseudo.get(b":path", b"")
    if not _PATH.fullmatch(path):
        raise Malformed("the path has characters that it must not have")
    checks.check_target(method, path)
    hosts = [value for name, value in rest if name == b"host"]
    authority = pseudo.get(b":authority", hosts[0] if hosts else b"")
    if len(hosts) > 1 or any(one.lower() != authority.lower() for one in hosts):
        raise Malformed("Host and :authority differ", 421)
    checks.check_authority(authority, host, port, tls=tls)
    return RequestFields(
        method, path, authority, [one for one in rest if one[0] != b"host"], _length(rest)
    )


def read_response(fields: Fields) -> tuple[int, Fields, int | None]:
    """Check an answer's fields; its status, the others, and its length.

    Raises:
        Malformed: they break the rules.
    """
    pseudo, rest = _split(fields, {b":status"})
    status = pseudo.get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or status < b"100" or status == b"101":
        raise Malformed("the status is malformed")
    return int(status), rest, _length(rest)


def read_trailers(fields: Fields) -> Fields:
    """Check what stands after a body.

    Raises:
        Malformed: a field that must stand in the head.
    """
    _, rest = _split(fields, set())
    if any(name in FORBIDDEN_TRAILERS for name, _ in rest):
        raise Malformed("a trailer is of a kind that must stand in the head")
    return rest


def _split(fields: Fields, known: set[bytes]) -> tuple[dict[bytes, bytes], Fields]:
    pseudo: dict[bytes, bytes] = {}
    rest: Fields = []
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            raise Malformed("a field has control characters, or blanks around it")
        if name.startswith(b":"):
            if name not in known or name in pseudo or rest:
                raise Malformed("a pseudo-field is unknown, said twice, or late")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name):
            raise Malformed("a field's name is malformed")
        if name in _OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed(f"the field {name.decode()} has no place in HTTP/2")
        rest.append((name, value))
    return pseudo, rest


def _length(fields: Fields) -> int | None:
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) > 1:
        raise Malformed("the length is said more than once")
    return parse_length(lengths[0]) if lengths else None
