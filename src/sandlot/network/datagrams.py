"""The guest's datagrams: a connected socket of the host for each pair of ends, while it is used."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Protocol

from sandlot.errors import GuestProtocolError
from sandlot.network.addresses import canonical
from sandlot.network.flow import Address, Flow
from sandlot.network.flows import FlowLog, FlowRecord
from sandlot.network.judge import Judge
from sandlot.network.quic import begins_quic
from sandlot.network.relay import Counted, Stopped
from sandlot.network.router import DNS_PORT, ROUTERS
from sandlot.network.upstream import DENIED, guest_errno, new_socket, real_target
from sandlot.wire.messages import Failed, Message, encode
from sandlot.wire.network import Datagram, Unreachable

IDLE = 120.0  # seconds without a datagram after which a flow is over; RFC 4787, section 4.3
LARGEST = 65_000
MOST_WAITING = 16  # datagrams, or questions of the DNS
MOST_QUESTIONS = 64


class NameAnswers(Protocol):
    """Who answers questions of the DNS."""

    async def answer(self, query: bytes) -> bytes | None: ...


class DatagramStream(Protocol):
    """The stream that datagrams come and go on."""

    async def read_message(self) -> Message | None: ...

    def try_put(self, data: bytes) -> bool: ...


Key = tuple[int, Address, int]  # the guest's port, the remote address and port


class _Pair:
    """One flow: its socket, once it is allowed, and what waits until then."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.sock: socket.socket | None = None
        self.flow: Flow | None = None
        self.record: FlowRecord | None = None
        self.count = Counted()
        self.used = time.monotonic()


class Datagrams:
    """All datagrams of one machine."""

    def __init__(
        self, stream: DatagramStream, judge: Judge, names: NameAnswers, log: FlowLog,
        pace: Callable[[int], float] | None, most: int,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._judge = judge
        self._names = names
        self._log = log
        self._pace = pace
        self._most = most
        self._pairs: OrderedDict[Key, _Pair] = OrderedDict()  # the longest unused first
        self._tasks: set[asyncio.Task[None]] = set()
        self._questions = 0
        self.inbound: dict[Key, Callable[[bytes], None]] = {}
        """Who takes what the guest sends back on a published port."""

    async def run(self) -> None:
        """Serve until the machine ends.

        Raises:
            GuestProtocolError: the guest broke the rules.
        """
        try:
            while (message := await self._stream.read_message()) is not None:
                if isinstance(message, Failed):
                    return  # a kernel without what the gate needs: then there is no network
                if not isinstance(message, Datagram):
                    raise GuestProtocolError(
                        f"the guest sends {type(message).__name__} among datagrams"
                    )
                self._sent(message)
        finally:
            self.close()

    def send(self, port: int, remote: Address, remote_port: int, data: bytes) -> None:
        """Hand a datagram to the guest; without room for it, it is lost."""
        self._stream.try_put(
            encode(Datagram(port=port, remote=remote.packed, remote_port=remote_port, data=data))
        )

    def recheck(self) -> list[FlowRecord]:
        """End what the rules no longer allow."""
        cut = []
        for key, pair in list(self._pairs.items()):
            if pair.flow is not None and pair.record is not None:
                decision = self._judge.still(pair.flow)
                if not decision.allowed:
                    cut.append(pair.record)
                    self._end(key, "cut", decision.reason)
        return cut

    def close(self) -> None:
        """End all."""
        for key in list(self._pairs):
            self._end(key)
        for task in self._tasks:
            task.cancel()

    # -- from the guest --------------------------------------------------------------------

    def _sent(self, message: Datagram) -> None:
        if len(message.remote) not in (4, 16) or len(message.data) > LARGEST:
            raise GuestProtocolError("a datagram of the guest is malformed")
        if message.port > 65535 or message.remote_port > 65535:
            raise GuestProtocolError("a datagram of the guest has an impossible port")
        remote = canonical(ip_address(message.remote))
        key = (message.port, remote, message.remote_port)
        taker = self.inbound.get(key)
        if taker is not None:
            taker(message.data)
            return
        if canonical(remote) in ROUTERS and message.remote_port == DNS_PORT:
            if self._questions < MOST_QUESTIONS:
                self._questions += 1
                self._start(self._question(key, message.data))
            return
        if self._late(len(message.data)):
            return  # over the limit: lost, as on a full line
        pair = self._pairs.get(key)
        if pair is None:
            self._expire()
            pair = self._pairs[key] = _Pair()
            self._start(self._allow(key, pair))
        self._pairs.move_to_end(key)
        pair.used = time.monotonic()
        if pair.sock is None:
            if len(pair.waiting) < MOST_WAITING:
                pair.waiting.append(message.data)
            return
        self._put(key, pair, message.data)

    def _late(self, size: int) -> bool:
        try:
            return self._pace is not None and self._pace(size) > 0
        except Stopped:
            return True

    async def _question(self, key: Key, data: bytes) -> None:
        try:
            answer = await self._names.answer(data)
            if answer is not None:
                self.send(key[0], key[1], key[2], answer)
        finally:
            self._questions -= 1

    async def _allow(self, key: Key, pair: _Pair) -> None:
        remote, remote_port = canonical(key[1]), key[2]
        flow, decision = await self._judge.judge("udp", remote, remote_port)
        if self._pairs.get(key) is not pair:
            return  # ended meanwhile: a socket made now would belong to nobody
        verdict = "open" if decision.allowed else "denied"
        record = FlowRecord(
            id=0, time=time.time(), protocol="udp", address=str(remote), port=remote_port,
            name=flow.name, rule=decision.rule, reason=decision.reason, hint=decision.hint,
            verdict=verdict,
        )  # fmt: skip
        self._log.opened(record, pair.count)
        if not decision.allowed:
            self._pairs.pop(key, None)
            self._unreachable(key, DENIED)
            return
        target = real_target(remote)
        sock: socket.socket | None = None
        try:
            sock = new_socket(target, socket.SOCK_DGRAM)
            sock.connect((target, remote_port))
        except OSError as error:
            if sock is not None:
                sock.close()
            self._log.closed(record, "failed", error.strerror or "")
            self._pairs.pop(key, None)
            self._unreachable(key, guest_errno(error))
            return
        pair.sock, pair.flow, pair.record = sock, flow, record
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, key, pair)
        waiting, pair.waiting = pair.waiting, []
        for data in waiting:
            if self._pairs.get(key) is pair:
                self._put(key, pair, data)

    def _put(self, key: Key, pair: _Pair, data: bytes) -> None:
        assert pair.sock is not None
        if begins_quic(data) and self._hidden(pair):
            reason = "QUIC hides the name that it asks for"
            if pair.record is not None:
                pair.record.hint = "use TLS over TCP in the program, or let hidden names pass"
            self._end(key, "denied", reason)
            self._unreachable(key, DENIED)
            return
        try:
            pair.sock.send(data)
            pair.count.sent += len(data)
        except BlockingIOError:
            pass  # lost, as on a full line
        except OSError as error:
            self._unreachable(key, guest_errno(error))

    def _hidden(self, pair: _Pair) -> bool:
        judge = self._judge
        return (
            pair.flow is not None
            and not judge.network.hidden_names
            and judge.by_name_alone(pair.flow)
        )

    # -- to the guest ----------------------------------------------------------------------

    def _readable(self, key: Key, pair: _Pair) -> None:
        assert pair.sock is not None
        try:
            data = pair.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._unreachable(key, guest_errno(error))
            return
        pair.used = time.monotonic()
        pair.count.received += len(data)
        if len(data) <= LARGEST:
            self.send(*key, data)

    def _unreachable(self, key: Key, errno: int) -> None:
        port, remote, remote_port = key
        self._stream.try_put(
            encode(
                Unreachable(port=port, remote=remote.packed, remote_port=remote_port, errno=errno)
            )
        )

    # -- bookkeeping -----------------------------------------------------------------------

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._pairs:
            key, pair = next(iter(self._pairs.items()))
            if len(self._pairs) < self._most and now - pair.used < IDLE:
                return
            self._end(key)

    def _end(self, key: Key, verdict: str = "closed", reason: str = "") -> None:
        pair = self._pairs.pop(key)
        if pair.sock is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_reader(pair.sock.fileno())
            pair.sock.close()
        if pair.record is not None:
            self._log.closed(pair.record, verdict, reason)
