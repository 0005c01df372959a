"""Datagrams of a guest: judged once, answered, expired, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from sandlot.errors import GuestProtocolError
from sandlot.network.policy import Network
from sandlot.wire.messages import Failed, Jobs, encode
from sandlot.wire.network import Datagram, Unreachable
from tests.unit.network.harness import HOST, guest
from tests.unit.network.test_gateway import until
from tests.unit.network.test_nameserver import ask as lookup
from tests.unit.network.test_nameserver import upstream

REMOTE = ip_address(HOST).packed


class Shout(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def shouting() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Shout, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()
        await asyncio.sleep(0)


def sent(port: int, data: bytes, remote: bytes = REMOTE, source: int = 5000) -> bytes:
    return encode(Datagram(port=source, remote=remote, remote_port=port, data=data))


async def test_answers_come_back_to_the_port_that_asked() -> None:
    async with shouting() as port, guest(Network(allow=["host"])) as side:
        side.datagrams.put(sent(port, b"one") + sent(port, b"two", source=5001))
        got = [await side.datagrams.read_message() for _ in range(2)]
        assert {(m.port, m.data) for m in got if isinstance(m, Datagram)} == {
            (5000, b"ONE"), (5001, b"TWO"),
        }  # fmt: skip
        side.datagrams.put(sent(port, b"three"))
        assert isinstance(await side.datagrams.read_message(), Datagram)
        flows = side.gateway.log.all()
        assert [(f.protocol, f.verdict, f.sent) for f in flows] == [
            ("udp", "open", 8), ("udp", "open", 3),
        ]  # fmt: skip
        assert len(side.gateway.update(Network.deny_all())) == 2
        side.datagrams.put(sent(port, b"four"))
        answer = await side.datagrams.read_message()
        assert isinstance(answer, Unreachable) and answer.errno == 13


@pytest.mark.parametrize(("hidden_names", "verdict"), [(False, "denied"), (True, "open")])
async def test_quic_under_a_rule_on_a_name(hidden_names: bool, verdict: str) -> None:
    initial = b"\xc3\0\0\0\1" + bytes(1195)
    policy = Network(allow=["api.example.com"], hidden_names=hidden_names)
    async with (
        upstream("93.184.216.34") as (_, resolver),
        guest(policy, resolver=resolver) as side,
    ):
        await lookup(side, "api.example.com")
        target = ip_address("93.184.216.34").packed
        side.datagrams.put(sent(443, initial, target))
        await until(lambda: any(flow.protocol == "udp" for flow in side.gateway.log.all()))
        flow = side.gateway.log.all()[-1]
        if verdict == "denied":
            answer = await side.datagrams.read_message()
            assert isinstance(answer, Unreachable) and answer.errno == 13
            assert "QUIC" in flow.reason and flow.sent == 0
        assert flow.verdict == verdict


async def test_quic_to_an_address_that_a_rule_names() -> None:
    async with shouting() as port, guest(Network(allow=["host"])) as side:
        side.datagrams.put(sent(port, b"\xc3\0\0\0\1" + bytes(1195)))
        assert isinstance(await side.datagrams.read_message(), Datagram)


async def test_refusals_and_closed_ports_are_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    async with guest(Network(allow=["host"])) as side:
        side.datagrams.put(sent(port, b"x"))
        answer = await side.datagrams.read_message()
        assert isinstance(answer, Unreachable) and (answer.port, answer.errno) == (5000, 111)
        side.datagrams.put(sent(53, b"x", ip_address("10.0.0.1").packed))
        answer = await side.datagrams.read_message()
        assert isinstance(answer, Unreachable) and answer.errno == 13
        assert side.gateway.log.all()[-1].verdict == "denied"


@pytest.mark.parametrize(
    "wrong",
    [
        encode(Jobs()),
        sent(53, b"x", b"123"),
        encode(Datagram(port=70000, remote=REMOTE, remote_port=1, data=b"")),
    ],
)
async def test_nonsense_ends_the_session(wrong: bytes) -> None:
    async with guest(Network.open()) as side:
        side.datagrams.put(wrong)
        await until(lambda: side.host.error is not None)
        assert isinstance(side.host.error, GuestProtocolError)


async def test_a_guest_without_a_network_is_no_breach() -> None:
    async with guest(Network.open()) as side:
        side.datagrams.put(encode(Failed(code="no-network")))
        side.datagrams.finish()
        await side.connect("10.0.0.1", 80)  # what came before has been dealt with
        assert side.host.error is None


async def test_old_pairs_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from sandlot.network.limits import NetworkLimits

    async with shouting() as port:
        limits = NetworkLimits(connections=3)
        async with guest(Network(allow=["host"]), limits=limits) as side:
            for source in range(5000, 5010):
                side.datagrams.put(sent(port, b"x", source=source))
                assert isinstance(await side.datagrams.read_message(), Datagram)
            still = [f for f in side.gateway.log.all() if f.verdict == "open"]
            assert len(still) <= 3
