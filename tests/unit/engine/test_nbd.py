"""What a client that reads a disk is told: one that keeps the protocol, and one that does not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.engine.nbd import MOST, MOST_OPTIONS, NbdServer, Read
from sandlot.errors import GuestProtocolError

SIZE = 5 << 40
HELLO = b"NBDMAGICIHAVEOPT\0\x03"
FLAGS = struct.pack(">I", 3)


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def go(*wanted: int, name: bytes = b"") -> bytes:
    data = (
        struct.pack(">I", len(name)) + name + struct.pack(f">H{len(wanted)}H", len(wanted), *wanted)
    )
    return option(7, data)


def request(kind: int, offset: int, length: int, handle: int = 7) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, 0, kind, handle, offset, length)


def replies(data: bytes) -> list[tuple[int, int, bytes]]:
    """Option, type and data of each."""
    found = []
    while data:
        magic, number, kind, length = struct.unpack_from(">QIII", data)
        assert magic == 0x3E889045565A9
        found.append((number, kind, data[20 : 20 + length]))
        data = data[20 + length :]
    return found


def ready() -> NbdServer:
    server = NbdServer(SIZE)
    assert server.take() == HELLO
    assert not server.feed(FLAGS + go())
    server.take()
    return server


def test_a_client_is_told_the_size_and_gets_what_it_reads() -> None:
    server = NbdServer(SIZE)
    assert server.take() == HELLO
    # What it has not: structured replies and contexts, as QEMU asks for them first.
    assert not server.feed(FLAGS + option(8) + option(10, bytes(8)) + go(3, name=b"disk"))
    told = replies(server.take())
    assert [(n, k) for n, k, _ in told] == [
        (8, 0x80000001), (10, 0x80000001), (7, 3), (7, 3), (7, 1)
    ]  # fmt: skip
    assert told[2][2] == struct.pack(">HQH", 0, SIZE, 3)
    assert told[3][2] == struct.pack(">HIII", 3, 1, 4096, MOST)
    reads = server.feed(request(0, 1 << 40, 4096) + request(0, SIZE - 1, 1, handle=8))
    assert reads == [Read(7, 1 << 40, 4096), Read(8, SIZE - 1, 1)] and not server.take()
    server.answer(reads[1], b"x")
    server.fail(reads[0])
    assert server.take() == struct.pack(">IIQ", 0x67446698, 0, 8) + b"x" + struct.pack(
        ">IIQ", 0x67446698, 5, 7
    )
    assert not server.feed(request(2, 0, 0)) and server.over
    with pytest.raises(ValueError, match="2 bytes for a read of 4096"):
        server.answer(reads[0], b"xx")


def test_by_the_old_option_too() -> None:
    server = NbdServer(SIZE)
    server.take()
    server.feed(struct.pack(">I", 1) + option(1, b"disk"))
    assert server.take() == struct.pack(">QH", SIZE, 3) + bytes(124)
    assert server.feed(request(0, 0, 512)) == [Read(7, 0, 512)]


def test_in_pieces_of_a_byte() -> None:
    server = NbdServer(SIZE)
    reads = []
    for each in FLAGS + go() + request(0, 512, 1024) + request(2, 0, 0):
        reads += server.feed(bytes([each]))
    assert reads == [Read(7, 512, 1024)] and server.over


@pytest.mark.parametrize(
    ("kind", "offset", "length", "error"),
    [
        (0, 0, 0, 22), (0, 0, MOST + 1, 22), (0, SIZE - 1, 2, 22), (0, 2**64 - 1, 1, 22),
        (4, 0, 512, 1), (6, 0, 512, 1), (3, 0, 0, 22), (7, 0, 512, 22), (99, 0, 0, 22),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(kind: int, offset: int, length: int, error: int) -> None:
    server = ready()
    assert not server.feed(request(kind, offset, length))
    assert server.take() == struct.pack(">IIQ", 0x67446698, error, 7)
    assert server.feed(request(0, 0, 1)) == [Read(7, 0, 1)]  # and it goes on


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 0), struct.pack(">I", 5), FLAGS + b"GET / HTTP/1.1\r\n\r\n" + bytes(16),
        FLAGS + b"IHAVEOPT" + struct.pack(">II", 7, 1 << 30), FLAGS + option(3) * (MOST_OPTIONS + 1),
        FLAGS + go() + bytes(28), FLAGS + go() + request(1, 0, 512) + bytes(512),
    ],
)  # fmt: skip
def test_who_breaks_the_protocol_is_blamed(data: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        NbdServer(SIZE).feed(data)


@pytest.mark.parametrize("data", [b"", bytes(5), struct.pack(">I", 1 << 31) + b"xx", bytes(7)])
def test_an_option_that_is_cut_off_is_refused(data: bytes) -> None:
    server = NbdServer(SIZE)
    server.take()
    server.feed(FLAGS + option(7, data))
    assert replies(server.take()) == [(7, 0x80000003, b"")]


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_any_bytes_are_refused_or_within_bounds(pieces: list[bytes], begun: bool) -> None:
    server = ready() if begun else NbdServer(SIZE)
    try:
        for piece in pieces:
            for read in server.feed(piece):
                assert 0 < read.length <= MOST and read.offset + read.length <= SIZE
    except GuestProtocolError:
        pass
    assert len(server.take()) < 20_000


WORDS = st.one_of(
    st.builds(option, st.integers(0, 12), st.binary(max_size=30)),
    st.builds(go, st.integers(0, 5)),
    st.builds(request, st.integers(0, 9), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)),
    st.binary(max_size=12),
)


@given(st.lists(WORDS, max_size=12))
def test_words_of_the_protocol_in_any_order(words: list[bytes]) -> None:
    server = NbdServer(SIZE)
    try:
        for word in (FLAGS, *words):
            for read in server.feed(word):
                assert read.offset + read.length <= SIZE
                server.fail(read)
    except GuestProtocolError:
        pass
