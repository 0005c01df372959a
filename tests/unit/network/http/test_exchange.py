"""The whole way of a connection without its sockets: TLS, HTTP, a secret, TLS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from sandlot.errors import LocalProtocolError
from sandlot.network.http.events import Exchange, RequestHead
from sandlot.network.http.exchange import make_exchange
from sandlot.network.tls.authority import Authority
from sandlot.network.tls.session import TlsClient, TlsFailed, TlsServer
from sandlot.network.tls.trust import Trust
from sandlot.secrets import Secret, Vault
from tests.unit.network.tls.test_authority import client_context

HOST = "api.example.com"
VALUE = "sk-the-real-value-of-this-test"


class Way:
    """A guest, the gateway, and an upstream that chooses among `speaks`."""

    def __init__(self, vault: Vault, bundle: Path, upstream: Authority, speaks: list[str]) -> None:
        trust = Trust(extra_ca=bundle, gets_secrets=vault.concerns)
        self.far = TlsClient(trust.context(HOST, 443, ["h2", "http/1.1"]), HOST)
        self.server = TlsServer(upstream.server_context(HOST, speaks))
        self.shake(self.far, self.server)
        assert self.far.verified
        chosen = self.far.protocol
        authority = Authority("box")
        self.near = TlsServer(authority.server_context(HOST, [chosen] if chosen else []))
        self.guest = TlsClient(client_context(authority), HOST)
        self.shake(self.guest, self.near)
        self.exchange: Exchange = make_exchange(
            chosen, vault.substitution(HOST, 443), verified=self.far.verified
        )

    @staticmethod
    def shake(client: TlsClient, server: TlsServer) -> None:
        for _ in range(3):
            server.receive(client.take())
            client.receive(server.take())

    def send(self, data: bytes) -> bytes:
        """The guest says this; what the upstream hears."""
        self.guest.write(data)
        for plain in self.near.receiving(self.guest.take()):
            for event in self.exchange.receive_guest(plain):
                if isinstance(event, RequestHead):
                    self.exchange.proceed(event.id)
        self.carry()
        return b"".join(self.server.receive(self.far.take()))

    def answer(self, data: bytes) -> bytes:
        """The upstream says this; what the guest hears."""
        self.server.write(data)
        for plain in self.far.receiving(self.server.take()):
            self.exchange.receive_upstream(plain)
        self.carry()
        return b"".join(self.guest.receive(self.near.take()))

    def carry(self) -> None:
        self.near.write_all(self.exchange.take_guest())
        self.far.write_all(self.exchange.take_upstream())


@pytest.fixture
def upstream() -> Authority:
    return Authority("upstream")


@pytest.fixture
def bundle(tmp_path: Path, upstream: Authority) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(upstream.certificate_pem)
    return path


async def test_http_1_1(upstream: Authority, bundle: Path) -> None:
    vault = await Vault.fresh({"KEY": Secret(VALUE, hosts=HOST)})
    mark = vault.environment()["KEY"]
    way = Way(vault, bundle, upstream, ["http/1.1"])
    ask = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {mark}\r\n\r\n"
    assert way.guest.protocol == "http/1.1"
    assert way.send(ask.encode()) == ask.replace(mark, VALUE).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert way.answer(answer) == answer


async def test_http_2(upstream: Authority, bundle: Path) -> None:
    vault = await Vault.fresh({"KEY": Secret(VALUE, hosts=HOST)})
    mark = vault.environment()["KEY"]
    way = Way(vault, bundle, upstream, ["h2", "http/1.1"])
    assert way.guest.protocol == "h2"
    client = h2.connection.H2Connection()
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    client.send_headers(
        1,
        [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/"),
         ("x-api-key", mark)],
        end_stream=True,
    )  # fmt: skip
    asked = [
        event
        for event in server.receive_data(way.send(client.data_to_send()))
        if isinstance(event, h2.events.RequestReceived)
    ]
    assert (b"x-api-key", VALUE.encode()) in [tuple(one) for one in asked[0].headers or ()]
    server.send_headers(1, [(":status", "204")], end_stream=True)
    events = client.receive_data(way.answer(server.data_to_send()))
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)


async def test_an_upstream_that_is_not_verified_gets_nothing(bundle: Path) -> None:
    vault = await Vault.fresh({"KEY": Secret(VALUE, hosts=HOST)})
    with pytest.raises(TlsFailed) as raised:
        Way(vault, bundle, Authority("somebody else"), ["http/1.1"])
    assert raised.value.verification
    for protocol in ("h2", None):
        with pytest.raises(LocalProtocolError, match="not verified"):
            make_exchange(protocol, vault.substitution(HOST, 443), verified=False)
    make_exchange(None, vault.substitution("other.example", 443), verified=False)


def test_the_version_is_one_that_all_three_speak(bundle: Path, upstream: Authority) -> None:
    """What the guest offers, as far as we know it; of that the upstream chooses."""
    for offered, speaks, chosen in (
        (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
        (["http/1.1"], ["h2", "http/1.1"], "http/1.1"),
        (["h3", "h2"], ["h2", "http/1.1"], "h2"),
        ([], ["h2", "http/1.1"], None),
        (["imap"], ["imap"], None),
    ):
        far = TlsClient(Trust(extra_ca=bundle).context(HOST, 443, offered), HOST)
        Way.shake(far, TlsServer(upstream.server_context(HOST, speaks)))
        assert far.established and far.protocol == chosen


def test_what_is_imported_when() -> None:
    """Neither `import sandlot` nor HTTP/1.1 imports what only certificates and HTTP/2 need."""
    code = (
        "import sys, sandlot; assert 'sandlot.secrets' not in sys.modules;"
        "import sandlot.network.http.exchange, sandlot.network.tls.authority, sandlot.secrets;"
        "assert not {'cryptography', 'hpack'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
