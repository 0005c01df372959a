"""Where bodies end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.http.framing import ChunkReader, EndReader, LengthReader, Reader, last_chunk
from sandlot.network.http.head import Malformed


def read(reader: Reader, data: bytes, size: int) -> tuple[bytes, bytes]:
    """The payload, and what follows the body."""
    out, at = b"", 0
    while at < len(data) and not reader.done:
        pieces, taken = reader.read(memoryview(data)[at : at + size])
        assert taken > 0
        out += b"".join(pieces)
        at += taken
    return out, data[at:]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_chunks(size: int) -> None:
    data = b'5\r\nhello\r\n00A;ext="v"\r\n0123456789\r\n0\r\n\r\nNEXT'
    reader = ChunkReader()
    assert read(reader, data, size) == (b"hello0123456789", b"NEXT")
    assert reader.done and reader.trailers == []


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_trailers(size: int) -> None:
    reader = ChunkReader()
    assert read(reader, b"0\r\nGrpc-Status: 0\r\nX: y\r\n\r\nNEXT", size) == (b"", b"NEXT")
    assert reader.trailers == [(b"Grpc-Status", b"0"), (b"X", b"y")]
    assert last_chunk(reader.trailers) == b"0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhelloX\r\n", b"5\r\nhello\r\n\r\n", b" 5\r\nhello",
        b"5 \r\nhello", b"5 ;x\r\nhello", b"0x5\r\nhello", b"+5\r\nhello", b"-5\r\n", b"5_0\r\n",
        b"\r\n", b"g\r\n", b"1" * 16 + b"\r\n", b"5;" + b"x" * 300 + b"\r\n", b"5;a\rb\r\n",
        b"5;\x00\r\n", b"5\r\nhello\rX", b"x" * 400, b"0\r\nX: y\n\r\n", b"0\r\n folded: x\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nHost: x\r\n\r\n", b"0\r\nAuthorization: x\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX: " + b"y" * 9000,
        b"0\r\n\n", b"0\r\nX: a\rb\r\n\r\n",
    ],
)  # fmt: skip
def test_chunks_that_are_refused(data: bytes, size: int) -> None:
    with pytest.raises(Malformed):
        read(ChunkReader(), data + b"\r\n\r\n", size)


def test_lengths_and_ends() -> None:
    assert read(LengthReader(5), b"helloNEXT", 2) == (b"hello", b"NEXT")
    assert LengthReader(0).done
    end = EndReader()
    assert read(end, b"all of it", 4) == (b"all of it", b"") and not end.done


def test_payload_is_sliced_not_copied() -> None:
    data = memoryview(b"x" * 1000)
    pieces, _ = LengthReader(900).read(data)
    assert pieces[0].obj is data.obj


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.integers(1, 9))
def test_any_chunks(parts: list[bytes], size: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert read(ChunkReader(), data + b"!", size) == (b"".join(parts), b"!")


@given(st.lists(st.sampled_from([b"\r\n", b"5", b"0", b"\n", b";", b"a", b"x"]), max_size=20))
def test_cuts_do_not_matter(parts: list[bytes]) -> None:
    data = b"".join(parts)

    def outcome(size: int) -> object:
        try:
            return read(ChunkReader(), data, size)
        except Malformed:
            return "refused"

    assert outcome(1) == outcome(2) == outcome(1000)
