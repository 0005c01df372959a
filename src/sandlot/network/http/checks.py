"""What holds for a request in either version of HTTP."""

from __future__ import annotations

import ipaddress
import re

from sandlot.network.http.head import Malformed

REFUSED_METHODS = {
    b"CONNECT": "a tunnel inside of a connection that is looked into",
    b"TRACE": "it would answer with the values of secrets",
    b"TRACK": "it would answer with the values of secrets",
    b"DEBUG": "it is no method of HTTP",
    b"PRI": "it is no method of HTTP",
}
"""Methods that are not sent on, and why."""

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,255})(?::([0-9]{1,5}))?")


def check_method(method: bytes) -> None:
    """Raises:
    Malformed: the method is one that is not sent on.
    """
    reason = REFUSED_METHODS.get(method.upper())
    if reason is not None:
        raise Malformed(f"{method.decode()} is refused: {reason}", 405)


def check_target(method: bytes, target: bytes) -> None:
    """Only paths, and `*` for OPTIONS: a whole URL could name another host than Host does.

    Raises:
        Malformed: it is something else.
    """
    if not (target.startswith(b"/") or (target == b"*" and method == b"OPTIONS")):
        raise Malformed("the request target is not a path")


def check_authority(authority: bytes, host: str, port: int, *, tls: bool) -> None:
    """A Host field or an `:authority` names the host of this connection, and nothing else.

    Raises:
        Malformed: it names another, or is no host. The status then is 421.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise Malformed("the Host is malformed")
    name = match[1].decode().lower().removesuffix(".")
    if name.startswith("["):
        try:
            name = str(ipaddress.ip_address(name[1:-1]))
        except ValueError:
            raise Malformed("the Host is malformed") from None
    said = int(match[2]) if match[2] else (443 if tls else 80)
    if name != host or said != port:
        shown = authority.decode()[:100]
        raise Malformed(f"the Host is `{shown}`, and the connection is to {host}:{port}", 421)


def refusal_text(reason: str) -> bytes:
    """The body of an answer that the gateway gives in a server's place."""
    return f"sandlot: {reason}\n".encode("utf-8", "replace")


PHRASES = {
    400: b"Bad Request", 403: b"Forbidden", 405: b"Method Not Allowed", 411: b"Length Required",
    413: b"Content Too Large", 417: b"Expectation Failed", 421: b"Misdirected Request",
    431: b"Request Header Fields Too Large", 501: b"Not Implemented", 502: b"Bad Gateway",
}  # fmt: skip
"""Reason phrases of the answers that the gateway gives."""
