"""What a connection begins with: the guest's first bytes are looked at before they go on."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass

from sandlot.network.names import normalise
from sandlot.network.relay import PIECE, Stream
from sandlot.network.tls.hello import BrokenHello, Hello, HelloReader

LONGEST_LINE = 8192
LONGEST_HEAD = 64 * 1024
_HEAD_END = re.compile(rb"[^\r\n]\r?\n\r?\n")
_HOST = re.compile(rb"\r?\n[Hh][Oo][Ss][Tt]:[ \t]*([^\s:]+|\[[^\s\]]+\])")
# Wider than HTTP: also what lenient servers take for a request. Who reads it is strict.
_REQUEST = re.compile(rb"[\r\n]*[!-~]+[ \t][^\r\n]*HTTP/[0-9]", re.IGNORECASE)
_BEGINS = re.compile(rb"[\r\n]*(?:[!-~]+(?:[ \t][^\r\n]*)?\r?)?")


@dataclass(frozen=True)
class Opening:
    """What the first bytes are. `sent` are the guest's so far, `received` the other side's."""

    sent: bytes = b""
    received: bytes = b""
    hello: Hello | None = None
    http: bool = False
    broken: str = ""
    """Why it begins as TLS and is then wrong."""
    host: str | None = None
    """Whom an HTTP request asks for, as it says first; who reads it strictly checks it again."""
    ended: bool = False
    """The guest has already ended its half."""

    @property
    def name(self) -> str | None:
        """The name that is asked for, or None where it is not said."""
        return self.hello.name if self.hello is not None else self.host


def looks_like_http(data: bytes) -> bool | None:
    """Whether these bytes are the beginning of a request, as any server may see it; None when more
    are needed."""
    if _REQUEST.match(data):
        return True
    if not data or not _BEGINS.fullmatch(data):
        return False
    # A line that long is no other protocol's; a word alone may be anything.
    return True if len(data) > LONGEST_LINE else None


def _host(head: bytes) -> str | None:
    found = _HOST.search(head)
    if found is None:
        return None
    try:
        return normalise(found[1].decode("ascii").strip("[]"))
    except ValueError:
        return None


async def opening(stream: Stream, sock: socket.socket, first: bytes) -> Opening:
    """Wait for the first bytes of either side, and look at the guest's.

    A server that speaks first is neither one of TLS nor of HTTP.
    """
    loop = asyncio.get_running_loop()
    if not first:
        guest = asyncio.ensure_future(stream.read())
        server = asyncio.ensure_future(loop.sock_recv(sock, PIECE))
        try:
            await asyncio.wait({guest, server}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not server.done():
                server.cancel()
                await asyncio.wait({server})
            if not guest.done():
                guest.cancel()
                await asyncio.wait({guest})
        sent = b"" if guest.cancelled() else guest.result()
        received = b"" if server.cancelled() else server.result()
        if not sent or received:
            return Opening(sent, received, ended=not guest.cancelled() and not sent)
        first = sent
    reader, fresh = HelloReader(), first
    known: bool | None = None
    while True:
        outcome = reader.feed(fresh)
        if isinstance(outcome, Hello):
            return Opening(first, hello=outcome)
        if isinstance(outcome, BrokenHello):
            return Opening(first, broken=outcome.reason)
        if outcome is not None:
            known = known or looks_like_http(first)
            if known is False:
                return Opening(first)
            if known and (_HEAD_END.search(first) or len(first) > LONGEST_HEAD):
                return Opening(first, http=True, host=_host(first))
        fresh = await stream.read()
        if not fresh:
            if outcome is None:
                return Opening(first, ended=True, broken="the hello is cut off")
            http = bool(looks_like_http(first))
            return Opening(first, ended=True, http=http, host=_host(first) if http else None)
        first += fresh
