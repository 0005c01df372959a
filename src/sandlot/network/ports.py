"""The sockets of published ports: each connection to one becomes a connection inside the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sandlot.errors import ConfigError, SandboxError
from sandlot.network.datagrams import IDLE, Datagrams
from sandlot.network.published import PublishedPort
from sandlot.network.relay import Counted, abort, relay
from sandlot.network.router import ROUTER4
from sandlot.wire.messages import Ok
from sandlot.wire.network import Dial

BACKLOG = 256
MOST_CLIENTS = 1024  # of one UDP port
FIRST_CLIENT_PORT = 20_000


class Ports:
    """The published ports of one sandbox, open from `open` to `close`.

    A connection that comes while the machine is not up waits for it; `session` gives the channel.
    """

    def __init__(self, wanted: Sequence[PublishedPort]) -> None:
        self._wanted = wanted
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.bound: list[PublishedPort] = []
        """What is open, with the ports that the system chose."""
        self.channel: Callable[[], Awaitable[Any]] | None = None
        self.datagrams: Callable[[], Datagrams | None] = lambda: None
        self._clients: dict[tuple[int, Any], tuple[int, float]] = {}
        self._client_ports = itertools.cycle(range(FIRST_CLIENT_PORT, 60_000))

    def open(self) -> None:
        """Open all of them.

        Raises:
            ConfigError: one is in use, or may not be used.
        """
        try:
            for each in self._wanted:
                sock = _bind(each)
                self._sockets.append(sock)
                self.bound.append(dataclasses.replace(each, host_port=sock.getsockname()[1]))
        except BaseException:
            self.close()
            raise

    def serve(self) -> None:
        """Begin to take connections."""
        for index, (sock, port) in enumerate(zip(self._sockets, self.bound, strict=True)):
            if port.protocol == "tcp":
                self._start(self._accept(sock, port.port))
            else:
                asyncio.get_running_loop().add_reader(
                    sock.fileno(), self._readable, index, sock, port.port
                )

    def close(self) -> None:
        """Close all of them, and what came through them."""
        for task in self._tasks:
            task.cancel()
        for sock in self._sockets:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        self.bound.clear()
        self._clients.clear()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- connections -----------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, port: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.1)  # out of descriptors: others end and give some back
                continue
            sock.setblocking(False)
            self._start(self._carry(sock, port))

    async def _carry(self, sock: socket.socket, port: int) -> None:
        try:
            assert self.channel is not None
            channel = await self.channel()
            stream = channel.open(Dial(port=port))
            answer = await stream.read_message()
        except (SandboxError, OSError):
            abort(sock)
            return
        except BaseException:
            sock.close()
            raise
        if not isinstance(answer, Ok):
            stream.reset()
            abort(sock)
            return
        with contextlib.suppress(SandboxError):
            await relay(stream, sock, Counted(), stream.unread())

    # -- datagrams -------------------------------------------------------------------------

    def _readable(self, index: int, sock: socket.socket, port: int) -> None:
        """Every client gets a port of the router's, so that answers find their way back."""
        try:
            data, client = sock.recvfrom(65536)
        except OSError:
            return
        datagrams = self.datagrams()
        if datagrams is None:
            return
        now = time.monotonic()
        known = self._clients.get((index, client))
        if known is None:
            if len(self._clients) >= MOST_CLIENTS:
                self._forget(datagrams, port, now)
            number = next(self._client_ports)
        else:
            number = known[0]
        self._clients[index, client] = (number, now)

        def answer(data: bytes) -> None:
            with contextlib.suppress(OSError):
                sock.sendto(data, client)

        datagrams.inbound[port, ROUTER4, number] = answer
        datagrams.send(port, ROUTER4, number, data)

    def _forget(self, datagrams: Datagrams, port: int, now: float) -> None:
        by_age = sorted(self._clients.items(), key=lambda item: item[1][1])
        old = [item for item in by_age if now - item[1][1] > IDLE] or by_age[:1]
        for key, (number, _) in old:
            del self._clients[key]
            datagrams.inbound.pop((port, ROUTER4, number), None)


def _bind(port: PublishedPort) -> socket.socket:
    family = socket.AF_INET6 if ":" in port.address else socket.AF_INET
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(family, kind)
    try:
        if port.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((port.address, port.host_port))
        if port.protocol == "tcp":
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        where = f"port {port.host_port} of {port.address}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where} is in use", hint="choose another, or 0 for any that is free"
            ) from None
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"{where} needs rights that you do not have", hint="use one above 1023"
            ) from None
        raise ConfigError(f"{where} cannot be opened: {error.strerror}") from None
    return sock
