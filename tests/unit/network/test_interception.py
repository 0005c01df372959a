"""Connections that are looked into, between a guest and servers of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from sandlot.errors import Refuse
from sandlot.guest.channel import ChannelStream
from sandlot.network import gateway as module
from sandlot.network.flows import FlowRecord
from sandlot.network.hooks import Hooks
from sandlot.network.inspected import Inspected
from sandlot.network.interception import Interceptor
from sandlot.network.policy import Network
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.session import TlsClient, TlsFailed
from sandlot.network.tls.trust import Trust
from sandlot.network.upstream import dial as real_dial
from sandlot.secrets import Secret, Vault
from sandlot.wire.messages import Ok
from tests.unit.network.harness import Guest, guest
from tests.unit.network.test_gateway import until
from tests.unit.network.test_nameserver import ask, upstream
from tests.unit.network.tls.test_authority import client_context
from tests.unit.network.tls.test_hello import extension, hello, record, server_name

HOST, OTHER, ADDRESS = "api.example.com", "other.example.com", "93.184.216.34"
VALUE = "sk-the-value-that-stays-here-0123456789"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """A server of the internet, for every name. `got` is what it was sent, after TLS."""

    authority: Authority = field(default_factory=lambda: Authority("internet"))
    got: bytes = b""
    name: str = HOST

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                self.got += data
                if self.got.endswith(b"\r\n\r\n"):
                    writer.write(ANSWER)
                    await writer.drain()
        writer.close()


@dataclass
class World:
    side: Guest
    server: Server
    vault: Vault
    authority: Authority

    @property
    def mark(self) -> str:
        return self.vault.environment()["KEY"]

    async def connect(self, port: int = 443) -> ChannelStream:
        stream, answer = await self.side.connect(ADDRESS, port)
        assert isinstance(answer, Ok)
        return stream

    async def tls(self, name: str, text: str, *, authority: Authority | None = None) -> bytes:
        """Say something over TLS as a program of the guest; what it is answered."""
        return await self.over(await self.connect(), name, text, authority=authority)

    async def over(
        self, stream: ChannelStream, name: str, text: str, *, authority: Authority | None = None
    ) -> bytes:
        """The same on a connection that stands."""
        client = TlsClient(client_context(authority or self.authority), name)
        client.write(text.encode())
        heard = b""
        while True:
            if out := client.take():
                await stream.write(out)
            data = await stream.read()
            if not data:
                return heard
            heard += b"".join(client.receive(data))
            if heard.endswith(b"ok"):
                stream.finish()
                return heard

    async def ended(self) -> FlowRecord:
        def last() -> FlowRecord:
            return [f for f in self.side.gateway.log.all() if f.protocol == "tcp"][-1]

        await until(lambda: last().verdict != "open")
        return last()


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., contextlib.AbstractAsyncContextManager[World]]:
    @contextlib.asynccontextmanager
    async def make(
        *,
        tls: bool = True,
        trusted: bool = True,
        hooks: Hooks | None = None,
        hidden_names: bool = False,
        inspected: Sequence[str] = (),
        name: str = HOST,
        **options: object,
    ) -> AsyncIterator[World]:
        server = Server(name=name)
        context = server.authority.server_context(server.name, ["http/1.1"]) if tls else None
        running = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
        port = running.sockets[0].getsockname()[1]

        async def dial(address: object, number: int) -> object:
            return await real_dial(ip_address("127.0.0.1"), port)

        monkeypatch.setattr(module, "dial", dial)
        bundle = tmp_path / "ca.pem"
        bundle.write_bytes((server.authority if trusted else Authority("x")).certificate_pem)
        secret = Secret(VALUE, hosts=HOST, **options)  # type: ignore[arg-type]
        vault = await Vault.fresh({"KEY": secret})
        authority = Authority("box")
        hooks = hooks or Hooks()
        inside = Interceptor(
            vault,
            authority,
            Trust(extra_ca=bundle, gets_secrets=vault.concerns),
            hooks,
            Inspected(inspected),
        )
        network = Network(allow=[HOST, OTHER], hidden_names=hidden_names)
        async with (
            upstream(ADDRESS) as (_, resolver),
            guest(network, resolver=resolver, interceptor=inside, hooks=hooks) as side,
        ):
            await ask(side, HOST)
            yield World(side, server, vault, authority)
        running.close()
        await running.wait_closed()

    return make


Make = Callable[..., contextlib.AbstractAsyncContextManager[World]]


def request(host: str, mark: str) -> str:
    return f"GET /{mark} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {mark}\r\n\r\n"


async def test_the_named_host_gets_the_value_where_it_belongs(world: Make) -> None:
    async with world() as w:
        assert await w.tls(HOST, request(HOST, w.mark)) == ANSWER
        expected = request(HOST, w.mark).replace(f"Bearer {w.mark}", f"Bearer {VALUE}")
        assert w.server.got == expected.encode()
        flow = await w.ended()
        assert (flow.verdict, flow.name, flow.secrets, flow.misused) == (
            "closed", HOST, ["KEY"], ["KEY"],
        )  # fmt: skip
        assert flow.tls.startswith("TLSv1.") and VALUE not in str(flow.to_json())


async def test_an_upstream_that_is_not_verified_gets_nothing(world: Make) -> None:
    async with world(trusted=False) as w:
        stream = await w.connect()
        client = TlsClient(client_context(w.authority), HOST)
        await stream.write(client.take())
        assert await stream.read() == b"" and stream.was_reset
        flow = await w.ended()
        assert flow.verdict == "failed" and "certificate" in flow.reason
        assert w.server.got == b""


async def test_another_host_is_relayed_untouched(world: Make) -> None:
    async with world() as w:
        w.server.name = OTHER
        await ask(w.side, OTHER)
        # Its certificate is the server's own, not one of the sandbox's authority.
        with pytest.raises(TlsFailed):
            await w.tls(OTHER, "x", authority=w.authority)
        assert VALUE.encode() not in w.server.got


async def test_a_host_that_is_looked_into_without_a_secret_has_to_be_the_one_that_is_asked_for(
    world: Make,
) -> None:
    """Another Host inside of TLS would be another site of the same server."""
    async with world(inspected=[OTHER], name=OTHER) as w:
        await ask(w.side, OTHER)
        assert await w.tls(OTHER, request(OTHER, w.mark)) == ANSWER
        assert VALUE.encode() not in w.server.got and w.mark.encode() in w.server.got
        flow = await w.ended()
        assert [each["status"] for each in flow.requests] == [200] and flow.misused == ["KEY"]
        before = w.server.got
        stream = await w.connect()
        said = await w.over(stream, OTHER, request("evil.example.com", w.mark))
        assert said.startswith(b"HTTP/1.1 421 ") and w.server.got == before


async def test_a_name_that_was_not_looked_up_is_refused(world: Make) -> None:
    async with world() as w:
        stream = await w.connect()
        client = TlsClient(client_context(w.authority), "elsewhere.example.com")
        await stream.write(client.take())
        assert await stream.read() == b"" and stream.was_reset
        flow = await w.ended()
        assert flow.verdict == "denied" and "elsewhere.example.com" in flow.reason
        assert w.server.got == b""


ENCRYPTED = record(hello(server_name(OTHER.encode()), extension(0xFE0D, b"\0whatever")))


async def test_an_encrypted_hello_under_a_rule_on_a_name_is_refused(world: Make) -> None:
    """The server at the address may be asked for any name by it; browsers only pretend to."""
    async with world() as w:
        await ask(w.side, OTHER)
        stream = await w.connect()
        await stream.write(ENCRYPTED)
        assert await stream.read() == b"" and stream.was_reset
        flow = await w.ended()
        assert flow.verdict == "denied" and "ECH" in flow.reason and "hidden names" in flow.hint
        assert flow.sent == 0


async def test_an_encrypted_hello_passes_where_the_policy_lets_hidden_names_pass(
    world: Make,
) -> None:
    async with world(hidden_names=True, tls=False) as w:
        await ask(w.side, OTHER)
        stream = await w.connect()
        await stream.write(ENCRYPTED)
        await until(lambda: w.server.got == ENCRYPTED)
        stream.finish()
        assert await stream.read() == b""
        assert (await w.ended()).verdict == "closed"


async def test_a_host_that_is_looked_into_is_asked_by_the_name_that_everybody_sees(
    world: Make,
) -> None:
    async with world() as w:
        stream = await w.connect()
        await stream.write(ENCRYPTED.replace(OTHER.encode(), HOST.encode().rjust(len(OTHER), b"x")))
        assert await stream.read() == b"" and stream.was_reset  # of another length, so another name
        assert (await w.ended()).verdict == "denied"
        stream = await w.connect()
        await stream.write(
            record(hello(server_name(HOST.encode()), extension(0xFE0D, b"\0whatever")))
        )
        assert (await stream.read()).startswith(b"\x15\x03")  # the gateway's alert: no shared group
        stream.finish()
        assert "the guest's TLS" in (await w.ended()).reason


async def test_a_hello_that_is_wrong_is_refused(world: Make) -> None:
    async with world() as w:
        stream = await w.connect()
        await stream.write(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
        assert await stream.read() == b"" and stream.was_reset
        assert (await w.ended()).verdict == "denied"


async def test_plain_http_gets_no_value_and_has_to_ask_for_its_host(world: Make) -> None:
    async with world(tls=False) as w:
        stream = await w.connect(80)
        await stream.write(request(HOST, w.mark).encode())
        assert (await stream.read()).startswith(b"HTTP/1.1 200")
        assert w.server.got == request(HOST, w.mark).encode()
        # The next request of the connection asks for another one.
        await stream.write(request("evil.example.com", w.mark).encode())
        answer = b""
        while data := await stream.read():
            answer += data
        assert answer.split(b" ")[1].startswith(b"4") and b"evil" not in w.server.got
        stream = await w.connect(80)
        await stream.write(request("evil.example.com", "x").encode())
        assert await stream.read() == b"" and stream.was_reset
        assert (await w.ended()).verdict == "denied"


async def test_plain_http_when_the_secret_says_so(world: Make) -> None:
    async with world(tls=False, plain_http=True) as w:
        stream = await w.connect(80)
        await stream.write(request(HOST, w.mark).encode())
        assert (await stream.read()).startswith(b"HTTP/1.1 200")
        assert f"Bearer {VALUE}".encode() in w.server.got


async def test_hooks_see_requests_and_uses_and_may_refuse(world: Make) -> None:
    seen: list[str] = []

    def on_http_request(flow: object, head: object) -> None:
        seen.append(head.target)  # type: ignore[attr-defined]
        if "forbidden" in head.target:  # type: ignore[attr-defined]
            raise Refuse("not that one")

    async def on_secret_use(flow: object, use: object) -> None:
        if use.replaced:  # type: ignore[attr-defined]
            raise Refuse("no key today")

    async with world(hooks=Hooks(on_http_request=on_http_request)) as w:
        text = f"GET /forbidden HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
        answer = await w.tls(HOST, text)
        assert answer.startswith(b"HTTP/1.1 403") and w.server.got == b"" and seen == ["/forbidden"]
    async with world(hooks=Hooks(on_secret_use=on_secret_use)) as w:
        assert await w.tls(HOST, request(HOST, w.mark)) == b""
        flow = await w.ended()
        assert (flow.verdict, flow.reason) == ("denied", "no key today")
        assert w.server.got == b""


async def test_nothing_goes_on_while_a_hook_is_asked(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def on_secret_use(flow: object, use: object) -> None:
        asked.set()
        await answer.wait()
        raise Refuse("no key today")

    async def early(
        self: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asked.wait()
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            self.got = await reader.read(65536)
        writer.close()

    monkeypatch.setattr(Server, "serve", early)
    async with world(hooks=Hooks(on_secret_use=on_secret_use)) as w:
        asking = asyncio.ensure_future(w.tls(HOST, request(HOST, w.mark)))
        await asked.wait()
        await until(lambda: any(flow.received for flow in w.side.gateway.log.all()))
        await asyncio.sleep(0.05)  # long enough for what must not happen
        answer.set()
        await asking
        assert (await w.ended()).reason == "no key today" and w.server.got == b""


async def test_a_server_that_speaks_first_is_relayed(
    world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tls=False) as w:

        async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hello\r\n")
            w.server.got = await reader.read(100)
            writer.close()

        w.server.serve = first  # type: ignore[method-assign]
        running = await asyncio.start_server(first, "127.0.0.1", 0)
        number = running.sockets[0].getsockname()[1]

        async def there(address: object, port: int) -> object:
            return await real_dial(ip_address("127.0.0.1"), number)

        monkeypatch.setattr(module, "dial", there)
        stream = await w.connect(25)
        assert await stream.read() == b"220 hello\r\n"
        await stream.write(b"HELO\r\n")
        stream.finish()
        assert await stream.read() == b""
        assert w.server.got == b"HELO\r\n"
        running.close()
        await running.wait_closed()
