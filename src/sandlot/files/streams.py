"""Bytes out of a file and into one, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import IO, Any

from sandlot.errors import ConfigError
from sandlot.files.info import FileInfo
from sandlot.files.requests import file_error, patiently
from sandlot.guest.channel import ChannelStream

PIECE = 1 << 20

Data = (
    bytes | bytearray | memoryview | str | IO[bytes] | IO[str] | Iterable[bytes]
    | AsyncIterable[bytes]
)  # fmt: skip


class FileReader:
    """A file that is being read, as `Files.open` returns it.

        async with await sb.files.open("/var/log/big") as file:
            async for piece in file:
                ...

    Not read means: the sandbox waits. Memory is bounded, however large the file is.
    """

    def __init__(self, stream: ChannelStream | None, info: FileInfo) -> None:
        self._stream = stream
        self._rest = stream.unread() if stream is not None else b""
        self._info = info

    @property
    def info(self) -> FileInfo:
        """The file as it was when it was opened."""
        return self._info

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes as soon as there are any, everything that is left when negative.

        b"" means the end.

        Raises:
            FileError: the sandbox could not read on.
            SandboxDied, GuestProtocolError: the sandbox ended.
        """
        if size < 0:
            parts = [self._rest]
            self._rest = b""
            while data := await self._next():
                parts.append(data)
            return b"".join(parts)
        data = self._rest or await self._next()
        if len(data) <= size:
            self._rest = b""
            return data
        self._rest = data[size:]
        return data[:size]

    async def _next(self) -> bytes:
        if self._stream is None:
            return b""
        data = await patiently(self._stream.read(), self._info.path)
        if not data and self._stream.was_reset:
            raise file_error(5, "", self._info.path)
        return data

    async def close(self) -> None:
        """Stop reading. Closing twice is allowed."""
        if self._stream is not None:
            self._stream.reset()
            self._stream = None
        self._rest = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while data := await self.read(PIECE):
            yield data

    async def __aenter__(self) -> FileReader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def encoded(piece: object, encoding: str) -> bytes | memoryview:
    """A piece of data as bytes.

    Raises:
        ConfigError: neither bytes nor text.
    """
    if isinstance(piece, str):
        return piece.encode(encoding)
    if isinstance(piece, bytes | bytearray | memoryview):
        return memoryview(piece).cast("B")
    raise ConfigError(f"a file's contents are {type(piece).__name__}, not bytes or text")


def known_size(data: object, encoding: str) -> int | None:
    """How many bytes there will be, if that can be said before they are sent."""
    if isinstance(data, str):
        return len(data.encode(encoding))
    return memoryview(data).nbytes if isinstance(data, bytes | bytearray | memoryview) else None


async def pieces(data: object, encoding: str = "utf-8") -> AsyncIterator[bytes | memoryview]:
    """Bytes, text, a file object, an iterable or an asynchronous one, as pieces.

    What may wait, such as a file or a generator, is asked in a thread.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(data, str | bytes | bytearray | memoryview):
        yield encoded(data, encoding)
    elif hasattr(data, "read"):
        while piece := await asyncio.to_thread(data.read, PIECE):
            yield encoded(piece, encoding)
    elif isinstance(data, AsyncIterable):
        async for piece in data:
            yield encoded(piece, encoding)
    elif isinstance(data, Iterable):
        iterator: Iterator[Any] = iter(data)
        while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
            yield encoded(piece, encoding)
    else:
        raise ConfigError(
            f"a file's contents cannot be {type(data).__name__}",
            hint="give bytes, text, a file object, or an iterator of bytes",
        )
