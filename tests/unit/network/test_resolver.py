"""The host's name servers."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sandlot.network import resolver
from sandlot.network.resolver import NoAnswer, Resolver, host_servers, server


def test_servers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 192.0.2.1\nsearch a\nnameserver fe80::1%eth0\nnameserver x\n")
    assert host_servers(path) == [("192.0.2.1", 53), ("fe80::1%eth0", 53)]
    assert host_servers(tmp_path / "none") == [("127.0.0.1", 53)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:DB8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_a_server_as_text(text: str, meant: tuple[str, int]) -> None:
    assert server(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", "dns.example.com", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "[192.0.2.1]:53"],
)
def test_what_is_no_server(text: str) -> None:
    with pytest.raises(ValueError):
        server(text)


async def test_the_next_server_is_asked_and_streams_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "ROUND", 0.3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = await reader.readexactly(size)
        writer.write((size + 1).to_bytes(2, "big") + query + b"!")
        writer.close()

    running = await asyncio.start_server(answer, "127.0.0.1", 0)
    good = running.sockets[0].getsockname()
    asked = Resolver([("127.0.0.1", 1), good])
    async with contextlib.aclosing(asked.ask(b"query", tcp=True)) as answers:
        assert await anext(answers) == b"query!"
    running.close()
    await running.wait_closed()
    with pytest.raises(NoAnswer):
        async with contextlib.aclosing(asked.ask(b"query", tcp=True)) as answers:
            await anext(answers)
    with pytest.raises(NoAnswer):
        async with contextlib.aclosing(Resolver([("127.0.0.1", 1)]).ask(b"query")) as answers:
            await anext(answers)
