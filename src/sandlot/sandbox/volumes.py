"""The volumes of one sandbox that this program runs: mounted in its guest, served from here."""

from __future__ import annotations

import asyncio
import stat
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError, GuestProtocolError, SandboxDied, SandboxError
from sandlot.filesystem.asking import OnFs
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.mount import Mount as Served
from sandlot.filesystem.types import Context
from sandlot.guest.channel import Channel
from sandlot.guest.session import ANSWER_PATIENCE, GuestSession
from sandlot.sandbox.nudging import Nudger
from sandlot.snapshot.store import CONTENTS
from sandlot.wire.messages import Failed, Ok
from sandlot.wire.volumes import Mount, Unmount

CREDIT = 8 << 20
"""Bytes of requests that one volume may have under way."""


class _Carrier:
    """One volume's stream: requests in, answers out."""

    def __init__(
        self, channel: Channel, fs: FileSystem, sandbox: str, path: str, on_fs: OnFs | None
    ) -> None:
        self._channel = channel
        self.number = 0
        self._queue: deque[memoryview] = deque()
        self._unsent = 0
        self.served = Served(
            fs,
            sandbox,
            path,
            send=self._send,
            taken=self._taken,
            broken=channel.fail,
            on_fs=on_fs,
        )
        self.ended = asyncio.Event()
        self.ends: list[Callable[[], None]] = []

    async def close(self) -> None:
        """It is unmounted, or the machine is no more."""
        for end in self.ends:
            end()
        await self.served.close()

    def _taken(self, count: int) -> None:
        self._channel.consumed(self.number, count)

    def _send(self, data: bytes) -> int:
        if self.ended.is_set():
            return 0
        if not self._queue:
            sent = self._put(data)
            if sent == len(data):
                return 0
            rest = memoryview(data)[sent:]
        else:
            rest = memoryview(data)
        self._queue.append(rest)
        self._unsent += len(rest)
        return self._unsent

    def _put(self, data: bytes | memoryview) -> int:
        try:
            return self._channel.send(self.number, data)
        except (BrokenPipeError, SandboxError):
            self.on_end()
            return len(data)

    def on_writable(self) -> None:
        while self._queue:
            sent = self._put(self._queue[0])
            self._unsent -= sent
            if sent < len(self._queue[0]):
                self._queue[0] = self._queue[0][sent:]
                return
            self._queue.popleft()
        self.served.drained(self._unsent)

    def on_data(self, data: bytes) -> None:
        self.served.receive(data)

    def on_end(self) -> None:
        self.ended.set()

    def on_reset(self, error: SandboxError | None) -> None:
        self.ended.set()


class Volumes:
    """What is mounted where. Made with the sandbox's owner; `attach` mounts."""

    def __init__(
        self, sandbox: str, volumes: Mapping[str, FileSystem], on_fs: OnFs | None = None
    ) -> None:
        self._sandbox = sandbox
        self._on_fs = on_fs
        self._volumes = dict(sorted(volumes.items()))  # those below others after them
        self._carriers: dict[str, _Carrier] = {}

    @property
    def mounted(self) -> dict[str, FileSystem]:
        """The file systems by their paths."""
        return dict(self._volumes)

    @property
    def served(self) -> list[str]:
        """Where something is served now, also where it is only that a volume is gone."""
        return list(self._carriers)

    async def attach(
        self, session: GuestSession, before: Sequence[str] = (),
        saved: Mapping[str, Any] | None = None, folder: Path | None = None,
    ) -> None:  # fmt: skip
        """Mount all in a machine that has come up, or go on with those of one that was saved.

        Args:
            before: where volumes are mounted in a machine that goes on.
            saved: what its guest knows of them.
            folder: where the contents are of those that the machine holds itself.

        Raises:
            ConfigError: one cannot be mounted.
        """
        self._carriers = {}
        tables = saved or {}
        for path in before:
            fs = self._volumes.get(path)
            table = tables.get(path) or {}
            if fs is not None and fs.held and folder is not None and table.get("contents"):
                await asyncio.to_thread(_load, fs, folder / table["contents"])
            # One that it was not given answers EIO to whatever is done with what was open.
            await self._mount(session, path, fs or Gone(), tables.get(path), again=True)
        for path, fs in self._volumes.items():
            if path not in before:
                await self._mount(session, path, fs)

    async def add(self, session: GuestSession, path: str, fs: FileSystem) -> None:
        """Mount one more.

        Raises:
            ConfigError: it cannot be mounted.
        """
        await self._mount(session, path, fs)
        self._volumes[path] = fs

    async def remove(self, session: GuestSession, path: str, *, force: bool = False) -> None:
        """Unmount one.

        Raises:
            ConfigError: it is in use and `force` was not said.
        """
        try:
            await session.call(Unmount(volume=path, flags=Unmount.DETACH if force else 0))
        except (SandboxDied, GuestProtocolError):
            raise
        except SandboxError as error:
            raise ConfigError(
                f"the volume at {path} cannot be unmounted: {error.message}",
                hint="end what uses it, or use force",
            ) from error
        self._volumes.pop(path, None)
        carrier = self._carriers.pop(path, None)
        if carrier is not None:
            await carrier.close()

    async def _mount(
        self, session: GuestSession, path: str, fs: FileSystem,
        saved: dict[str, Any] | None = None, *, again: bool = False,
    ) -> None:  # fmt: skip
        root = await fs.getattr(Context(0, 0, 0, self._sandbox, path), fs.root)
        flags = Mount.READ_ONLY if fs.readonly else 0
        flags |= Mount.WRITEBACK if fs.cache == "fast" else 0
        flags |= Mount.NO_FLUSH if fs.remote_locks and not fs.flushes else 0
        flags |= Mount.AGAIN if again else 0
        mode = root.mode if stat.S_IFMT(root.mode) else root.mode | stat.S_IFDIR
        request = Mount(volume=path, path=path.encode(), flags=flags, mode=mode)
        carrier = _Carrier(session.channel, fs, self._sandbox, path, self._on_fs)
        await fs.start(carrier.served)  # before the guest is asked: it may refuse
        try:
            if again:
                await carrier.served.recall(saved)
            stream = session.channel.open(request, credit=CREDIT)
            carrier.number = stream.number
            async with asyncio.timeout(ANSWER_PATIENCE):
                answer = await stream.read_message()
        except BaseException:
            await carrier.close()
            raise
        if isinstance(answer, Failed):
            await carrier.close()
            raise ConfigError(f"the volume at {path} cannot be mounted: {answer.text}")
        if not isinstance(answer, Ok):
            await carrier.close()
            if answer is None:
                raise session.channel.error or SandboxDied("the sandbox has ended")
            error = GuestProtocolError(f"the guest answered {type(answer).__name__}")
            session.channel.fail(error)
            raise error
        self._carriers[path] = carrier
        session.channel.divert(stream, carrier)
        nudger = Nudger(session, carrier.served)
        if again:
            # What its kernel remembers was so when it was saved.
            await nudger.forget_all()
            carrier.served.tell_gone()
        carrier.ends = [nudger.close, fs.on_host_change(nudger.note)]

    async def save(self, folder: Path | None = None) -> dict[str, Any]:
        """What the guest knows of each, as JSON, for a machine that is saved now; the contents of
        those that it holds itself are written into the folder, if there is one."""
        saved = {}
        for number, (path, carrier) in enumerate(self._carriers.items()):
            table = saved[path] = carrier.served.save()
            if folder is not None and carrier.served.fs.held:
                table["contents"] = f"{CONTENTS}{number}"
                await asyncio.to_thread(_dump, carrier.served.fs, folder / table["contents"])
        return saved

    async def detach(self) -> None:
        """The machine is no more."""
        carriers, self._carriers = self._carriers, {}
        for carrier in carriers.values():
            await carrier.close()


def _dump(fs: FileSystem, path: Path) -> None:
    with path.open("wb") as file:
        fs.dump(file)


def _load(fs: FileSystem, path: Path) -> None:
    with path.open("rb") as file:
        fs.load(file)


class Gone(FileSystem):
    """What a restored machine knows of a volume that it was not given: EIO, whatever it asks."""

    async def getattr(self, ctx: Context, node: Any, handle: Any = None) -> Any:
        if node == self.root:
            return await super().getattr(ctx, node, handle)
        raise _gone()

    async def lookup(self, ctx: Context, parent: Any, name: str) -> Any:
        raise _gone()


def _gone() -> OSError:
    import errno

    return OSError(errno.EIO, "this volume is not here")
