"""What a connection begins with."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.front import looks_like_http, opening

REQUEST = b"GET /x HTTP/1.1\r\nHost: Api.Example.com:80\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (REQUEST, True), (b"M-SEARCH * HTTP/1.0\r\n", True), (b"", False), (b"G", None),
        (b"GET /x HT", None), (b"GET /x HTTP/2.0\r\n", True), (b"SSH-2.0-x\r\n", False),
        (b"EHLO x\r\n", False), (b"\x00\x01", False), (b"get / HTTP/1.1\r\n", True),
        (b"\r\n\r\nGET / HTTP/1.1", True), (b"\n", None), (b"M_X\t/\thttp/1.7\r\n", True),
        (b"GET /" + b"x" * 9000, True), (b"*1\r\n$4\r\nPING\r\n", False), (b"GET /\r\n", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True), (b"GET \xff\x00/ HTTP/1.1\r\n", True),
    ],
)  # fmt: skip
def test_requests_are_told_from_the_rest(data: bytes, known: bool | None) -> None:
    assert looks_like_http(data) is known


@pytest.mark.parametrize(
    "data",
    [
        b"GET " + b"\t" * 16000,
        b"GET " + b" HTTP/1." * 2000,
        b"a " + b" HTTP/1.1 \r\t" * 1200 + b"\n",
    ],
)
def test_no_bytes_cost_more_than_one_look(data: bytes) -> None:
    began = time.monotonic()
    for _ in range(100):
        looks_like_http(data)
    assert time.monotonic() - began < 2


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    assert looks_like_http(data) in (True, False, None)


class Pieces:
    """A stream that gives these pieces and then its end, or nothing more."""

    was_reset = False

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.pieces = list(pieces)
        self.ends = ends

    async def read(self) -> bytes:
        await asyncio.sleep(0.001)
        if self.pieces:
            return self.pieces.pop(0)
        if not self.ends:
            await asyncio.Event().wait()
        return b""


async def seen(*pieces: bytes, server: bytes = b"", ends: bool = True) -> object:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(server) if server else None
        return await opening(Pieces(*pieces, ends=ends), ours, b"")  # type: ignore[arg-type]


async def test_a_request_in_pieces() -> None:
    for size in (1, 7, 100):
        pieces = [REQUEST[i : i + size] for i in range(0, len(REQUEST), size)]
        found = await seen(*pieces, ends=False)
        assert found.http and found.host == "api.example.com" and found.sent == REQUEST  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\n", b"\n\r\n"])
async def test_a_request_that_ends_without_its_empty_line(end: bytes) -> None:
    found = await seen(b"GET / HTTP/1.1\r\nHost: evil.example", end)
    assert found.http and found.host == "evil.example"  # type: ignore[attr-defined]


async def test_other_beginnings() -> None:
    found = await seen(b"SSH-2.0-client\r\n")
    assert found.sent and not found.http and found.hello is None  # type: ignore[attr-defined]
    found = await seen(server=b"220 hello\r\n", ends=False)
    assert found.received == b"220 hello\r\n" and not found.sent  # type: ignore[attr-defined]
    assert (await seen()).ended  # type: ignore[attr-defined]
    assert (await seen(b"\x16\x03\x01\x00")).broken  # type: ignore[attr-defined]
    assert (await seen(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00")).broken  # type: ignore[attr-defined]
