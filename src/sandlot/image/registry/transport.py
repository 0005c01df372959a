"""HTTP for registries: the one file with sockets.

Connecting is asynchronous; what follows on a connection is blocking and runs in a thread, where
`http.client` moves bulk at a small part of the cost of an asynchronous client (docs/design/0010).
A cancelled or overdue call shuts the socket down, which wakes its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import os
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from sandlot.errors import CertificateRefused, ConnectionFailed, RegistryError
from sandlot.image.registry.registries import is_loopback

T = TypeVar("T")

CHUNK = 1 << 18
CONNECT_SECONDS = 15.0
HEAD_SECONDS = 60.0
"""From the request to the last header."""
IDLE_SECONDS = 60.0
"""Without a byte, after which a body counts as cut; over each such time `SLOWEST` must come."""
SLOWEST = 16 * 1024
SMALL_SECONDS = 120.0
"""For all of a small body."""
MAX_THREADS = 16
MAX_IDLE = 8
USER_AGENT = "sandlot"


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what credentials are kept apart by."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an address. Raises ValueError when it has none."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http address")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname, parts.port or default)

    @property
    def netloc(self) -> str:
        """`host` or `host:port`, as in addresses."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return (
            name if self.port == {"https": 443, "http": 80}[self.scheme] else f"{name}:{self.port}"
        )


class Answer:
    """A response whose body has not been read yet. Read it to the end or close it."""

    def __init__(
        self, transport: Transport, line: _Line, response: http.client.HTTPResponse
    ) -> None:
        self._transport = transport
        self._line = line
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str:
        """A header's value, several joined by commas; empty when there is none."""
        values = self._response.headers.get_all(name) or []
        return ", ".join(values)

    async def read(self, limit: int) -> bytes:
        """All of a small body. Raises RegistryError when it is longer than `limit` bytes."""
        collected = bytearray()

        def keep(data: bytes) -> None:
            collected.extend(data)
            if len(collected) > limit:
                raise RegistryError(
                    f"{self._line.origin.netloc} answered with more than {limit} bytes",
                    registry=self._line.origin.netloc,
                )

        try:
            async with asyncio.timeout(SMALL_SECONDS):
                await self.pour(keep)
        except TimeoutError as error:
            raise self._line.failed(f"did not finish its answer in {SMALL_SECONDS:g} s") from error
        return bytes(collected)

    async def pour(self, sink: Callable[[bytes], object]) -> None:
        """Give all of the body to `sink`, which runs in a thread.

        Raises ConnectionFailed when it ends early, and whatever `sink` raises.
        """
        promised = self._response.length

        def work() -> None:
            moved, mark, since = 0, 0, time.monotonic()
            while True:
                try:
                    data = self._response.read1(CHUNK)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    raise self._line.failed(f"broke off its answer: {_reason(error)}") from error
                if not data:
                    break
                sink(data)
                moved += len(data)
                now = time.monotonic()
                if now - since >= IDLE_SECONDS:
                    if moved - mark < SLOWEST:
                        raise self._line.failed("sends too slowly")
                    mark, since = moved, now
            if promised is not None and moved != promised:
                raise self._line.failed(f"broke off its answer after {moved} of {promised} bytes")

        try:
            await self._transport.in_thread(self._line, work)
        except BaseException:
            self.close()
            raise
        self._response.close()
        if self._response.will_close:
            self._line.close()
        else:
            self._transport.give_back(self._line)

    def close(self) -> None:
        """Give up what was not read."""
        self._response.close()
        self._line.close()

    async def skip(self) -> None:
        """Throw a small body away, so that the connection can be used again."""
        try:
            await self.read(1 << 16)
        except RegistryError:
            self.close()


class _Line:
    """One connection. `failed` makes the error that tells what went wrong on it."""

    def __init__(self, origin: Origin, sock: socket.socket, proxy: _Proxy | None) -> None:
        self.origin = origin
        self.sock = sock
        self.client = http.client.HTTPConnection(origin.host, origin.port)
        self.proxy = proxy
        self.used = False

    def failed(self, what: str, *, tls: bool = False) -> ConnectionFailed:
        return ConnectionFailed(
            f"{self.origin.netloc} {what}", registry=self.origin.netloc, tls=tls,
            hint="try again",
        )  # fmt: skip

    def abort(self) -> None:
        """Wake the thread that reads or writes. Safe from another thread, unlike `close`."""
        with contextlib.suppress(OSError):
            # Not the method of SSLSocket: that one forgets the session under the reader's feet.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.sock.close()


class Transport:
    """Connections to any host, each kept for the next request.

    `context` makes the TLS context for a host, `host` or `host:port`.

    async with Transport(make_context) as transport:
        answer = await transport.send("GET", "https://registry.example.com/v2/", {})
        await answer.read(1 << 20)
    """

    def __init__(self, context: Callable[[str], ssl.SSLContext]) -> None:
        self._context = context
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._idle: dict[Origin, list[_Line]] = {}
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="sandlot-registry")

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        for lines in self._idle.values():
            for line in lines:
                line.close()
        self._idle.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send a request and wait for the answer's head. Redirects are answers like others.

        Raises:
            ConnectionFailed: nobody answers, or not in time.
            CertificateRefused: the server is not who it should be.
            RegistryError: the address is malformed.
        """
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise RegistryError(f"{url[:200]!r} is not the address of a registry") from error
        while True:
            line = self._take(origin)
            if line is None:
                line = await self._connect(origin)
            try:
                async with asyncio.timeout(HEAD_SECONDS + len(body or b"") / SLOWEST):
                    response = await self.in_thread(
                        line, functools.partial(_exchange, line, method, url, headers, body)
                    )
                return Answer(self, line, response)
            except TimeoutError as error:
                line.close()
                raise line.failed(f"did not answer within {HEAD_SECONDS:g} s") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                line.close()
                if line.used:
                    continue  # the server had closed it while it was idle
                if isinstance(error, http.client.HTTPException | ValueError) and not isinstance(
                    error, http.client.RemoteDisconnected | http.client.InvalidURL
                ):
                    raise line.failed("does not answer like a registry") from error
                raise line.failed(f"broke off: {_reason(error)}") from error
            except BaseException:
                line.close()
                raise

    async def in_thread(self, line: _Line, work: Callable[[], T]) -> T:
        """Run blocking work on a connection; being cancelled ends the work first."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            line.abort()
            await asyncio.wait({future})
            if not future.cancelled():
                future.exception()
            raise

    def give_back(self, line: _Line) -> None:
        """Keep a connection whose answer was read to its end."""
        lines = self._idle.setdefault(line.origin, [])
        if len(lines) >= MAX_IDLE:
            line.close()
            return
        line.used = True
        lines.append(line)

    def _take(self, origin: Origin) -> _Line | None:
        lines = self._idle.get(origin)
        return lines.pop() if lines else None

    async def _connect(self, origin: Origin) -> _Line:
        proxy = _proxy(origin)
        where = proxy or origin
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                sock = await _open(where.host, where.port)
        except TimeoutError as error:
            raise _unreachable(origin, proxy, f"no answer within {CONNECT_SECONDS:g} s") from error
        except OSError as error:
            # A name that does not exist will not in a second either.
            attempts = 1 if getattr(error, "errno", 0) == socket.EAI_NONAME else 2
            raise _unreachable(origin, proxy, _reason(error), attempts) from error
        line = _Line(origin, sock, proxy)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.in_thread(line, lambda: self._prepare(line))
        except TimeoutError as error:
            line.close()
            raise line.failed("did not answer in time", tls=origin.scheme == "https") from error
        except ssl.SSLCertVerificationError as error:
            line.close()
            raise CertificateRefused(
                f"the certificate of {origin.netloc} is not trusted: {error.verify_message}",
                registry=origin.netloc,
                hint="if it is yours, name its authority with SANDLOT_REGISTRY_CA=FILE",
            ) from error
        except (OSError, ValueError) as error:
            line.close()
            tls = origin.scheme == "https"
            what = "does not speak TLS" if tls and isinstance(error, ssl.SSLError) else "broke off"
            raise line.failed(f"{what}: {_reason(error)}", tls=tls) from error
        except BaseException:
            line.close()
            raise
        return line

    def _prepare(self, line: _Line) -> None:
        """The proxy's consent and the TLS handshake. In a thread."""
        origin = line.origin
        line.sock.settimeout(IDLE_SECONDS)
        if origin.scheme == "https":
            if line.proxy is not None:
                line.proxy.tunnel(line.sock, origin)
            if origin.netloc not in self._contexts:
                self._contexts[origin.netloc] = self._context(origin.netloc)
            context = self._contexts[origin.netloc]
            wrapped = context.wrap_socket(
                line.sock, server_hostname=origin.host, do_handshake_on_connect=False
            )
            line.sock = wrapped
            wrapped.do_handshake()
        line.client.sock = line.sock


def _exchange(
    line: _Line, method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> http.client.HTTPResponse:
    parts = urllib.parse.urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"Host": line.origin.netloc, "User-Agent": USER_AGENT, **headers}
    if line.proxy is not None and line.origin.scheme == "http":
        target = f"http://{line.origin.netloc}{target}"
        if line.proxy.authorization:
            sent["Proxy-Authorization"] = line.proxy.authorization
    line.client.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    if body is not None:
        sent["Content-Length"] = str(len(body))
    for name, value in sent.items():
        line.client.putheader(name, value)
    line.client.endheaders(body)
    return line.client.getresponse()


async def _open(host: str, port: int) -> socket.socket:
    """A connected, blocking socket: the host's addresses one after the other."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            # An address that is silent leaves time for the others.
            async with asyncio.timeout(CONNECT_SECONDS / min(len(found), 3)):
                await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except (OSError, TimeoutError) as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError("it has no address")


@dataclass(frozen=True)
class _Proxy:
    host: str
    port: int
    authorization: str = ""

    def tunnel(self, sock: socket.socket, origin: Origin) -> None:
        """Ask for a way through, in a thread. Raises OSError when the proxy refuses."""
        name = f"[{origin.host}]" if ":" in origin.host else origin.host
        target = f"{name}:{origin.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)  # no further: the rest belongs to TLS
            head += byte
            if not byte or len(head) > 1 << 13:
                raise OSError("the proxy broke off")
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(words) < 2 or words[1] != "200":
            raise OSError(f"the proxy refused: {' '.join(words[1:])[:100]}")


def _proxy(origin: Origin) -> _Proxy | None:
    """The proxy that the environment names for this host."""
    if is_loopback(origin.host) or urllib.request.proxy_bypass(origin.netloc):
        return None
    address = urllib.request.getproxies_environment().get(origin.scheme)
    if not address:
        return None
    try:
        parts = urllib.parse.urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError
        port = parts.port or 80
    except ValueError as error:
        raise RegistryError(
            f"the proxy in {origin.scheme.upper()}_PROXY cannot be used",
            hint="use http://host:port",
        ) from error
    authorization = ""
    if parts.username is not None:
        from sandlot.image.registry.credentials import Credentials

        user, word = (
            urllib.parse.unquote(parts.username),
            urllib.parse.unquote(parts.password or ""),
        )
        authorization = Credentials(user, word).basic()
    return _Proxy(parts.hostname, port, authorization)


def _unreachable(
    origin: Origin, proxy: _Proxy | None, reason: str, attempts: int = 2
) -> ConnectionFailed:
    through = f" through the proxy {proxy.host}:{proxy.port}" if proxy else ""
    return ConnectionFailed(
        f"cannot reach {origin.netloc}{through}: {reason}", registry=origin.netloc,
        unreachable=True, attempts=attempts,
        hint="check its name and your network; HTTPS_PROXY names a proxy",
    )  # fmt: skip


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {IDLE_SECONDS:g} s"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the handshake failed").replace("_", " ").lower()
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
