"""Connections of a guest: judged, made, carried, noted, cut."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from sandlot.errors import GuestProtocolError, Refuse
from sandlot.network import gateway as module
from sandlot.network.flow import Decision, Flow
from sandlot.network.flows import read_flows
from sandlot.network.gateway import guest_address, guest_port
from sandlot.network.hooks import Hooks
from sandlot.network.limits import NetworkLimits
from sandlot.network.policy import Network
from sandlot.network.router import GUEST4
from sandlot.wire.frames import INITIAL_CREDIT
from sandlot.wire.messages import Failed, Jobs, Ok
from sandlot.wire.network import Connect
from tests.unit.network.harness import HOST, Guest, echo, guest, server

OPEN = Network(allow=["host"])


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


def verdicts(side: Guest) -> list[str]:
    return [flow.verdict for flow in side.gateway.log.all()]


async def test_bytes_go_both_ways_and_halves_end_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "flows"
    async with server(echo) as port, guest(OPEN, path=path) as side:
        stream, answer = await side.connect(HOST, port)
        assert isinstance(answer, Ok)
        await stream.write(b"x" * 1_000_000)
        stream.finish()
        got = 0
        while data := await stream.read():
            got += len(data)
        assert got == 1_000_000 and not stream.was_reset
        await until(lambda: verdicts(side) == ["closed"])
        (flow,) = side.gateway.log.all()
        assert (flow.sent, flow.received, flow.rule) == (1_000_000, 1_000_000, "allow host")
    assert [each.verdict for each in read_flows(path)] == ["closed"]


async def test_what_is_not_allowed_is_refused_with_the_rule_to_add() -> None:
    async with guest(Network(allow=["api.example.com"])) as side:
        for address in ("93.184.216.34", "10.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", HOST):
            _, answer = await side.connect(address, 443)
            assert isinstance(answer, Failed) and answer.errno == 13
        flows = side.gateway.log.all()
        assert all(flow.verdict == "denied" for flow in flows)
        assert flows[0].hint == "allow 93.184.216.34:443"
        assert flows[-1].hint == "allow host:443"


async def test_the_hosts_error_becomes_the_guests() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # nobody listens
        async with guest(OPEN) as side:
            _, answer = await side.connect(HOST, sock.getsockname()[1])
            assert isinstance(answer, Failed) and answer.errno == 111
            assert verdicts(side) == ["failed"]


async def test_a_reset_is_a_reset_on_both_sides() -> None:
    gone = asyncio.Event()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(2)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    async with server(rude) as one, server(patient) as other, guest(OPEN) as side:
        stream, _ = await side.connect(HOST, one)
        await stream.write(b"x")
        assert await stream.read() == b"" and stream.was_reset
        stream, _ = await side.connect(HOST, other)
        await stream.write(b"x")
        stream.reset()
        await asyncio.wait_for(gone.wait(), 60)


@pytest.mark.parametrize(
    ("pid", "name", "shown"),
    [
        (417, b"curl", (417, "curl")),
        (0, b"curl", (0, "")),  # unknown
        (1 << 40, b"curl", (0, "")),  # impossible
        (1, b"\x1b[2J\n\xff", (1, "\\x1b[2J\\x0a\\xff")),
        (2, b"x" * 5000, (2, "x" * 64)),
    ],
)
async def test_what_the_guest_says_of_itself_is_short_and_printable(
    pid: int, name: bytes, shown: tuple[int, str]
) -> None:
    async with server(echo) as port, guest(Network(allow=["host"])) as side:
        for target in (HOST, "10.0.0.1"):
            stream = side.channel.open(
                Connect(
                    source=GUEST4.packed, source_port=1, target=ip_address(target).packed,
                    target_port=port, pid=pid, process=name,
                )
            )  # fmt: skip
            await stream.read_message()
            stream.reset()
        flows = side.gateway.log.all()
        assert [(flow.pid, flow.process) for flow in flows] == [shown, shown]


async def test_a_change_of_the_policy_cuts_what_goes_on() -> None:
    async with server(echo) as port, guest(OPEN) as side:
        stream, _ = await side.connect(HOST, port)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        assert side.gateway.update(OPEN) == []
        assert len(side.gateway.update(Network.deny_all())) == 1
        assert await stream.read() == b"" and stream.was_reset
        await until(lambda: verdicts(side) == ["cut"])
        _, answer = await side.connect(HOST, port)
        assert isinstance(answer, Failed)


async def test_the_limit_of_connections_is_named() -> None:
    limits = NetworkLimits(connections=1)
    async with server(echo) as port, guest(OPEN, limits=limits) as side:
        _, first = await side.connect(HOST, port)
        _, second = await side.connect(HOST, port)
        assert isinstance(first, Ok) and isinstance(second, Failed)
        assert "limit of connections" in side.gateway.log.all()[-1].reason


async def test_few_connections_may_have_more_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WIDE", 1)
    async with server(echo) as port, guest(OPEN) as side:
        streams = [(await side.connect(HOST, port))[0] for _ in range(2)]
        assert side.channel._mux.credit(streams[0].number) > module.WIDE // 2
        assert side.channel._mux.credit(streams[1].number) <= INITIAL_CREDIT


async def test_a_rate_is_held() -> None:
    limits = NetworkLimits(bytes_per_second=2_000_000)
    async with server(echo) as port, guest(OPEN, limits=limits) as side:
        stream, _ = await side.connect(HOST, port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await stream.write(b"x" * 1_000_000)
        stream.finish()
        while await stream.read():
            pass
        # Two million bytes moved, of which half a million are free.
        assert loop.time() - began > 0.5


async def test_asking_once_always_and_never() -> None:
    asked: list[str] = []
    answers = iter(["once", "always", "deny"])

    def ask(flow: Flow, decision: Decision) -> str:
        asked.append(str(flow))
        return next(answers)

    nothing = Network.deny_all()
    async with server(echo) as port, guest(nothing, hooks=Hooks(ask=ask)) as side:  # type: ignore[arg-type]
        # What Sandlot refuses by itself is not even asked for.
        _, answer = await side.connect(HOST, port)
        assert isinstance(answer, Failed) and asked == []
    target = "93.184.216.34"
    async with guest(nothing, hooks=Hooks(ask=ask)) as side:  # type: ignore[arg-type]
        judge = side.gateway.judge
        address = guest_address(socket.inet_aton(target))
        assert (await judge.judge("tcp", address, 443))[1].allowed
        assert (await judge.judge("tcp", address, 443))[1].allowed
        assert (await judge.judge("tcp", address, 443))[1].allowed
        assert not (await judge.judge("tcp", address, 444))[1].allowed
    assert asked == [f"{target}:443", f"{target}:443", f"{target}:444"]


async def test_a_hook_may_refuse_and_one_that_fails_refuses() -> None:
    async def on_connect(flow: Flow, decision: Decision) -> None:
        raise Refuse("not today")

    async with server(echo) as port:
        async with guest(OPEN, hooks=Hooks(on_connect=on_connect)) as side:
            _, answer = await side.connect(HOST, port)
            assert isinstance(answer, Failed)
            assert side.gateway.log.all()[0].reason == "not today"
        async with guest(OPEN, hooks=Hooks(on_connect=lambda *_: 1 / 0)) as side:
            _, answer = await side.connect(HOST, port)
            assert isinstance(answer, Failed)
            assert "ZeroDivisionError" in side.gateway.log.all()[0].reason


async def test_a_guest_that_breaks_the_rules_loses_its_session() -> None:
    async with guest(OPEN) as side:
        side.channel.open(Jobs())
        await until(lambda: side.host.error is not None)
        assert isinstance(side.host.error, GuestProtocolError)
    with pytest.raises(GuestProtocolError):
        guest_address(b"12345")
    with pytest.raises(GuestProtocolError):
        guest_port(65536)


async def test_an_ipv4_address_inside_of_ipv6_is_the_former() -> None:
    async with server(echo) as port, guest(OPEN) as side:
        _, answer = await side.connect(f"::ffff:{HOST}", port)
        assert isinstance(answer, Ok) and side.gateway.log.all()[0].address == HOST


async def test_streams_that_say_nothing_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNDECIDED", 5)
    monkeypatch.setattr(module, "WORD_PATIENCE", 0.05)
    async with guest(OPEN, limits=NetworkLimits(connections=5)) as side:
        own = side.host.statistics()["streams"]
        for _ in range(30):
            number = side.channel._mux.open()
            side.channel.send(number, b"\x60")  # the first byte of a message
        await until(lambda: side.host.statistics()["streams"] > own)
        assert len(side.gateway._tasks) <= 10
        await until(lambda: side.host.statistics()["streams"] == own)
        assert side.host.error is None


async def test_a_thousand_connections_at_once() -> None:
    async with server(echo) as port, guest(OPEN) as side:
        pairs = await asyncio.gather(*(side.connect(HOST, port) for _ in range(1000)))
        assert all(isinstance(answer, Ok) for _, answer in pairs)

        async def one(number: int) -> None:
            stream = pairs[number][0]
            text = f"connection {number}".encode()
            await stream.write(text)
            stream.finish()
            got = b""
            while data := await stream.read():
                got += data
            assert got == text

        await asyncio.gather(*map(one, range(1000)))
        await until(lambda: set(verdicts(side)) == {"closed"})


async def test_a_connection_that_breaks_does_not_disturb_the_next() -> None:
    """The loop watches no descriptor of a closed socket, which the next connection may get."""
    broken = errors = 0

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        broken += 1
        await reader.read(1)
        writer.transport.abort()

    async with server(rude) as bad, server(echo) as good, guest(Network(allow=["host"])) as g:
        for _ in range(30):
            stream, answer = await g.connect(HOST, bad)
            assert isinstance(answer, Ok)
            await stream.write(b"x")
            stream.reset()
            other, answer = await g.connect(HOST, good)
            errors += not isinstance(answer, Ok)
            await other.write(b"hello")
            assert await other.read() == b"hello"
            other.finish()
    assert broken == 30 and not errors


async def test_peers_are_reached_by_their_names() -> None:
    asked: list[tuple[tuple[str, ...], int]] = []

    async def reach(names: Sequence[str], port: int) -> socket.socket:
        asked.append((tuple(names), port))
        if port == 1:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(b"hello")
        theirs.close()
        return ours

    network = Network(default="deny", peers={"db": ["db-1", "db-2"]})
    async with guest(network) as side:
        side.gateway.reach_peer = reach
        address = side.gateway._peers.address_of("db")
        assert address is not None
        stream, answer = await side.connect(str(address), 5432)
        assert isinstance(answer, Ok)
        assert await stream.read() == b"hello" and await stream.read() == b""
        stream.finish()
        _, answer = await side.connect(str(address), 1)
        assert isinstance(answer, Failed) and answer.errno == 111
        _, answer = await side.connect(str(address + 1), 5432)
        assert isinstance(answer, Failed) and answer.errno == 13
        assert asked == [(("db-1", "db-2"), 5432), (("db-1", "db-2"), 1)]
        await until(lambda: verdicts(side) == ["closed", "failed", "denied"])
        flow = side.gateway.log.all()[0]
        assert (flow.name, flow.rule, flow.received) == ("db", "peer db", 5)
        # What is no peer any more is not reached.
        side.gateway.update(network.with_peers({"api": "api"}))
        _, answer = await side.connect(str(address), 5432)
        assert isinstance(answer, Failed) and answer.errno == 13
