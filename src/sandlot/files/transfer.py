"""Archives and large contents over a session: what `upload`, `download`, `write` have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator

from sandlot.errors import GuestProtocolError, SandboxError
from sandlot.files.archive import ArchiveReader, Failure
from sandlot.files.extract import Extractor, Limits, Transfer
from sandlot.files.pack import Packer
from sandlot.files.requests import answer, begin, contents, file_error, patiently
from sandlot.guest.channel import ChannelStream
from sandlot.guest.session import GuestSession
from sandlot.wire import files as wire
from sandlot.wire.messages import Message, Ok

Progress = Callable[[int], None]  # bytes so far


async def send(
    session: GuestSession, request: Message, path: str,
    pieces: AsyncIterable[bytes | memoryview], progress: Progress | None = None,
) -> None:  # fmt: skip
    """A request, the bytes that belong to it, and the agent's answer.

    When `pieces` fails, or the call is cancelled, the agent drops what it has begun.

    Raises:
        FileError, ConfigError: the agent cannot take them.
    """
    stream = begin(session, request)
    sent = 0
    try:
        with contextlib.suppress(BrokenPipeError):  # then the reason has come before
            async for piece in pieces:
                await patiently(stream.write(piece), path)
                sent += len(piece)
                if progress is not None:
                    progress(sent)
            stream.finish()
        await answer(session, stream, path, (Ok,))
    except BaseException:
        stream.reset()
        raise


async def in_thread(iterator: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """A blocking iterator, asked in a thread, one piece ahead."""
    upcoming = asyncio.ensure_future(asyncio.to_thread(next, iterator, None))
    try:
        while (piece := await upcoming) is not None:
            upcoming = asyncio.ensure_future(asyncio.to_thread(next, iterator, None))
            yield piece
    finally:
        with contextlib.suppress(BaseException):
            await upcoming


async def put_tree(
    session: GuestSession, request: wire.TreePut, path: str, packer: Packer,
    progress: Progress | None = None,
) -> Transfer:  # fmt: skip
    """Unpack a folder of the host in the guest."""
    await send(session, request, path, in_thread(packer.pieces()), progress)
    return packer.done


async def get_archive(
    session: GuestSession, request: Message, path: str, kind: type[Message]
) -> AsyncGenerator[bytes, None]:
    """An archive as it comes; it is looked through, so that its end and failures are seen."""
    stream = begin(session, request, bulk=True)
    stream.finish()
    reader = ArchiveReader()
    try:
        await answer(session, stream, path, (kind,))
        async for data in contents(stream, path):
            for event in reader.feed(data):
                if isinstance(event, Failure):
                    where = event.path.decode(errors="surrogateescape")
                    raise file_error(event.errno, event.text, where or path)
            yield data
        if not reader.complete:
            raise GuestProtocolError("the guest's archive ends in the middle")
    except GuestProtocolError as error:
        session.channel.fail(error)
        raise
    finally:
        stream.reset()


async def get_tree(
    session: GuestSession, request: wire.TreeGet, path: str, target: str, limits: Limits,
    progress: Progress | None = None,
) -> Transfer:  # fmt: skip
    """Put a file or folder of the guest at `target` on the host.

    Raises:
        FileError: the agent cannot read something, or a limit was reached.
        GuestProtocolError: the guest is not honest; the sandbox is ended.
        OSError: the host cannot write something.
    """
    stream = begin(session, request, bulk=True)
    stream.finish()
    extractor = Extractor(target, path, limits)
    try:
        await answer(session, stream, path, (wire.FileInfo,))
        await _extract(stream, path, extractor, progress)
    except GuestProtocolError as error:
        session.channel.fail(error)
        raise
    finally:
        stream.reset()
        await asyncio.shield(asyncio.to_thread(extractor.close))
    return extractor.done


async def _extract(
    stream: ChannelStream, path: str, extractor: Extractor, progress: Progress | None
) -> None:
    got = 0
    async with contextlib.aclosing(contents(stream, path)) as pieces:
        async for data in pieces:
            await _whole(extractor.feed, data)
            got += len(data)
            if progress is not None:
                progress(got)
    await _whole(extractor.finish)


async def _whole(work: Callable[..., None], *arguments: bytes) -> None:
    """Run in a thread, and do not leave it alone when cancelled: it holds descriptors."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(SandboxError, OSError):
            await task
        raise
