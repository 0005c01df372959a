"""The plain bytes of a stream, whatever it is compressed with; told by its first bytes.

Decompressors and digests work without Python's global lock, so they have a thread of their own
(`Plain`), and one program unpacks several layers at a time on as many processors.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import importlib
import lzma
import queue
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

from sandlot.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandlot.image.contents import Reader

CHUNK = 1 << 18  # compressed bytes that are read at once
PIECE = 1 << 20  # plain bytes that are handed on at once
AHEAD = 8  # pieces that may wait for their reader
GRACE = 2.0  # seconds that a reader may need to see that it was given up
MAX_RATIO = 250  # plain bytes per compressed one; what is honest reaches a tenth of it
FREE_RATIO = 1 << 32  # plain bytes for which the ratio is not looked at

ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_MAGICS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_MAGICS |= {bytes([0x50 + n, 0x2A, 0x4D, 0x18]): "zstd" for n in range(16)}  # skippable frames


def compression_of(head: bytes) -> str:
    """What a stream that begins so is compressed with, or the empty string.

    >>> compression_of(b"BZh91AY")
    'bzip2'
    """
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "")


def plain_pieces(stream: Reader) -> Iterator[bytes]:
    """The plain bytes in pieces of at most PIECE. Raises ImageError when they are damaged, or
    so many more than the compressed ones that only an attack explains it."""
    head = _fill(stream, 6)
    kind = compression_of(head)
    if kind:
        yield from _decompressed(stream, head, kind)
        return
    while head:
        yield head
        head = stream.read(PIECE)


def _fill(stream: Reader, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def _gzip(data: bytes, size: int, state: Any) -> tuple[bytes, bytes]:
    return state.decompress(data, size), state.unconsumed_tail


def _others(data: bytes, size: int, state: Any) -> tuple[bytes, bytes]:
    return state.decompress(data, size), b""


def _maker(kind: str) -> tuple[Callable[[], Any], type[Exception]]:
    if kind == "gzip":
        return lambda: zlib.decompressobj(31), zlib.error
    if kind == "bzip2":
        return bz2.BZ2Decompressor, OSError
    if kind == "xz":
        return lzma.LZMADecompressor, lzma.LZMAError
    module = importlib.import_module(ZSTD)
    return module.ZstdDecompressor, module.ZstdError


def _decompressed(stream: Reader, data: bytes, kind: str) -> Iterator[bytes]:
    make, error = _maker(kind)
    step = _gzip if kind == "gzip" else _others
    taken, given = len(data), 0
    state = make()
    try:
        while True:
            piece, data = step(data, PIECE, state)
            if piece:
                given += len(piece)
                if given > FREE_RATIO and given > taken * MAX_RATIO:
                    raise ImageError(
                        f"a compressed stream is more than {MAX_RATIO} times as large when"
                        " unpacked (MAX_RATIO)"
                    )
                yield piece
            if state.eof:
                # Streams may stand in a row, and some tools fill up with zeros.
                data = state.unused_data.lstrip(b"\0")
                while not data:
                    data = stream.read(CHUNK)
                    if not data:
                        return
                    taken += len(data)
                    data = data.lstrip(b"\0")
                state = make()
            elif not data and len(piece) < PIECE and getattr(state, "needs_input", True):
                data = stream.read(CHUNK)
                taken += len(data)
                if not data:
                    raise ImageError(f"a {kind} stream ends in the middle")
    except (error, EOFError) as failure:
        raise ImageError(f"a {kind} stream is damaged: {failure}") from failure


class Plain:
    """A reader of the plain bytes of a stream, which a thread of its own makes ahead.

    `read(n)` gives n bytes, fewer only at the end. `hexdigest` is the SHA-256 of them all, to
    be asked for when the end was reached. To be closed, best by `with`.
    """

    def __init__(self, stream: Reader) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._given_up = False
        self._piece = b""
        self._at = 0
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="sandlot-unpack", daemon=True)
        self._thread.start()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int, /) -> bytes:
        end = self._at + size
        if end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
            return data
        parts = [self._piece[self._at :]]
        missing = size - len(parts[0])
        while missing and self._next():
            part = self._piece[:missing]
            self._at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def hexdigest(self) -> str:
        """Of everything that was there to read."""
        assert self._ended
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread. One that waits for a stream which says nothing is left alone: it ends
        with the stream, or with the program."""
        self._given_up = True
        deadline = time.monotonic() + GRACE
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.05)
            self._thread.join(0)

    def _next(self) -> bool:
        self._piece, self._at = b"", 0
        if self._ended:
            return False
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._piece = item
        self._ended = not item
        return bool(item)

    def _work(self) -> None:
        try:
            for piece in plain_pieces(self._stream):
                self._hash.update(piece)
                self._queue.put(piece)
                if self._given_up:
                    return
            self._queue.put(b"")
        except BaseException as error:
            self._queue.put(error)
