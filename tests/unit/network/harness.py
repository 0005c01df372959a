"""A gateway with a guest at the other end of a channel, and servers of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from sandlot.guest.channel import Channel, ChannelStream
from sandlot.network.flows import FlowLog
from sandlot.network.gateway import Gateway
from sandlot.network.policy import Network
from sandlot.network.resolver import Resolver
from sandlot.network.router import GUEST4, ROUTER4
from sandlot.wire.messages import Message
from sandlot.wire.network import Connect
from sandlot.wire.network import Network as Begin

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Guest:
    """The guest's end."""

    def __init__(self, gateway: Gateway, channel: Channel, host: Channel) -> None:
        self.gateway = gateway
        self.channel = channel
        self.host = host
        self.datagrams: ChannelStream

    async def connect(self, address: str, port: int) -> tuple[ChannelStream, Message | None]:
        """A program connects; the stream and the host's answer."""
        stream = self.channel.open(
            Connect(
                source=GUEST4.packed, source_port=40000, target=ip_address(address).packed,
                target_port=port,
            )
        )  # fmt: skip
        return stream, await stream.read_message()


@contextlib.asynccontextmanager
async def guest(
    network: Network, *, resolver: Resolver | None = None, **options: Any
) -> AsyncIterator[Guest]:
    """A gateway that serves a guest."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    path: Path | None = options.pop("path", None)
    log = FlowLog((lambda: path) if path is not None else None)
    gateway = Gateway(network, log, hostname="box", resolver=resolver, **options)
    opened: asyncio.Queue[ChannelStream] = asyncio.Queue()
    channel = Channel(client=False, accept=opened.put_nowait)
    host = await Channel.connected(ours)
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=theirs)
    gateway.attach(host)
    made = Guest(gateway, channel, host)
    made.datagrams = await opened.get()
    assert isinstance(await made.datagrams.read_message(), Begin)
    try:
        yield made
    finally:
        gateway.close()
        host.close()
        channel.close()
        await asyncio.gather(*gateway._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    handled: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handled.add(task)
        await handle(reader, writer)
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048)
    try:
        yield running.sockets[0].getsockname()[1]
        await asyncio.gather(*handled)
    finally:
        running.close()
        await running.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say back what comes, and end when the other side has."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


HOST = str(ROUTER4)
"""What stands for the host's loopback in the guest."""
