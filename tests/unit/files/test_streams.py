"""What can be written to a file."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from sandlot import ConfigError
from sandlot.files.streams import known_size, pieces


async def joined(data: object) -> bytes:
    return b"".join([bytes(piece) async for piece in pieces(data)])


async def numbers() -> AsyncIterator[bytes]:
    for number in range(3):
        await asyncio.sleep(0)
        yield b"%d" % number


async def test_every_kind_of_data() -> None:
    assert await joined(b"bytes") == b"bytes"
    assert await joined(bytearray(b"more")) == b"more"
    assert await joined(memoryview(b"abcd").cast("I")) == b"abcd"
    assert await joined("grüße") == "grüße".encode()
    assert await joined(io.BytesIO(b"x" * 3_000_000)) == b"x" * 3_000_000
    assert await joined(io.StringIO("text")) == b"text"
    assert await joined([b"a", "b", bytearray(b"c")]) == b"abc"
    assert await joined(b"%d" % n for n in range(3)) == b"012"
    assert await joined(numbers()) == b"012"
    assert await joined([]) == b""


async def test_what_is_no_data() -> None:
    for wrong in (5, None, [1], object()):
        with pytest.raises(ConfigError):
            await joined(wrong)


def test_sizes_that_are_known() -> None:
    assert known_size("ü", "utf-8") == 2
    assert known_size(memoryview(b"abcd").cast("I"), "utf-8") == 4
    assert known_size(io.BytesIO(b"x"), "utf-8") is None
