"""Changes in a folder, as they happen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandlot.errors import GuestProtocolError
from sandlot.files.paths import join
from sandlot.files.requests import failure
from sandlot.guest.channel import ChannelStream
from sandlot.guest.session import GuestSession
from sandlot.wire import files as wire
from sandlot.wire.messages import Failed

_TYPES = {
    wire.FileEvent.CREATE: "create", wire.FileEvent.MODIFY: "modify",
    wire.FileEvent.DELETE: "delete", wire.FileEvent.MOVE: "move", wire.FileEvent.LOST: "overflow",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FileEvent:
    """One change.

    `type` is create, modify, delete, move (from `path` to `target`) or overflow: so much happened
    that some of it was lost, so look for yourself.
    """

    type: str
    path: str
    target: str = ""
    is_dir: bool = False


class Watch:
    """What happens to a file or in a folder, as `Files.watch` returns it.

        async with await sb.files.watch("/app", recursive=True) as watch:
            async for event in watch:
                print(event.type, event.path)

    It sees what happens from the moment that it is returned, until what it watches is gone.
    """

    def __init__(self, session: GuestSession, stream: ChannelStream, path: str) -> None:
        self._session = session
        self._stream = stream
        self._path = path

    async def next(self) -> FileEvent | None:
        """The next change, or None when what is watched is gone, or the watch closed.

        Raises:
            FileError: it cannot be watched any longer.
            SandboxDied, GuestProtocolError: the sandbox ended.
        """
        message = await self._stream.read_message()
        if message is None:
            return None
        if isinstance(message, Failed):
            raise failure(message, self._path)
        if not isinstance(message, wire.FileEvent) or message.type not in _TYPES:
            error = GuestProtocolError("the guest tells an unknown change of a file")
            self._session.channel.fail(error)
            raise error
        return FileEvent(
            type=_TYPES[message.type], path=join(self._path, message.path),
            target=join(self._path, message.target) if message.target else "",
            is_dir=bool(message.flags & wire.FileEvent.FOLDER),
        )  # fmt: skip

    async def close(self) -> None:
        """Stop watching. Closing twice is allowed."""
        self._stream.reset()

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """Changes as they happen."""
        while (event := await self.next()) is not None:
            yield event

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
