"""The host's name servers."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sandlot.network import resolver
from sandlot.network.resolver import NoAnswer, Resolver, host_servers


def test_servers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 192.0.2.1\nsearch a\nnameserver fe80::1%eth0\nnameserver x\n")
    assert host_servers(path) == [("192.0.2.1", 53), ("fe80::1%eth0", 53)]
    assert host_servers(tmp_path / "none") == [("127.0.0.1", 53)]


async def test_the_next_server_is_asked_and_streams_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "ROUND", 0.3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = await reader.readexactly(size)
        writer.write((size + 1).to_bytes(2, "big") + query + b"!")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    good = server.sockets[0].getsockname()
    asked = Resolver([("127.0.0.1", 1), good])
    async with contextlib.aclosing(asked.ask(b"query", tcp=True)) as answers:
        assert await anext(answers) == b"query!"
    server.close()
    await server.wait_closed()
    with pytest.raises(NoAnswer):
        async with contextlib.aclosing(asked.ask(b"query", tcp=True)) as answers:
            await anext(answers)
    with pytest.raises(NoAnswer):
        async with contextlib.aclosing(Resolver([("127.0.0.1", 1)]).ask(b"query")) as answers:
            await anext(answers)
