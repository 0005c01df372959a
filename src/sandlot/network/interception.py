"""Connections that are looked into: TLS is ended here and made anew, requests are read.

The upstream is connected to and verified before the guest's TLS is answered, and a value is put
into a request only between two ends that were. The sockets are here; what is parsed and replaced
is so in `http`, `tls` and `secrets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from sandlot.errors import Refuse
from sandlot.network.flow import Flow
from sandlot.network.flows import FlowRecord
from sandlot.network.hooks import Hooks
from sandlot.network.http.events import Event, Exchange, Refused, RequestHead, SecretSeen
from sandlot.network.http.exchange import make_exchange
from sandlot.network.inspected import Inspected
from sandlot.network.relay import Counted, Stopped, Stream
from sandlot.network.requests import RequestLog
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.hello import Hello
from sandlot.network.tls.session import TlsClient, TlsFailed, TlsServer
from sandlot.network.tls.trust import Trust
from sandlot.secrets import Vault

PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\n"  # RFC 9113, section 3.4
SHAKE_PATIENCE = 30.0  # seconds for each of the two handshakes


TURN = 64 * 1024  # bytes that TLS and HTTP are fed at once


class Interceptor:
    """Looks into the connections of one sandbox.

    Args:
        vault: its secrets.
        authority: its certificate authority, which the guest trusts.
        trust: what is believed of upstreams.
        hooks: functions of the host that are asked.
        inspected: hosts that are looked into without a secret for them.
    """

    def __init__(
        self, vault: Vault, authority: Authority | None, trust: Trust, hooks: Hooks,
        inspected: Inspected | None = None,
    ) -> None:  # fmt: skip
        self.vault = vault
        self._inspected = inspected or Inspected()
        self._authority = authority
        self._trust = trust
        self._hooks = hooks

    def concerns(self, host: str | None, port: int) -> bool:
        """Whether TLS to this host has to be looked into."""
        if host is None or self._authority is None:
            return False
        vault = self.vault
        named = vault.concerns(host, port) or self._inspected.concerns(host, port)
        return named or vault.refuses_misuse()

    def in_plain_http(self, host: str, port: int) -> bool:
        """Whether this host's requests without TLS are looked into whatever the policy says."""
        vault = self.vault
        named = vault.in_plain_http(host, port) or self._inspected.concerns(host, port)
        return named or vault.refuses_misuse()

    async def tls(
        self, stream: Stream, sock: socket.socket, flow: Flow, record: FlowRecord, count: Counted,
        hello: Hello, sent: bytes,
    ) -> None:  # fmt: skip
        """Carry a connection that began with a TLS hello.

        Raises:
            Stopped: the upstream is not who it has to be, or one of the two breaks TLS.
        """
        host = flow.name
        assert host is not None and self._authority is not None
        offered = [name.decode("latin-1") for name in hello.alpn]
        context = await asyncio.to_thread(self._trust.context, host, flow.port, offered)
        far = TlsClient(context, host)
        async with _patience("the upstream's TLS handshake"):
            early = await _shake_upstream(far, sock)
        if self.vault.concerns(host, flow.port) and not far.verified:
            raise Stopped("the upstream's certificate was not verified")
        record.tls = far.version or ""
        chosen = [far.protocol] if far.protocol in offered else []
        near = TlsServer(await asyncio.to_thread(self._authority.server_context, host, chosen))
        first: list[bytes] = []
        async with _patience("the guest's TLS handshake"):
            await _shake_guest(near, stream, sent, first)
        substitution = self.vault.substitution(host, flow.port)
        exchange = make_exchange(far.protocol, substitution, verified=far.verified)
        carrier = _Carrier(stream, sock, exchange, near, far, self._told(flow, record), count)
        await carrier.run(first, early)

    async def plain(
        self, stream: Stream, sock: socket.socket, flow: Flow, record: FlowRecord, count: Counted,
        sent: bytes,
    ) -> None:  # fmt: skip
        """Carry a connection that began with a request without TLS.

        Raises:
            Stopped: never; what is wrong is answered.
        """
        assert flow.name is not None
        substitution = self.vault.substitution(flow.name, flow.port, tls=False)
        protocol = "h2" if sent.startswith(PRIOR_KNOWLEDGE) else None
        exchange = make_exchange(protocol, substitution, verified=False)
        carrier = _Carrier(stream, sock, exchange, None, None, self._told(flow, record), count)
        await carrier.run([sent])

    def _told(
        self, flow: Flow, record: FlowRecord
    ) -> Callable[[Exchange, list[Event]], Awaitable[None]]:
        requests = RequestLog(record, flow, redact=self.vault.redact)

        async def told(exchange: Exchange, events: list[Event]) -> None:
            waiting = list(events)
            while waiting:
                event = waiting.pop(0)
                requests.note(event)
                if isinstance(event, RequestHead):
                    waiting += await self._request(exchange, flow, event)
                elif isinstance(event, SecretSeen):
                    use = event.use
                    names = record.secrets if use.replaced else record.misused
                    if use.secret not in names:
                        names.append(use.secret)
                    await self._secret_use(flow, event)
                elif isinstance(event, Refused):
                    record.reason, record.hint = event.reason, event.hint or record.hint

        return told

    async def _request(self, exchange: Exchange, flow: Flow, head: RequestHead) -> list[Event]:
        assert flow.name is not None
        try:
            if self._hooks.on_http_request is not None:
                await _called(self._hooks.on_http_request, flow, head)
        except Refuse as refusal:
            return exchange.refuse(head.id, refusal.message)
        except Exception as error:  # what cannot be judged is not allowed
            return exchange.refuse(head.id, f"the hook failed: {type(error).__name__}")
        if self.vault.stale(flow.name, flow.port):
            await self.vault.refresh(flow.name, flow.port)
        return exchange.proceed(head.id)

    async def _secret_use(self, flow: Flow, event: SecretSeen) -> None:
        """Asked after the value was put in and before anything of it is sent."""
        if self._hooks.on_secret_use is None:
            return
        try:
            await _called(self._hooks.on_secret_use, flow, event.use)
        except Refuse as refusal:
            raise Stopped(refusal.message, "denied") from None
        except Exception as error:
            raise Stopped(f"the hook failed: {type(error).__name__}", "denied") from None


def plain_interceptor(hooks: Hooks) -> Interceptor:
    """For a sandbox without secrets: it reads requests only to check whom they ask for."""
    return Interceptor(Vault({}, {}), None, Trust(), hooks)


async def _called(function: Callable[..., object], *arguments: object) -> None:
    result = function(*arguments)
    if inspect.isawaitable(result):
        await result


@contextlib.asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SHAKE_PATIENCE):
            yield
    except TimeoutError:
        raise Stopped(f"{what} took longer than {SHAKE_PATIENCE:.0f} s") from None


async def _shake_upstream(far: TlsClient, sock: socket.socket) -> list[bytes]:
    """What the upstream said right after its handshake is returned: the settings of HTTP/2."""
    loop = asyncio.get_running_loop()
    early: list[bytes] = []
    try:
        while True:
            if out := far.take():
                await loop.sock_sendall(sock, out)
            if far.established:
                return early
            data = await loop.sock_recv(sock, TURN)
            if not data:
                raise Stopped("the upstream ended the TLS handshake")
            early += far.receive(data)
    except TlsFailed as failure:
        with contextlib.suppress(OSError):
            await loop.sock_sendall(sock, far.take())
        what = "the upstream's certificate: " if failure.verification else "the upstream's TLS: "
        hint = "trust its authority with --upstream-ca" if failure.verification else ""
        raise Stopped(what + failure.reason, hint=hint) from None
    except OSError as error:
        raise Stopped(f"the upstream's TLS: {error.strerror or error}") from None


async def _shake_guest(near: TlsServer, stream: Stream, sent: bytes, first: list[bytes]) -> None:
    data = sent
    try:
        while True:
            first += near.receive(data)
            if out := near.take():
                await stream.write(out)
            if near.established:
                return
            data = await stream.read()
            if not data:
                raise Stopped("the guest ended the TLS handshake; does it trust the authority?")
    except TlsFailed as failure:
        with contextlib.suppress(OSError):
            await stream.write(near.take())
        raise Stopped(f"the guest's TLS: {failure.reason}") from None


def _turns(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for at in range(0, len(view), TURN):
        yield view[at : at + TURN]


class _Writer:
    """Sends what gathers in one direction. Nobody who reads waits for it in the other.

    It has a task only while there is something: most connections are idle most of the time.

    Args:
        take: gives what there is.
        send: sends it.
        failed: is told why nothing more can be sent.
    """

    def __init__(
        self, take: Callable[[], bytes], send: Callable[[bytes], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:  # fmt: skip
        self._take = take
        self._send = send
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be something."""
        if self._task is None and (data := self._take()):
            self._task = asyncio.get_running_loop().create_task(self._work(data))

    async def drained(self) -> None:
        """Wait until all that was there has been sent, or cannot be."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _work(self, data: bytes) -> None:
        try:
            while data:
                await self._send(data)
                data = self._take()
        except Exception as error:
            self._failed(error)
        finally:
            self._task = None


class _Carrier:
    """One connection that is looked into, with or without TLS on both sides."""

    def __init__(
        self, stream: Stream, sock: socket.socket, exchange: Exchange, near: TlsServer | None,
        far: TlsClient | None, told: Callable[[Exchange, list[Event]], Awaitable[None]],
        count: Counted,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._sock = sock
        self._exchange = exchange
        self._near = near
        self._far = far
        self._told = told
        self._count = count
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room: list[asyncio.Future[None]] = []
        self._asking = 0
        """While hooks are asked about a request, nothing goes on to the upstream."""
        self._to_guest = _Writer(self._for_guest, self._write_guest, self._fail)
        self._to_upstream = _Writer(self._for_upstream, self._write_upstream, self._fail)

    async def run(self, first: list[bytes], early: Sequence[bytes] = ()) -> None:
        """Carry it to its end.

        Raises:
            Stopped: one side breaks TLS, or a hook refuses.
            OSError: one side is gone.
        """
        tasks = [
            asyncio.ensure_future(each) for each in (self._guest(first), self._upstream(early))
        ]
        try:
            pending: set[asyncio.Future[None]] = {*tasks, self._over}
            while not self._over.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
            if self._exchange.abort_guest:
                self._stream.reset()
                return
            async with asyncio.timeout(SHAKE_PATIENCE):
                await self._to_guest.drained()
                await self._to_upstream.drained()
            if self._near is not None:
                self._near.farewell()
                await self._write_guest(self._near.take())
            self._stream.finish()
            if self._far is not None:
                self._far.farewell()
                with contextlib.suppress(OSError):
                    await self._write_upstream(self._far.take())
        except TlsFailed as failure:
            self._stream.reset()
            raise Stopped(f"TLS: {failure.reason}") from None
        except TimeoutError:
            self._stream.reset()
            raise Stopped("the end was not taken") from None
        except BaseException:
            self._stream.reset()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._to_guest.close()
            await self._to_upstream.close()
            if self._over.done():
                self._over.exception()  # whoever failed first is told already
            self._sock.close()

    def _fail(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    async def _wait(self) -> None:
        """Until something was taken or done, so that there may be room for more."""
        room = asyncio.get_running_loop().create_future()
        self._room.append(room)
        await room

    def _more(self) -> None:
        rooms, self._room = self._room, []
        for room in rooms:
            if not room.done():
                room.set_result(None)

    async def _step(self, events: list[Event]) -> None:
        """Do what events ask for, and let what came of it be sent."""
        self._asking += 1
        try:
            await self._told(self._exchange, events)
        finally:
            self._asking -= 1
        self._to_guest.wake()
        self._to_upstream.wake()
        self._more()
        if self._exchange.guest_ended and not self._over.done():
            self._over.set_result(None)

    async def _guest(self, first: list[bytes]) -> None:
        exchange, near = self._exchange, self._near
        for plain in first:
            await self._step(exchange.receive_guest(plain))
        while not exchange.guest_ended and not (near is not None and near.ended):
            while not exchange.wants_guest and not exchange.guest_ended:
                await self._wait()
            data = await self._stream.read()
            if not data:
                break
            for piece in _turns(data):
                pieces = near.receiving(piece) if near is not None else iter((bytes(piece),))
                for plain in pieces:
                    await self._step(exchange.receive_guest(plain))
                await self._to_upstream.drained()
        if not exchange.guest_ended:
            await self._step(exchange.guest_closed())

    async def _upstream(self, early: Sequence[bytes]) -> None:
        exchange, far = self._exchange, self._far
        loop = asyncio.get_running_loop()
        if far is not None:  # what came with the end of the handshake
            for plain in (*early, *far.receiving(b"")):
                self._count.received += len(plain)
                await self._step(exchange.receive_upstream(plain))
        while not exchange.upstream_ended:
            while not exchange.wants_upstream and not exchange.upstream_ended:
                await self._wait()
            data = await loop.sock_recv(self._sock, TURN)
            if not data:
                break
            for plain in far.receiving(data) if far is not None else (data,):
                self._count.received += len(plain)
                await self._step(exchange.receive_upstream(plain))
            await self._to_guest.drained()
            if far is not None and far.ended:
                break
        clean = far.closed() if far is not None else True
        await self._step(exchange.upstream_closed(clean=clean))
        if not exchange.guest_ended and exchange.upstream_ended:
            await self._to_guest.drained()

    def _for_guest(self) -> bytes:
        pieces = self._exchange.take_guest()
        self._more()
        if self._near is None:
            return b"".join(pieces)
        self._near.write_all(pieces)
        return self._near.take()

    def _for_upstream(self) -> bytes:
        if self._asking:
            return b""
        pieces = self._exchange.take_upstream()
        self._more()
        self._count.sent += sum(map(len, pieces))
        if self._far is None:
            return b"".join(pieces)
        self._far.write_all(pieces)
        return self._far.take()

    async def _write_guest(self, data: bytes) -> None:
        if data:
            await self._stream.write(data)

    async def _write_upstream(self, data: bytes) -> None:
        if data:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
