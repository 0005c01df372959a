from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
from collections.abc import Callable

import backports.zstd as zstd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import ImageError
from sandlot.image import compression
from sandlot.image.compression import Plain, compression_of, plain_pieces


def zstd_checked(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS: list[Callable[[bytes], bytes]] = [
    gzip.compress, bz2.compress, lzma.compress, zstd_checked, bytes,
]  # fmt: skip
DATA = random.Random(7).randbytes(300_000) + bytes(3_000_000) + random.Random(8).randbytes(100_000)


@pytest.mark.parametrize("pack", PACKERS)
def test_all_kinds(pack: Callable[[bytes], bytes]) -> None:
    with Plain(io.BytesIO(pack(DATA))) as plain:
        assert plain.read(10) == DATA[:10]
        assert plain.read(2_000_000) == DATA[10:2_000_010]
        assert plain.read(1 << 30) == DATA[2_000_010:]
        assert plain.read(1) == b""
        assert plain.hexdigest() == hashlib.sha256(DATA).hexdigest()
    assert all(0 < len(p) <= compression.PIECE for p in plain_pieces(io.BytesIO(pack(DATA))))


@pytest.mark.parametrize("pack", PACKERS[:-1])
def test_streams_in_a_row_and_zeros_behind(pack: Callable[[bytes], bytes]) -> None:
    stream = pack(b"one") + pack(b"two") + bytes(600_000)
    assert b"".join(plain_pieces(io.BytesIO(stream))) == b"onetwo"


@pytest.mark.parametrize("pack", PACKERS[:-1])
def test_damage(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(DATA)
    middle = len(packed) // 2
    damaged = packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]
    for stream in (packed[:-9], packed[:7], damaged, packed + b"garbage behind"):
        with pytest.raises(ImageError, match=r"damaged|ends in the middle"):
            list(plain_pieces(io.BytesIO(stream)))


def test_a_skippable_frame_in_front() -> None:
    frame = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    assert b"".join(plain_pieces(io.BytesIO(frame + zstd.compress(b"data")))) == b"data"


def test_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "FREE_RATIO", 1 << 22)
    with pytest.raises(ImageError, match="MAX_RATIO"):
        list(plain_pieces(io.BytesIO(gzip.compress(bytes(20_000_000)))))


def test_a_reader_may_leave_early() -> None:
    plain = Plain(io.BytesIO(bytes(100_000_000)))
    plain.read(5)
    plain.close()
    assert not plain._thread.is_alive()


def test_a_stream_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "GRACE", 0.1)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as stream:
        plain = Plain(stream)
        plain.close()
        assert plain._thread.is_alive()
        os.close(writer)
        plain._thread.join(60)
        assert not plain._thread.is_alive()


def test_an_error_arrives_where_it_is_read() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise OSError("gone")

    with Plain(Broken()) as plain, pytest.raises(OSError, match="gone"):
        plain.read(1)


def test_short_reads() -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self._data.read(min(size, 3))

    with Plain(Slow(gzip.compress(b"hello"))) as plain:
        assert plain.read(100) == b"hello"


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]),
)
def test_whatever_comes(data: bytes, magic: bytes) -> None:
    assert compression_of(magic)
    try:
        list(plain_pieces(io.BytesIO(magic + data)))
    except ImageError:
        pass
