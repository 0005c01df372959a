"""Names through the gateway: asked of a server of the test's own, by datagram and by stream."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from sandlot.errors import Refuse
from sandlot.network import resolver as resolver_module
from sandlot.network.hooks import Hooks
from sandlot.network.policy import Network
from sandlot.network.resolver import Resolver
from sandlot.wire.messages import Ok, encode
from sandlot.wire.network import Datagram
from tests.unit.network.harness import HOST, Guest, guest

REMOTE = ip_address(HOST).packed


class Upstream(asyncio.DatagramProtocol):
    """Answers every question of an address with one, or fails without, and remembers it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name
        self.asked.append(str(name).lower())
        answer = dns.message.make_response(query)
        if self.address:
            answer.answer.append(dns.rrset.from_text(name, 0, "IN", "A", self.address))
        else:
            answer.set_rcode(dns.rcode.SERVFAIL)
        self.transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def upstream(address: str) -> AsyncIterator[tuple[Upstream, Resolver]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Upstream(address), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        yield protocol, Resolver([("127.0.0.1", port)])
    finally:
        transport.close()
        await asyncio.sleep(0)


async def ask(side: Guest, name: str) -> dns.message.Message:
    query = dns.message.make_query(name, "A")
    side.datagrams.put(
        encode(Datagram(port=5000, remote=REMOTE, remote_port=53, data=query.to_wire()))
    )
    answer = await side.datagrams.read_message()
    assert isinstance(answer, Datagram)
    return dns.message.from_wire(answer.data)


async def test_an_answer_opens_the_address_by_its_name_alone() -> None:
    async with upstream("93.184.216.34") as (server, resolver):
        network = Network(allow=["api.example.com:443"])
        async with guest(network, resolver=resolver) as side:
            address = ip_address("93.184.216.34")
            assert not side.gateway.judge.look("tcp", address, 443)[1].allowed
            answer = await ask(side, "API.example.com")
            assert answer.rcode() == dns.rcode.NOERROR and "93.184.216.34" in str(answer.answer[0])
            flow, decision = side.gateway.judge.look("tcp", address, 443)
            assert decision.allowed and flow.name == "api.example.com"
            assert not side.gateway.judge.look("tcp", address, 80)[1].allowed
            assert (await ask(side, "evil.example.org")).rcode() == dns.rcode.NXDOMAIN
            assert server.asked == ["api.example.com."]
            side.gateway.update(Network.deny_all())
            assert not side.gateway.judge.look("tcp", address, 443)[1].allowed


async def test_a_public_name_with_a_private_address_is_refused() -> None:
    async with (
        upstream("10.0.0.7") as (_, resolver),
        guest(Network.public(), resolver=resolver) as side,
    ):
        assert (await ask(side, "rebinding.example.com")).rcode() != dns.rcode.NOERROR
        (flow,) = side.gateway.log.all()
        assert flow.protocol == "dns" and "private" in flow.reason


async def test_a_name_server_that_does_not_answer_is_in_the_flows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver_module, "ROUND", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = Resolver([silent.getsockname()])
        async with guest(Network.public(), resolver=resolver) as side:
            assert (await ask(side, "api.example.com")).rcode() == dns.rcode.SERVFAIL
            (flow,) = side.gateway.log.all()
            assert (flow.protocol, flow.name, flow.verdict) == ("dns", "api.example.com", "failed")
            assert flow.reason == "no name server of the host answers"


async def test_a_name_server_that_fails_is_in_the_flows() -> None:
    async with (
        upstream("") as (_, resolver),
        guest(Network.public(), resolver=resolver) as side,
    ):
        assert (await ask(side, "api.example.com")).rcode() == dns.rcode.SERVFAIL
        (flow,) = side.gateway.log.all()
        assert (flow.verdict, flow.reason) == ("failed", "the resolver failed")


async def test_questions_over_a_stream() -> None:
    async with (
        upstream("93.184.216.34") as (_, resolver),
        guest(Network.public(), resolver=resolver) as side,
    ):
        stream, answer = await side.connect(HOST, 53)
        assert isinstance(answer, Ok)
        names = [f"n{i}.example.com" for i in range(40)]
        for name in names:
            wire = dns.message.make_query(name, "A").to_wire()
            await stream.write(struct.pack("!H", len(wire)) + wire)
        stream.finish()
        data = b""
        while piece := await stream.read():
            data += piece
        count = 0
        while data:
            (size,) = struct.unpack_from("!H", data)
            assert dns.message.from_wire(data[2 : 2 + size]).answer
            data, count = data[2 + size :], count + 1
        assert count == len(names)


async def test_a_hook_may_refuse_a_name_and_no_server_is_told_so() -> None:
    def on_dns(name: str, decision: object) -> None:
        raise Refuse(f"{name} is not for you")

    async with (
        upstream("93.184.216.34") as (server, resolver),
        guest(Network.public(), resolver=resolver, hooks=Hooks(on_dns=on_dns)) as side,
    ):
        assert (await ask(side, "example.com")).rcode() != dns.rcode.NOERROR
        assert server.asked == []
        assert "not for you" in side.gateway.log.all()[0].reason


async def test_a_dead_server_is_a_failure_not_a_wait(monkeypatch: object) -> None:
    import sandlot.network.resolver as module

    module_round = module.ROUND
    module.ROUND = 0.05
    try:
        async with upstream("93.184.216.34") as (_, resolver):
            pass
        async with guest(Network.public(), resolver=resolver) as side:
            assert (await ask(side, "example.com")).rcode() == dns.rcode.SERVFAIL
    finally:
        module.ROUND = module_round


async def test_the_sandbox_and_the_host_have_names() -> None:
    async with guest(Network.public(), resolver=Resolver([])) as side:
        assert "10.231.0.2" in str((await ask(side, "box")).answer[0])
        assert HOST in str((await ask(side, "host.sandlot.internal")).answer[0])
