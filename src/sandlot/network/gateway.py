"""The gateway of one sandbox: every connection of the guest is judged, made and carried here.

It and its neighbours `datagrams.py`, `resolver.py`, `upstream.py` and `ports.py` own the sockets.
What is decided, parsed or substituted is so in pure modules; what the guest says is checked before
it is believed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from sandlot.errors import GuestProtocolError, SandboxError
from sandlot.network.addresses import canonical
from sandlot.network.datagrams import Datagrams
from sandlot.network.dns.pins import Pins
from sandlot.network.dns.service import Lookup
from sandlot.network.flow import Address, Caller, Decision, Flow, caller
from sandlot.network.flows import FlowLog, FlowRecord
from sandlot.network.front import Opening, opening
from sandlot.network.hooks import Hooks
from sandlot.network.judge import Judge
from sandlot.network.limits import NetworkLimits, Pace
from sandlot.network.nameserver import NameServer
from sandlot.network.peers import PEER_ADDRESSES, PeerTable
from sandlot.network.policy import Network
from sandlot.network.relay import Counted, Stopped, Stream, abort, relay
from sandlot.network.resolver import Resolver
from sandlot.network.router import DNS_PORT, ROUTERS, host_addresses
from sandlot.network.rules import HOST_NAME
from sandlot.network.upstream import DENIED, NETWORK_UNREACHABLE, dial, guest_errno, is_own
from sandlot.wire.messages import Failed, Message, Ok, encode
from sandlot.wire.network import Connect
from sandlot.wire.network import Network as Begin
from sandlot.wire.runtime import Borrow

if TYPE_CHECKING:
    from sandlot.network.interception import Interceptor

MOST_UNDECIDED = 1024
"""Streams that the guest has opened besides its connections: questions of the DNS, and connections
that nobody has decided about."""
WORD_PATIENCE = 30.0  # seconds until a stream has to say what it is for
WIDE = 1024 * 1024
MOST_WIDE = 32
"""Connections that may have `WIDE` bytes of the guest under way; with more at once, each has the
stream's first credit only. So what a guest can make the host hold is bounded."""


class GuestStream(Stream, Protocol):
    """A stream of the guest whose first bytes are messages."""

    async def read_message(self) -> Message | None: ...

    def unread(self) -> bytes: ...

    def discard(self) -> None: ...


class Carrier(Protocol):
    """What the gateway needs of a session's channel."""

    def open(self, header: Message, *, credit: int = ...) -> Any: ...

    def serve(self, accept: Callable[[Any], None]) -> None: ...

    def fail(self, error: SandboxError) -> None: ...


@dataclass(eq=False)
class _Connection:
    flow: Flow
    record: FlowRecord
    task: asyncio.Task[None] | None
    cut: str = ""


class Gateway:
    """What one sandbox reaches, and how.

    Args:
        network: the rules.
        log: where each flow is noted.
        hostname: the sandbox's own name.
        limits: of connections and bytes.
        hooks: functions of the host that are asked.
        interceptor: looks into connections that secrets are for; None for a sandbox without any.
        resolver: what is asked for names; the host's servers when None.
    """

    def __init__(
        self, network: Network, log: FlowLog, *, hostname: str = "",
        limits: NetworkLimits | None = None, hooks: Hooks | None = None,
        resolver: Resolver | None = None, interceptor: Interceptor | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        self.interceptor = interceptor
        self._limits = limits or NetworkLimits()
        rate = self._limits.bytes_per_second
        self._pace: Callable[[int], float] | None = Pace(rate) if rate else None
        pins = Pins()
        self._peers = PeerTable()
        self._peers.hold(network.peers)
        self.hooks = hooks or Hooks()
        self.judge = Judge(
            network, host_addresses(), lambda a: _names(pins, self._peers, a), self.hooks,
            lambda a: is_own(a),
        )  # fmt: skip
        self._names = NameServer(
            hostname, resolver or Resolver(), self.judge, pins, self._lookup, self._peers
        )
        self._connections: set[_Connection] = set()
        self._asking = 0  # connections to the name server
        self._tasks: set[asyncio.Task[None]] = set()
        self.datagrams: Datagrams | None = None
        self.lent: Callable[[Any, Borrow], Coroutine[None, None, None]] | None = None
        """Serves what is no connection: a program asks the runtime that the sandbox was lent."""

        self.reach_peer: Callable[[Sequence[str], int], Awaitable[socket.socket]] = _nobody
        """Connects to a port of the first of these sandboxes that takes it."""

    def add_pace(self, also: Callable[[int], float]) -> None:
        """Let another one say how long to wait after a piece; it may raise `Stopped`. To be called
        before the gateway is attached."""
        before = self._pace
        self._pace = also if before is None else lambda size: max(before(size), also(size))

    @property
    def network(self) -> Network:
        """The rules that hold now."""
        return self.judge.network

    def attach(self, channel: Carrier) -> None:
        """Begin to serve a machine."""
        channel.serve(lambda stream: self._accept(channel, stream))
        stream = channel.open(Begin())
        self.datagrams = Datagrams(
            stream, self.judge, self._names, self.log, self._pace, self._limits.connections
        )
        self._start(self._guarded(channel, self.datagrams.run()))

    def update(self, network: Network) -> list[FlowRecord]:
        """Hold to other rules from now on. What goes on and is no longer allowed is cut, and
        returned."""
        self.judge.replace(network)
        self._peers.hold(network.peers)
        self._names.hold_to_rules()
        cut = []
        for connection in list(self._connections):
            decision = self.judge.still(connection.flow)
            if not decision.allowed and connection.task is not None:
                connection.cut = decision.reason
                connection.task.cancel()
                cut.append(connection.record)
        if self.datagrams is not None:
            cut += self.datagrams.recheck()
        return cut

    def close(self) -> None:
        """End everything."""
        for task in list(self._tasks):
            task.cancel()
        if self.datagrams is not None:
            self.datagrams.close()
        self.log.close()

    # -- connections -----------------------------------------------------------------------

    def _accept(self, channel: Carrier, stream: GuestStream) -> None:
        if len(self._tasks) >= self._limits.connections + MOST_UNDECIDED:
            stream.reset()
        else:
            self._start(self._serve(channel, stream))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, channel: Carrier, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except GuestProtocolError as error:
            channel.fail(error)
        except (SandboxError, OSError):
            pass  # the machine has ended, or the guest gave its stream up meanwhile

    async def _serve(self, channel: Carrier, stream: GuestStream) -> None:
        await self._guarded(channel, self._connection(stream))

    async def _connection(self, stream: GuestStream) -> None:
        try:
            async with asyncio.timeout(WORD_PATIENCE):
                message = await stream.read_message()
        except TimeoutError:
            stream.reset()
            return
        if message is None:
            return
        if isinstance(message, Borrow):
            if self.lent is None:  # a saved machine may have had one
                stream.reset()
            else:
                await self.lent(stream, message)
            return
        if not isinstance(message, Connect):
            raise GuestProtocolError(f"the guest opens a stream with {type(message).__name__}")
        address = guest_address(message.target)
        port = guest_port(message.target_port)
        who = caller(message.pid, message.process)
        if self._full(stream, address, port, who):
            return
        if port == DNS_PORT and address in ROUTERS:
            self._asking += 1
            try:
                stream.put(encode(Ok()))
                await self._names.serve_stream(stream, stream.unread())
            finally:
                self._asking -= 1
            return
        flow, decision = await self.judge.judge("tcp", address, port)
        if self._full(stream, address, port, who):  # others came while a hook was asked
            return
        if not decision.allowed:
            self.log.opened(_record(flow, decision, "denied", who))
            _refuse(stream, DENIED)
            return
        await self._carry(stream, flow, decision, who)

    def _full(self, stream: GuestStream, address: Address, port: int, who: Caller) -> bool:
        """Whether there are as many connections as there may be; the guest is told."""
        most = self._limits.connections
        if len(self._connections) + self._asking < most:
            return False
        reason = f"it has {most} connections, which is its limit of connections"
        flow = Flow("tcp", address, port)
        self.log.opened(_record(flow, Decision(False, "limit", reason), "denied", who))
        _refuse(stream, NETWORK_UNREACHABLE)
        return True

    async def _carry(
        self, stream: GuestStream, flow: Flow, decision: Decision, who: Caller
    ) -> None:
        if flow.name is not None:
            self._names.used(flow.name, flow.address)
        count = Counted()
        record = self.log.opened(_record(flow, decision, "open", who), count)
        connection = _Connection(flow, record, asyncio.current_task())
        self._connections.add(connection)
        verdict, reason = "closed", ""
        try:
            try:
                sock = await self._dial(flow)
            except OSError as error:
                verdict, reason = "failed", error.strerror or str(error) or "timed out"
                _refuse(stream, guest_errno(error))
                return
            stream.put(encode(Ok()))
            if len(self._connections) <= MOST_WIDE:
                stream.allow(WIDE)
            await self._relay(stream, sock, flow, record, count)
        except Stopped as stopped:
            stream.reset()
            verdict, reason = stopped.verdict, stopped.reason
            record.hint = stopped.hint or record.hint
        except OSError:
            stream.reset()
        except BaseException:
            stream.reset()
            if connection.cut:
                verdict, reason = "cut", connection.cut
                return
            raise
        finally:
            self._connections.discard(connection)
            self.log.closed(record, verdict, reason)

    async def _dial(self, flow: Flow) -> socket.socket:
        if self._is_peer(flow):
            return await self.reach_peer(self.network.peers[flow.name or ""], flow.port)
        return await dial(flow.address, flow.port)

    def _is_peer(self, flow: Flow) -> bool:
        return flow.name is not None and self._peers.name_of(flow.address) == flow.name

    async def _relay(
        self, stream: GuestStream, sock: socket.socket, flow: Flow, record: FlowRecord,
        count: Counted,
    ) -> None:  # fmt: skip
        """Carry a connection that stands: as it is, or looked into."""
        names = self.judge.names_of(flow.address)
        inside = self.interceptor
        secret = inside is not None and any(inside.concerns(name, flow.port) for name in names)
        by_name = self.judge.by_name_alone(flow) and not self._is_peer(flow)
        plain = inside is not None and any(inside.in_plain_http(name, flow.port) for name in names)
        if not (secret or by_name or plain):
            await relay(stream, sock, count, stream.unread(), self._pace)
            return
        try:
            begun = await opening(stream, sock, stream.unread())
            flow = self._named(flow, begun)
            record.name = flow.name
            hello = begun.hello
            if hello is not None and inside is not None and inside.concerns(flow.name, flow.port):
                await inside.tls(stream, sock, flow, record, count, hello, begun.sent)
                return
            if hello is not None and hello.ech and by_name:
                self._hidden(flow)
            if begun.http and (by_name or plain) and flow.name is not None:
                inside = inside or self._plain_interceptor()
                await inside.plain(stream, sock, flow, record, count, begun.sent)
                return
            if begun.received:
                await stream.write(begun.received)
                count.received += len(begun.received)
        except BaseException:
            abort(sock)
            raise
        await relay(stream, sock, count, begun.sent, self._pace)

    def _hidden(self, flow: Flow) -> None:
        """An encrypted hello may ask for any name that the server at this address serves.

        Raises:
            Stopped: that is not allowed.
        """
        if not self.judge.network.hidden_names:
            raise Stopped(
                f"its TLS hello to {flow.name} hides a name (ECH), or pretends to",
                "denied",
                "switch the encrypted hello off in the program, or let hidden names pass",
            )

    def _plain_interceptor(self) -> Interceptor:
        # Most sandboxes need nothing of TLS and HTTP, which would cost each of them its import.
        from sandlot.network.interception import plain_interceptor

        return plain_interceptor(self.hooks)

    def _named(self, flow: Flow, begun: Opening) -> Flow:
        """The flow by the name that TLS or HTTP asks for: one that was looked up for this address
        and is allowed.

        Raises:
            Stopped: it is another one, or cannot be read.
        """
        if begun.broken:
            raise Stopped(f"what begins as TLS is wrong: {begun.broken}", "denied")
        name = begun.name
        if name is None or name in (flow.name, str(flow.address)):
            return flow
        asked = dataclasses.replace(flow, name=name)
        if name in self.judge.names_of(flow.address) and self.judge.still(asked).allowed:
            return asked
        raise Stopped(f"it asks for {name}, and the connection is to {flow.name}", "denied")

    def _lookup(self, lookup: Lookup) -> None:
        if lookup.decision.allowed and not lookup.problem:
            return  # what is then reached is noted when it is
        decision = lookup.decision
        self.log.opened(
            FlowRecord(
                id=0,
                time=time.time(),
                protocol="dns",
                address="",
                port=DNS_PORT,
                name=lookup.name,
                rule=decision.rule,
                reason=lookup.problem or decision.reason,
                hint=decision.hint,
                verdict="failed" if decision.allowed else "denied",
            )
        )


async def _nobody(sandboxes: Sequence[str], port: int) -> socket.socket:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "no sandbox is reached from here")


def _names(pins: Pins, peers: PeerTable, address: Address) -> tuple[str, ...]:
    if address in ROUTERS:
        return (HOST_NAME,)
    if address in PEER_ADDRESSES and (peer := peers.name_of(address)) is not None:
        return (peer,)
    return pins.names_for(address, time.monotonic())


def _refuse(stream: GuestStream, errno: int) -> None:
    stream.put(encode(Failed(code="network", errno=errno)))
    stream.finish()
    stream.discard()


def _record(flow: Flow, decision: Decision, verdict: str, who: Caller) -> FlowRecord:
    return FlowRecord(
        id=0, time=time.time(), protocol=flow.protocol, address=str(flow.address), port=flow.port,
        name=flow.name, rule=decision.rule, reason=decision.reason, hint=decision.hint,
        verdict=verdict, pid=who.pid, process=who.name,
    )  # fmt: skip


def guest_address(raw: bytes) -> Address:
    """An address that the guest names; IPv4 inside of IPv6 (IPv4-mapped) is IPv4.

    Raises:
        GuestProtocolError: it has neither 4 nor 16 bytes.
    """
    if len(raw) not in (4, 16):
        raise GuestProtocolError(f"an address of {len(raw)} bytes")
    return canonical(ip_address(raw))


def guest_port(number: int) -> int:
    """A port that the guest names; 0 is possible in a packet, but nowhere else.

    Raises:
        GuestProtocolError: it is none.
    """
    if number > 65535:
        raise GuestProtocolError(f"port {number}")
    return number
