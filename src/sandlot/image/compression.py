"""Opening a stream whatever it is compressed with, told by its first bytes."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import sys
from typing import BinaryIO, cast

BUFFER = 1 << 20  # bytes read from the stream at once


class _Borrowed(io.RawIOBase):
    """Somebody else's stream: a buffer around it must not close it when it is forgotten."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_stream(stream: BinaryIO) -> BinaryIO:
    """A buffered reader of the plain bytes in `stream`: as it is, gzip, bzip2, xz or zstd."""
    raw = io.BufferedReader(_Borrowed(stream), BUFFER)
    magic = raw.peek(6)[:6]
    plain: object
    if magic.startswith(b"\x1f\x8b"):
        plain = gzip.GzipFile(fileobj=raw, mode="rb")
    elif magic.startswith(b"BZh"):
        plain = bz2.BZ2File(raw)
    elif magic.startswith(b"\xfd7zXZ\0"):
        plain = lzma.LZMAFile(raw)
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        plain = importlib.import_module(name).ZstdFile(raw, "rb")
    else:
        return cast("BinaryIO", raw)
    return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", plain), BUFFER))


def decompression_errors() -> tuple[type[Exception], ...]:
    """What reading from `open_stream` raises when the compressed bytes are damaged."""
    errors: list[type[Exception]] = [EOFError, gzip.BadGzipFile, lzma.LZMAError, OSError]
    errors.append(importlib.import_module("zlib").error)
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    if name in sys.modules:
        errors.append(sys.modules[name].ZstdError)
    return tuple(errors)
