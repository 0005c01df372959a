"""TLS without sockets."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.network.tls.authority import Authority
from sandlot.network.tls.session import MAX_EARLY, TlsClient, TlsFailed, TlsServer
from tests.unit.network.tls.test_authority import client_context, shake

AUTHORITY = Authority("box")


def pair() -> tuple[TlsClient, TlsServer]:
    client = TlsClient(client_context(AUTHORITY), "a.example")
    return client, TlsServer(AUTHORITY.server_context("a.example", ["h2"]))


def test_bytes_go_through_whatever_their_pieces() -> None:
    client, server = pair()
    client.write(b"written before the handshake")
    data = b""
    for _ in range(4):
        flight = client.take()
        for at in range(0, len(flight), 100):
            data += b"".join(server.receive(flight[at : at + 100]))
        client.receive(server.take())
    assert data == b"written before the handshake"
    large = os.urandom(300_000)
    server.write_all([large[:10], memoryview(large)[10:]])
    assert b"".join(client.receive(server.take())) == large
    assert server.protocol == client.protocol == "h2"


def test_a_farewell_and_a_cut() -> None:
    client, server = pair()
    shake(client, server)
    server.write(b"last")
    server.farewell()
    assert client.receive(server.take()) == [b"last"]
    assert client.ended and client.closed()
    client, server = pair()
    shake(client, server)
    server.write(b"cut")
    assert client.receive(server.take()) == [b"cut"]
    assert not client.closed()


def test_writing_after_the_peer_said_farewell() -> None:
    client, server = pair()
    shake(client, server)
    client.farewell()
    server.receive(client.take())
    assert server.ended
    server.write(b"still")
    assert client.receive(server.take()) == [b"still"]


def test_a_handshake_without_end() -> None:
    _, server = pair()
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff"
    with pytest.raises(TlsFailed):
        for _ in range(MAX_EARLY // 1000 + 2):
            server.receive(record + bytes(1000))
            record = b""


def test_a_changed_record() -> None:
    client, server = pair()
    shake(client, server)
    client.write(b"something")
    record = bytearray(client.take())
    record[-1] ^= 1
    with pytest.raises(TlsFailed, match=r"decryption failed|bad record mac"):
        server.receive(bytes(record))


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_any_bytes(data: bytes) -> None:
    client, server = pair()
    for end in (client, server):
        try:
            assert end.receive(data) == []
        except TlsFailed as error:
            assert error.reason
        end.take()
    client, server = pair()
    shake(client, server)
    try:
        server.receive(data)
    except TlsFailed:
        pass
