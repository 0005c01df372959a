"""Questions to the host's name servers. Sockets only: what is asked and answered is judged elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from sandlot.network.router import DNS_PORT

ROUND = 2.5  # seconds until the next server is asked
ROUNDS = 2
LARGEST = 65535


class NoAnswer(OSError):
    """No server answered."""


def host_servers(path: Path = Path("/etc/resolv.conf")) -> list[tuple[str, int]]:
    """The name servers that the host itself asks. Source: resolv.conf(5)."""
    servers = []
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                with contextlib.suppress(ValueError):
                    ip_address(words[1].partition("%")[0])
                    servers.append((words[1], DNS_PORT))
    return servers or [("127.0.0.1", DNS_PORT)]


def server(text: str) -> tuple[str, int]:
    """A name server from `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"\[(?P<six>[^]]+)\](:(?P<a>\d+))?|(?P<four>[\d.]+):(?P<b>\d+)", text)
    if found is None:
        return str(ip_address(text)), DNS_PORT
    port = int(found["a"] or found["b"] or DNS_PORT)
    if not 0 < port < 65536:
        raise ValueError(f"port {port}")
    return str(IPv6Address(found["six"]) if found["six"] else IPv4Address(found["four"])), port


class Resolver:
    """Asks name servers, given as (address, port), the first first; the host's own when None."""

    def __init__(self, servers: list[tuple[str, int]] | None = None) -> None:
        self._servers = servers

    async def ask(self, query: bytes, *, tcp: bool = False) -> AsyncGenerator[bytes, None]:
        """Send a query; yields what comes back until the caller has what it wants.

        Raises:
            NoAnswer: no server answered what was wanted.
        """
        servers = self._servers if self._servers is not None else host_servers()
        for _ in range(ROUNDS):
            for server in servers:
                source = _ask_tcp(server, query) if tcp else _ask_udp(server, query)
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with contextlib.aclosing(source) as answers:
                        async for answer in answers:
                            yield answer
        raise NoAnswer("no name server of the host answers")


async def _ask_udp(server: tuple[str, int], query: bytes) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ROUND
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # Connected: the kernel drops what others send. The port is another one for each question.
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, query)
        while True:
            async with asyncio.timeout_at(deadline):
                answer = await loop.sock_recv(sock, LARGEST)
            yield answer


async def _ask_tcp(server: tuple[str, int], query: bytes) -> AsyncGenerator[bytes, None]:
    async with asyncio.timeout(ROUND):
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = await reader.readexactly(size)
        finally:
            writer.close()
    yield answer
