"""A name server of the tests' own, which answers whatever a test wants, also lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

Zone = Callable[[str, str], list[str]]
"""From a name and a type to records in text (`name ttl IN type data`)."""


class Names:
    """Who was asked for what, and where it listens."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        self.port = 0

    @property
    def server(self) -> str:
        """As `dns=` takes it."""
        return f"127.0.0.1:{self.port}"

    def answer(self, wire: bytes) -> bytes:
        """The answer to a question."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name.lower(), kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        for line in self.zone(name.lower(), kind):
            owner, ttl, _, rtype, data = line.split(None, 4)
            if owner == name.lower():
                owner = name  # in the letters of the question, which are looked at
            response.answer.append(dns.rrset.from_text(f"{owner}.", int(ttl), "IN", rtype, data))
        return response.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, names: Names) -> None:
        self._names = names

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: before Python 3.12 the transports of sockets were not of this class.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(self._names.answer(data), address)


@asynccontextmanager
async def name_server(zone: Zone) -> AsyncIterator[Names]:
    """It, over UDP and TCP, on a port of 127.0.0.1."""
    names = Names(zone)

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = names.answer(await reader.readexactly(size))
            writer.write(len(answer).to_bytes(2, "big") + answer)
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(stream, "127.0.0.1", 0)
    names.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(
        lambda: _Udp(names), local_addr=("127.0.0.1", names.port)
    )
    try:
        yield names
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()
