from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.framework.fake_registry import FakeRegistry
from tests.framework.registry import make_authority

from sandlot.errors import CertificateRefused, ConnectionFailed, RegistryError
from sandlot.image.registry import transport as transport_module
from sandlot.image.registry.transport import Origin, Transport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with Transport(lambda host: ssl.create_default_context()) as made:
        yield made


def test_origins() -> None:
    assert Origin.of("https://a.example/x") == Origin("https", "a.example", 443)
    assert Origin.of("http://[::1]:5000/x").netloc == "[::1]:5000"
    assert Origin.of("http://a.example:80").netloc == "a.example"
    for wrong in ("", "a.example", "ftp://a.example", "http://", "http://a:b", "http://a:99999999"):
        with pytest.raises(ValueError, match=r".+"):
            Origin.of(wrong)


@pytest.mark.parametrize(
    "url", ["nonsense", "http://127.0.0.1:1/a b", "http://127.0.0.1:1/\r\nX: y"]
)
async def test_addresses_that_are_malformed(transport: Transport, url: str) -> None:
    with pytest.raises(RegistryError):
        await transport.send("GET", url, {})


async def test_tls(tmp_path: Path) -> None:
    authority, certificate, key = make_authority(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    async with FakeRegistry(context=server) as fake:
        url = f"https://{fake.host}/v2/"
        async with Transport(lambda host: ssl.create_default_context()) as strangers:
            with pytest.raises(CertificateRefused, match="not trusted") as caught:
                await strangers.send("GET", url, {})
            assert "SANDLOT_REGISTRY_CA" in caught.value.hint
        known = ssl.create_default_context(cafile=str(authority))
        async with Transport(lambda host: known) as friends:
            for _ in range(2):
                answer = await friends.send("GET", url, {})
                assert await answer.read(10) == b"{}"


async def test_a_server_without_tls(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "CONNECT_SECONDS", 0.5)
    async with FakeRegistry() as fake:
        with pytest.raises(ConnectionFailed) as caught:
            await transport.send("GET", f"https://{fake.host}/v2/", {})
        assert caught.value.tls


class Proxy:
    """A proxy that connects everything to one place."""

    def __init__(self, target: str, status: int = 200) -> None:
        self.target = target
        self.status = status
        self.heads: list[bytes] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        host, _, port = self.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 %d Whatever\r\nVia: x\r\n\r\n" % self.status)
        else:
            far_writer.write(head)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()

        try:
            if self.status == 200:
                _, pending = await asyncio.wait(
                    [
                        asyncio.ensure_future(copy(reader, far_writer)),
                        asyncio.ensure_future(copy(far_reader, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in pending:
                    task.cancel()
        finally:
            far_writer.close()
            writer.close()


async def test_a_proxy_for_plain_http(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with FakeRegistry() as fake, Proxy(fake.host).running() as address:
        monkeypatch.setenv("http_proxy", f"http://me:a%40b@{address}")
        fake.challenge = ""
        answer = await transport.send("GET", "http://registry.invalid/v2/", {})
        await answer.read(1 << 16)
        assert fake.asked[0].target == "http://registry.invalid/v2/"
        sent = fake.asked[0].headers["proxy-authorization"]
        assert base64.b64decode(sent.removeprefix("Basic ")) == b"me:a@b"
        transport.close()


async def test_a_proxy_for_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    authority, certificate, key = make_authority(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    known = ssl.create_default_context(cafile=str(authority))
    known.check_hostname = False
    async with FakeRegistry(context=server) as fake:
        proxy = Proxy(fake.host)
        async with proxy.running() as address, Transport(lambda host: known) as transport:
            monkeypatch.setenv("https_proxy", address)
            answer = await transport.send("GET", "https://registry.invalid/v2/", {})
            assert await answer.read(10) == b"{}"
            assert proxy.heads[0].startswith(b"CONNECT registry.invalid:443 HTTP/1.1\r\n")
        refusing = Proxy(fake.host, status=407)
        async with refusing.running() as address, Transport(lambda host: known) as transport:
            monkeypatch.setenv("https_proxy", address)
            with pytest.raises(ConnectionFailed, match="407"):
                await transport.send("GET", "https://registry.invalid/v2/", {})


async def test_loopback_needs_no_proxy(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with FakeRegistry() as fake:
        answer = await transport.send("GET", f"http://{fake.host}/v2/", {})
        assert await answer.read(10) == b"{}"


async def test_a_proxy_that_is_malformed(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:9")
    with pytest.raises(RegistryError, match="proxy in HTTPS_PROXY"):
        await transport.send("GET", "https://registry.invalid/", {})


async def test_nothing_is_left_open() -> None:
    from tests.framework.leaks import open_sockets

    before = open_sockets()
    made = Transport(lambda host: ssl.create_default_context())
    async with FakeRegistry() as fake, made as transport:
        url = f"http://{fake.host}/v2/"
        answers = [await transport.send("GET", url, {}) for _ in range(12)]
        for answer in answers[:11]:
            await answer.read(10)
        answers[11].close()
    async with asyncio.timeout(30):
        while open_sockets() > before:
            await asyncio.sleep(0.01)
