"""What was tried from inside a sandbox and once led somewhere (docs/security/attempts.md)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import struct
from ipaddress import ip_address
from pathlib import Path

import dns.message
import hpack
import pytest

from sandlot.errors import GuestProtocolError, Refuse
from sandlot.guest.channel import Channel, ChannelStream
from sandlot.network import gateway as gateway_module
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Hooks
from sandlot.network.http import frames as h2
from sandlot.network.http.h1 import Http1Exchange
from sandlot.network.http.h2 import Http2Exchange
from sandlot.network.judge import Judge
from sandlot.network.limits import NetworkLimits
from sandlot.network.policy import Network
from sandlot.network.router import GUEST4, ROUTER4, host_addresses
from sandlot.network.tls.trust import Trust
from sandlot.network.upstream import dial, is_own
from sandlot.wire import frames
from sandlot.wire.messages import Failed, Ok, encode
from sandlot.wire.network import Connect, Datagram
from tests.unit.network.harness import HOST, Guest, echo, guest, server
from tests.unit.network.http.wire import Wire, place
from tests.unit.network.test_gateway import until
from tests.unit.network.test_interception import HOST as NAMED
from tests.unit.network.test_interception import VALUE, Make, request
from tests.unit.network.test_interception import world as world

OPEN = Network(allow=["host"])


def held(side: Guest) -> int:
    """Bytes of the guest that wait in the owner's memory."""
    streams = [each for each in side.host._streams.values() if isinstance(each, ChannelStream)]
    return sum(sum(map(len, stream._chunks)) for stream in streams)


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


# -- what is reached ---------------------------------------------------------------------------


@pytest.mark.parametrize("address", [f"::ffff:{ROUTER4}"])
async def test_the_router_in_disguise_is_the_host_and_no_machine_of_its_network(
    address: str,
) -> None:
    async with server(echo) as port, guest(OPEN) as side:
        stream, answer = await side.connect(address, port)
        assert isinstance(answer, Ok)  # it is loopback, and not 10.231.0.1 of the host's network
        await stream.write(b"x")
        assert await stream.read() == b"x"
        stream.finish()
        assert await stream.read() == b""


@pytest.mark.parametrize("address", [f"64:ff9b::{ROUTER4}", "2002:ae7:1::1", "64:ff9b::127.0.0.1"])
def test_host_opens_no_translation_of_its_addresses(address: str) -> None:
    policy = Network(allow=["host"]).compile(host_addresses())
    assert not policy.decide(Flow("tcp", ip_address(address), 80)).allowed


async def test_what_was_agreed_to_for_a_name_opens_no_refused_address() -> None:
    public, private, denied = map(ip_address, ("93.184.216.34", "10.0.0.5", "8.8.8.8"))
    hooks = Hooks(ask=lambda flow, decision: "always" if flow.address == public else "deny")
    rules = Network(allow=["10.0.0.5:5432"], deny=["8.8.8.8"])
    judge = Judge(rules, host_addresses(), lambda address: ("evil.example",), hooks)
    assert (await judge.judge("tcp", public, 80))[1].allowed
    assert (await judge.judge("tcp", public, 80))[1].allowed
    for address in (private, denied):
        assert not (await judge.judge("tcp", address, 80))[1].allowed
        assert not judge.still(Flow("tcp", address, 80, "evil.example")).allowed


async def test_a_policy_that_changes_while_a_hook_thinks() -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def on_connect(flow: Flow, decision: Decision) -> None:
        began.set()
        await go.wait()

    async with server(echo) as port, guest(OPEN, hooks=Hooks(on_connect=on_connect)) as side:
        asked = asyncio.ensure_future(side.connect(HOST, port))
        await began.wait()
        side.gateway.update(Network.deny_all())
        go.set()
        stream, answer = await asked
        stream.reset()
        assert isinstance(answer, Failed)


async def test_hooks_that_think_do_not_lift_the_limit_of_connections() -> None:
    async def on_connect(flow: Flow, decision: Decision) -> None:
        await asyncio.sleep(0.05)

    hooks, limits = Hooks(on_connect=on_connect), NetworkLimits(connections=2)
    async with server(echo) as port, guest(OPEN, hooks=hooks, limits=limits) as side:
        pairs = await asyncio.gather(*(side.connect(HOST, port) for _ in range(10)))
        assert sum(isinstance(answer, Ok) for _, answer in pairs) == 2
        for stream, _ in pairs:
            stream.reset()


async def test_addresses_that_the_host_got_later_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = ip_address("2600:1f00::1234")
    async with guest(Network.public()) as side:
        assert side.gateway.judge.look("tcp", later, 22)[1].allowed
        monkeypatch.setattr(gateway_module, "is_own", lambda address: address == later)
        _, answer = await side.connect(str(later), 22)
        assert isinstance(answer, Failed)
        assert side.gateway.log.all()[0].rule == "built-in host"


def test_an_address_of_the_host_is_known_by_where_it_is_spoken_to_from() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("93.184.216.34"))
    assert not is_own(ip_address("2600:1f00::1234"))


# -- memory, descriptors and time of the owner ------------------------------------------------


async def test_a_burst_of_datagrams_leaves_no_sockets_behind() -> None:
    limits = NetworkLimits(connections=16)
    async with guest(OPEN, limits=limits) as side:
        before = descriptors()
        message = [
            encode(Datagram(port=n, remote=ROUTER4.packed, remote_port=9, data=b"x"))
            for n in range(1000, 1400)
        ]
        await side.datagrams.write(b"".join(message))
        await asyncio.sleep(0.5)
        assert descriptors() - before <= 16
        side.gateway.update(Network.deny_all())
        await asyncio.sleep(0.1)
        assert not [flow for flow in side.gateway.log.all() if flow.verdict == "open"]
        assert descriptors() <= before


async def test_what_is_sent_after_a_refusal_is_not_kept() -> None:
    async with guest(Network.deny_all()) as side:
        for _ in range(20):
            stream, answer = await side.connect("93.184.216.34", 80)
            assert isinstance(answer, Failed)
            await stream.write(b"x" * 200_000)
        await asyncio.sleep(0.2)
        assert held(side) < 1_000_000


@pytest.mark.parametrize(("address", "port"), [("93.184.216.34", 80), (HOST, 53)])
async def test_a_guest_that_gives_up_writes_nothing_into_the_log_of_its_owner(
    address: str, port: int
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    query = dns.message.make_query("a.example.com", "A").to_wire()
    async with guest(Network.deny_all()) as side:
        for _ in range(50):
            stream = side.channel.open(
                Connect(source=GUEST4.packed, target=ip_address(address).packed, target_port=port)
            )
            stream.put((struct.pack("!H", len(query)) + query) * 3)
            stream.reset()
        await asyncio.sleep(0.2)
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_connections_to_the_name_server_are_counted() -> None:
    query = dns.message.make_query("a.example.com", "A").to_wire()
    limits = NetworkLimits(connections=4)
    async with guest(Network.deny_all(), limits=limits) as side:
        answers = [(await side.connect(HOST, 53)) for _ in range(10)]
        assert sum(isinstance(answer, Ok) for _, answer in answers) == 4
        stream = answers[0][0]
        await stream.write(struct.pack("!H", len(query)) + query)
        assert await stream.read()


async def test_a_guest_that_asks_for_pongs_and_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    channel = await Channel.connected(ours)
    pings = frames.HEADER.pack(0, frames.Type.PING, frames.Flag.SYN, 0, 7) * 5000
    loop = asyncio.get_running_loop()
    try:
        for _ in range(400):
            if channel.error is not None:
                break
            await loop.sock_sendall(theirs, pings)
            await asyncio.sleep(0)
            assert channel._transport is not None
            assert channel._transport.get_write_buffer_size() < 20 << 20
        assert isinstance(channel.error, GuestProtocolError)
    except ConnectionError:
        assert isinstance(channel.error, GuestProtocolError)
    finally:
        theirs.close()
        channel.close()


async def test_freeing_nothing_of_the_window_is_a_breach() -> None:
    channel = Channel(memoryview(bytearray(1 << 20)))
    channel.data_received(frames.HEADER.pack(0, frames.Type.SHARED_FREE, 0, 0, 0))
    assert isinstance(channel.error, GuestProtocolError)


def test_pings_between_data_of_a_guest_that_takes_nothing() -> None:
    wire = Wire(Http2Exchange(place()))
    exchange = wire.exchange
    wire.answer(h2.settings({h2.Setting.INITIAL_WINDOW_SIZE: 1 << 30}))
    wire.answer(h2.window_update(0, 1 << 30))
    block = hpack.Encoder().encode(
        [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")]
    )
    wire.send(h2.PREFACE + h2.settings({}) + h2.header_block(1, block, end_stream=False))
    ping = h2.frame(h2.Type.PING, 0, 0, b"12345678")
    burst = ping * 3800 + h2.frame(h2.Type.DATA, 0, 1, b"x")
    for _ in range(400):  # nobody takes what is for the guest
        if not exchange.wants_guest:
            return
        exchange.receive_guest(burst)
        exchange.take_upstream()
    raise AssertionError("what waits for the guest has no bound")


# -- secrets ------------------------------------------------------------------------------------


async def test_a_value_waits_for_the_hook_also_when_the_upstream_speaks(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def on_secret_use(flow: object, use: object) -> None:
        asked.set()
        await asyncio.sleep(0.5)
        raise Refuse("no key today")

    async with world(hooks=Hooks(on_secret_use=on_secret_use)) as w:

        async def speaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asked.wait()
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            w.server.got = await reader.read(65536)
            writer.close()

        context = w.server.authority.server_context(NAMED, ["http/1.1"])
        running = await asyncio.start_server(speaks, "127.0.0.1", 0, ssl=context)
        number = running.sockets[0].getsockname()[1]

        async def there(address: object, port: int) -> socket.socket:
            return await dial(ip_address("127.0.0.1"), number)

        monkeypatch.setattr(gateway_module, "dial", there)
        assert VALUE.encode() not in await w.tls(NAMED, request(NAMED, w.mark))
        flow = await w.ended()
        assert (flow.verdict, flow.reason) == ("denied", "no key today")
        await asyncio.sleep(0.2)
        assert w.server.got == b""
        running.close()
        await running.wait_closed()


def test_a_common_name_is_no_name_of_a_host() -> None:
    assert not Trust().context("a.example", 443, []).hostname_checks_common_name


@pytest.mark.parametrize("field", [b"Range: bytes=0-5", b"If-Range: x", b"A-IM: feed"])
def test_a_masked_answer_is_not_asked_for_in_pieces(field: bytes) -> None:
    wire = Wire(Http1Exchange(place(mask_echo=True)))
    sent = wire.send(b"GET /echo HTTP/1.1\r\nHost: a.example\r\n" + field + b"\r\n\r\n")
    assert field not in sent and sent.endswith(b"\r\n\r\n")


async def test_a_name_with_terminal_codes_is_shown_without_them() -> None:
    async with guest(Network.deny_all()) as side:
        label = b"\x1b]0;owned\x07\n"
        query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + bytes([len(label)]) + label
        query += b"\0\0\x01\0\x01"
        message = Datagram(port=5, remote=ROUTER4.packed, remote_port=53, data=query)
        await side.datagrams.write(encode(message))
        await until(lambda: side.gateway.log.all())
        (flow,) = side.gateway.log.all()
        assert flow.name is not None and flow.name.isprintable()
        assert flow.reason.isprintable() and flow.hint.isprintable()


# -- names under which an address is reached ----------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\r\nGET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
        "get / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: evil.example.com\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
        f"GET /{'a' * 8300} HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: evil.example.com\r\n\r\n",
    ],
)
async def test_odd_requests_without_tls_are_judged_by_their_host_too(
    world: Make, text: str
) -> None:
    async with world(tls=False) as w:
        stream = await w.connect(80)
        await stream.write(text.encode())
        await asyncio.wait_for(stream.read(), 5)
        assert b"evil" not in w.server.got


async def test_the_last_descriptors_are_not_the_guest_s() -> None:
    """The owner needs some to be asked to stop it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The kernel answers for a server that takes nothing, which so needs no descriptors here.
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        port = listener.getsockname()[1]
        async with guest(OPEN) as side:
            highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
            taken = [os.dup(0)]
            while taken[-1] <= highest:  # the kernel gives the lowest that is free
                taken.append(os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 80, hard))
            try:
                pairs = [await side.connect(HOST, port) for _ in range(100)]
                with contextlib.ExitStack() as stack:
                    for _ in range(40):  # what the owner wants to open
                        stack.enter_context(socket.socket())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for each in taken:
                    os.close(each)
            assert 0 < sum(isinstance(answer, Ok) for _, answer in pairs) < 100
            assert "Too many open files" in side.gateway.log.all()[-1].reason
            for stream, _ in pairs:
                stream.reset()


async def test_misuse_in_plain_http_is_refused_whatever_the_policy_goes_by(world: Make) -> None:
    async with world(tls=False, on_misuse="refuse") as w:
        w.side.gateway.update(Network.public())
        stream = await w.connect(80)
        await stream.write(request(NAMED, w.mark).encode())
        assert (await stream.read()).startswith(b"HTTP/1.1 403 ")
        assert w.server.got == b""
