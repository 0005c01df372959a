"""The name server that a sandbox sees: the service that decides, and the host's resolver behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from sandlot.errors import GuestProtocolError
from sandlot.network.dns.framing import Messages, frame
from sandlot.network.dns.message import Malformed
from sandlot.network.dns.pins import Pins
from sandlot.network.dns.service import Ask, Lookup, NameService, Reply
from sandlot.network.flow import Address
from sandlot.network.judge import Judge
from sandlot.network.peers import PeerTable
from sandlot.network.relay import Stream
from sandlot.network.resolver import NoAnswer, Resolver
from sandlot.network.router import GUEST4, GUEST6, ROUTERS

MOST_QUESTIONS = 32  # of one connection at once
IDLE = 30.0  # seconds without a question after which a connection is ended


class NameServer:
    """Answers the sandbox's questions.

    Args:
        hostname: the sandbox's own name.
        resolver: who is asked for what the rules allow.
        judge: whose rules hold.
        pins: where it is kept which name an address was given for.
        tell: is told of every lookup.
        peers: the other sandboxes that are reached by a name.
    """

    def __init__(
        self, hostname: str, resolver: Resolver, judge: Judge, pins: Pins,
        tell: Callable[[Lookup], None], peers: PeerTable,
    ) -> None:  # fmt: skip
        self._resolver = resolver
        self._judge = judge
        self._tell = tell
        self._service = NameService(
            judge.policy, hostname=hostname, addresses=(GUEST4, GUEST6),
            host_addresses=sorted(ROUTERS, key=str), pins=pins,
        )  # fmt: skip
        self._service.peers = peers.address_of

    def hold_to_rules(self) -> None:
        """The judge has other rules: what was learnt by the old ones is looked at again."""
        policy = self._service.policy = self._judge.policy
        self._service.pins.retain(lambda name: policy.may_resolve(name).allowed)

    def used(self, name: str, address: Address) -> None:
        """A flow to an address was opened by a name: the two belong together for longer."""
        self._service.pins.used(name, address, time.monotonic())

    async def answer(self, query: bytes, *, tcp: bool = False) -> bytes | None:
        """The answer to a question, or None when it deserves none."""
        step = self._service.ask(query, time.monotonic(), tcp=tcp)
        if isinstance(step, Reply) and step.lookup is not None:
            lookup = step.lookup
            if await self._judge.agrees_to_name(lookup.name, lookup.decision):
                self.hold_to_rules()
                step = self._service.ask(query, time.monotonic(), tcp=tcp)
        if isinstance(step, Ask):
            decision = await self._judge.judge_name(step.name, step.decision)
            if not decision.allowed:
                self._tell(Lookup(step.name, step.type, decision))
                return self._service.fail(step, decision.reason).wire
        while isinstance(step, Ask):
            step = await self._upstream(step)
        if isinstance(step, Reply):
            if step.lookup is not None:
                self._tell(step.lookup)
            return step.wire
        return None

    async def _upstream(self, ask: Ask) -> Reply | Ask:
        """Ask once; what does not fit the question is dropped by the next try."""
        result: Reply | Ask | None = None
        try:
            async for data in self._resolver.ask(ask.wire, tcp=ask.over_tcp):
                result = self._service.answer(ask, data, time.monotonic())
                if result is not None:
                    return result
        except NoAnswer as error:
            return self._service.fail(ask, str(error))
        except BaseException:
            self._service.fail(ask)
            raise
        return self._service.fail(ask)

    async def serve_stream(self, stream: Stream, first: bytes) -> None:
        """Questions over TCP, until the guest ends the connection or says nothing for a while."""
        messages, tasks = Messages(), set[asyncio.Task[None]]()
        gate = asyncio.Semaphore(MOST_QUESTIONS)
        data = first
        try:
            while True:
                for query in messages.feed(data):
                    await gate.acquire()
                    task = asyncio.ensure_future(self._one(stream, query, gate))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                async with asyncio.timeout(IDLE):
                    data = await stream.read()
                if not data:
                    break
            await asyncio.gather(*tasks)
            stream.finish()
        except (Malformed, TimeoutError, OSError):
            stream.reset()
        except GuestProtocolError:
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, stream: Stream, query: bytes, gate: asyncio.Semaphore) -> None:
        try:
            answer = await self.answer(query, tcp=True)
            if answer is not None:
                with contextlib.suppress(OSError):  # nobody waits for it any more
                    await stream.write(frame(answer))
        finally:
            gate.release()
