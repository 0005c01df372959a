"""A server that is to be given a secret, and the search for its value in a machine's memory."""

from __future__ import annotations

import asyncio
import contextlib
import secrets as random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot.network.tls.authority import Authority

HOST = "host.sandlot.internal"


class Upstream:
    """A server that says whether it got the value; it never says the value."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.authority = Authority("internet")
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            said = b"value" if f"Bearer {self.value}\r\n".encode() in head else b"nothing"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            await writer.drain()
        writer.close()


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[tuple[Upstream, int, int, str]]:
    """It, two ports of it, and the file of its authority."""
    made = Upstream(f"sk-{random.token_hex(20)}")
    context = made.authority.server_context(HOST, ["http/1.1"])
    servers = [await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context) for _ in "12"]
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(made.authority.certificate_pem)
    one, two = (server.sockets[0].getsockname()[1] for server in servers)
    try:
        yield made, one, two, str(bundle)
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


def machine_memory(pid: int, value: bytes) -> bool:
    """Whether a value is anywhere in a process's memory."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, mode = line.split()[:2]
            if "r" not in mode or "[v" in line:
                continue
            start, end = (int(part, 16) for part in where.split("-"))
            tail = b""
            for at in range(start, end, 1 << 24):
                try:
                    memory.seek(at)
                    data = memory.read(min(1 << 24, end - at))
                except OSError:
                    break
                if value in tail + data:
                    return True
                tail = data[-64:]
    return False
