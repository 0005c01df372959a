"""The sockets of published ports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from sandlot.errors import ConfigError, SandboxDied
from sandlot.guest.channel import ChannelStream
from sandlot.network.policy import Network
from sandlot.network.ports import Ports
from sandlot.network.published import PublishedPort
from sandlot.network.router import ROUTER4
from sandlot.wire.messages import Failed, Message, Ok, encode
from sandlot.wire.network import Datagram, Dial
from tests.unit.network.harness import Guest, guest


def serve(side: Guest, answer: Message) -> Callable[[], None]:
    """Let the guest answer every dial with `answer`, and then say back what comes."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(stream: ChannelStream) -> None:
        assert isinstance(await stream.read_message(), Dial)
        stream.put(encode(answer))
        if not isinstance(answer, Ok):
            stream.finish()
            return
        data = stream.unread()
        while data or (data := await stream.read()):
            await stream.write(data.upper())
            data = b""
        stream.finish()

    side.channel.serve(lambda stream: tasks.add(asyncio.ensure_future(one(stream))))

    def stop() -> None:
        for task in tasks:
            task.cancel()

    return stop


async def ports_of(side: Guest, *wanted: PublishedPort) -> Ports:
    ports = Ports(wanted)

    async def channel() -> object:
        return side.host

    ports.channel = channel
    ports.datagrams = lambda: side.gateway.datagrams
    ports.open()
    ports.serve()
    return ports


async def test_a_connection_reaches_the_sandbox() -> None:
    async with guest(Network.deny_all()) as side:
        stop = serve(side, Ok())
        ports = await ports_of(side, PublishedPort(host_port=0, port=80))
        assert ports.bound[0].host_port > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.bound[0].host_port)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()
        ports.close()
        stop()


async def test_nobody_inside_is_a_reset() -> None:
    async with guest(Network.deny_all()) as side:
        serve(side, Failed(code="connect", errno=111))
        ports = await ports_of(side, PublishedPort(host_port=0, port=80))
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.bound[0].host_port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()

        async def dead() -> object:
            raise SandboxDied("it has ended")

        ports.channel = dead
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.bound[0].host_port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        ports.close()


async def test_datagrams_find_their_way_back() -> None:
    async with guest(Network.deny_all()) as side:
        ports = await ports_of(side, PublishedPort(host_port=0, port=53, protocol="udp"))
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        loop = asyncio.get_running_loop()
        for number, client in enumerate(clients):
            client.setblocking(False)
            client.connect(("127.0.0.1", ports.bound[0].host_port))
            client.send(b"from %d" % number)
        for _ in clients:
            message = await side.datagrams.read_message()
            assert isinstance(message, Datagram)
            assert message.port == 53 and message.remote == ROUTER4.packed
            side.datagrams.put(
                encode(
                    Datagram(
                        port=53, remote=message.remote, remote_port=message.remote_port,
                        data=message.data.upper(),
                    )
                )
            )  # fmt: skip
        for number, client in enumerate(clients):
            assert await loop.sock_recv(client, 100) == b"FROM %d" % number
            client.close()
        ports.close()


async def test_a_port_in_use_is_told_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        ports = Ports([PublishedPort(host_port=0, port=1), PublishedPort(host_port=number, port=2)])
        with pytest.raises(ConfigError, match=f"port {number} of 127.0.0.1 is in use"):
            ports.open()
        assert ports.bound == []
    with pytest.raises(ConfigError, match="cannot be opened"):
        Ports([PublishedPort(address="203.0.113.9", host_port=0, port=1)]).open()
