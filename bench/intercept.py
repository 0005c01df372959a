"""Intercepted connections without sockets: TLS ended, HTTP read, a secret put in, TLS made anew.

Only the gateway's own work is timed; what the two ends encrypt is made before, or not counted.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import hpack

from bench.measure import Row, row
from sandlot.network.http import frames
from sandlot.network.http.events import Exchange, RequestHead
from sandlot.network.http.frames import END_HEADERS, END_STREAM, Setting, Type
from sandlot.network.http.h1 import Http1Exchange
from sandlot.network.http.h2 import Http2Exchange
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.session import TlsClient, TlsServer, TlsSession
from sandlot.secrets import Bound, Secret, Substitution
from sandlot.secrets.placeholder import make_placeholder

HOST = "api.example.com"
VALUE = b"sk-proj-" + b"aB3_" * 30
SIZE = 32 << 20
PIECE = 64 << 10
REQUESTS = 400
SAMPLES = 5


class Path:
    """A guest, the gateway with both its TLS ends, and an upstream."""

    def __init__(self, kind: Callable[[Substitution], Exchange], inject: str) -> None:
        self.placeholder = make_placeholder(VALUE).encode()
        secret = Secret(VALUE, hosts=HOST, inject=inject)
        bound = Bound("KEY", secret, self.placeholder.decode(), VALUE)
        self.exchange = kind(Substitution([bound], HOST, 443))
        self.near, self.guest = _pair(Authority("guest"))
        self.server, self.far = _pair(Authority("upstream"))
        self.spent = 0.0
        """Seconds of the gateway's work."""

    def carry(self) -> None:
        """What the gateway has for both ends, encrypted."""
        self.near.write_all(self.exchange.take_guest())
        self.far.write_all(self.exchange.take_upstream())

    def from_guest(self, sealed: bytes) -> bytes:
        """The gateway's work on bytes of the guest; what the upstream's TLS gets."""
        began = time.perf_counter()
        for plain in self.near.receiving(sealed):
            for event in self.exchange.receive_guest(plain):
                if isinstance(event, RequestHead):
                    self.exchange.proceed(event.id)
        self.carry()
        out = self.far.take()
        self.spent += time.perf_counter() - began
        return out

    def from_upstream(self, sealed: bytes) -> bytes:
        """The same for bytes of the upstream."""
        began = time.perf_counter()
        for plain in self.far.receiving(sealed):
            self.exchange.receive_upstream(plain)
        self.carry()
        out = self.near.take()
        self.spent += time.perf_counter() - began
        return out

    def ask(self, plain: bytes) -> None:
        """The guest sends this, and the upstream takes it."""
        self.guest.write(plain)
        self.server.receive(self.from_guest(self.guest.take()))
        self.guest.receive(self.near.take())

    def answer(self, plain: bytes) -> None:
        """The upstream sends this, and the guest takes it."""
        self.server.write(plain)
        self.guest.receive(self.from_upstream(self.server.take()))
        self.server.receive(self.far.take())


def _pair(authority: Authority) -> tuple[TlsServer, TlsClient]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate_pem.decode())
    client = TlsClient(context, HOST)
    server = TlsServer(authority.server_context(HOST, []))
    for _ in range(3):
        server.receive(client.take())
        client.receive(server.take())
    return server, client


def _sealed(end: TlsSession, data: bytes) -> list[bytes]:
    """All of it encrypted, in pieces as a socket gives them."""
    out = []
    for at in range(0, len(data), PIECE):
        end.write(data[at : at + PIECE])
        out.append(end.take())
    return out


def _h1_body() -> tuple[float, float, float]:
    """MB/s of an answer, of a request, and of a request in whose body a secret may be."""
    path = Path(Http1Exchange, "credentials")
    head = b"GET / HTTP/1.1\r\nHost: %b\r\n" % HOST.encode()
    path.ask(head + b"Authorization: Bearer " + path.placeholder + b"\r\n\r\n")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE)
    down = _timed(path, _sealed(path.server, answer), path.from_upstream)
    post = b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n" % (HOST.encode(), SIZE)
    path = Path(Http1Exchange, "credentials")
    up = _timed(path, _sealed(path.guest, post + bytes(SIZE)), path.from_guest)
    path = Path(Http1Exchange, "body")
    body = (path.placeholder + b"words and words " * 4090)[:PIECE] * (SIZE // PIECE)
    return down, up, _timed(path, _sealed(path.guest, post + body), path.from_guest)


def _timed(path: Path, pieces: list[bytes], work: Callable[[bytes], bytes]) -> float:
    path.spent = 0.0
    for piece in pieces:
        work(piece)
    return SIZE / 1e6 / path.spent


def _h1_requests() -> float:
    path = Path(Http1Exchange, "credentials")
    ask = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
        b"Accept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\nX-Lang: python\r\n"
        b"User-Agent: client/1.0\r\nConnection: keep-alive\r\nContent-Length: 500\r\n"
        b"Authorization: Bearer %b\r\n\r\n" % (HOST.encode(), path.placeholder)
    ) + bytes(500)
    answer = (
        b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nX-Request-Id: 1234567890\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2000\r\nServer: x\r\n\r\n"
    ) + bytes(2000)
    path.ask(ask)
    path.answer(answer)
    path.spent = 0.0
    for _ in range(REQUESTS):
        path.ask(ask)
        path.answer(answer)
    return REQUESTS / path.spent


def _h2_path() -> Path:
    path = Path(Http2Exchange, "credentials")
    large = frames.settings({Setting.INITIAL_WINDOW_SIZE: 2**30})
    wide = frames.window_update(0, 2**30)
    path.ask(frames.PREFACE + large + wide)
    path.answer(large + wide)
    return path


def _h2_requests() -> float:
    path = _h2_path()
    guest, server = hpack.Encoder(), hpack.Encoder()
    fields = [
        (b":method", b"POST"), (b":scheme", b"https"), (b":authority", HOST.encode()),
        (b":path", b"/v1/chat/completions"), (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip, deflate"), (b"content-type", b"application/json"),
        (b"user-agent", b"client/1.0"), (b"content-length", b"500"),
        (b"authorization", b"Bearer " + path.placeholder),
    ]  # fmt: skip
    path.spent = 0.0
    for number in range(REQUESTS):
        stream = 2 * number + 1
        block = guest.encode([*fields, (b"x-id", b"%08d" % number)])
        path.ask(
            frames.frame(Type.HEADERS, END_HEADERS, stream, block)
            + frames.frame(Type.DATA, END_STREAM, stream, bytes(500))
        )
        block = server.encode(
            [
                (b":status", b"200"),
                (b"content-type", b"application/json"),
                (b"x-id", b"%d" % number),
            ]
        )
        path.answer(
            frames.frame(Type.HEADERS, END_HEADERS, stream, block)
            + frames.frame(Type.DATA, END_STREAM, stream, bytes(2000))
        )
    return REQUESTS / path.spent


def _h2_body() -> float:
    path = _h2_path()
    fields = [
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", HOST.encode()), (b":path", b"/"),
    ]  # fmt: skip
    path.ask(frames.header_block(1, hpack.Encoder().encode(fields), end_stream=True))
    path.answer(
        frames.header_block(1, hpack.Encoder().encode([(b":status", b"200")]), end_stream=False)
    )
    done = 0
    path.spent = 0.0
    while done < SIZE:
        data = frames.frame(Type.DATA, 0, 1, bytes(16384)) * 4
        path.answer(data)
        path.ask(frames.window_update(0, 65536) + frames.window_update(1, 65536))
        done += 65536
    return SIZE / 1e6 / path.spent


async def intercept() -> list[Row]:
    """Bytes and requests per second of one connection, and what its certificate costs."""
    bodies = [_h1_body() for _ in range(SAMPLES)]
    authority = Authority("box")
    minted = []
    for number in range(20):
        began = time.perf_counter()
        authority.server_context(f"{number}.example.com", ["h2"])
        minted.append((time.perf_counter() - began) * 1e3)
    goal = ">= 60 MB/s"
    return [
        row("intercepted TLS, HTTP/1.1, an answer", goal, [one[0] for one in bodies], "MB/s"),
        row("the same, a request", goal, [one[1] for one in bodies], "MB/s"),
        row("the same, with a secret in the body", goal, [one[2] for one in bodies], "MB/s"),
        row("the same, HTTP/2, an answer", goal, [_h2_body() for _ in range(SAMPLES)], "MB/s"),
        row("requests, HTTP/1.1", ">= 500/s", [_h1_requests() for _ in range(SAMPLES)], "/s"),
        row("requests, HTTP/2", ">= 500/s", [_h2_requests() for _ in range(SAMPLES)], "/s"),
        row("a certificate for a new host", "", minted, "ms"),
    ]


BENCHES = {"intercept": intercept}
