"""A sandbox whose changes are pushed as they come: version after version, until it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    ConfigError,
    RemoteConflict,
    RemoteDamaged,
    RemoteError,
    SandboxError,
    StateError,
    WrongState,
)
from sandlot.remote.place import checked_push_name
from sandlot.remote.remote import Remote, blamed
from sandlot.remote.repository import Repository
from sandlot.remote.versions import Progress, Pushed
from sandlot.sandbox.hearing import listening
from sandlot.sandbox.pushing import push_sandbox

if TYPE_CHECKING:
    from sandlot.sandbox.streaming import Streaming

RETRY = 30.0
"""Seconds until a push that failed is tried again where no interval was said."""
REMEMBERED = 100
# What no later try mends.
_FINAL = (RemoteConflict, RemoteDamaged, ConfigError)


class LivePush:
    """What streams the changes of one sandbox, as `Sandbox.push_live` returns it.

        async with sb.push_live("s3://bucket/work", interval="30s") as live:
            await sb.exec("make")
            await live.flush()              # what was written until now is there
            print(live.last.version, live.error)

    Entering pushes the first version; leaving pushes what was written since the last one.
    """

    def __init__(
        self, sandbox: Streaming, remote: Remote, name: str | None, *, interval: float | None,
        after_exec: bool, memory: bool, keep: int, force: bool, level: int,
        told: Callable[[Pushed], object] | None, progress: Progress | None,
    ) -> None:  # fmt: skip
        self._sandbox = sandbox
        self._remote = remote
        self._name = checked_push_name(name or sandbox.name)
        self._interval = interval
        self._after_exec = after_exec
        self._memory = memory
        self._keep = keep
        self._force = force
        self._level = level
        self._tell = told or (lambda pushed: None)
        self._progress = progress
        self._versions: deque[Pushed] = deque(maxlen=REMEMBERED)
        self._error: SandboxError | None = None
        self._failures = 0
        self._mark = ""
        """What stood for the disk that was pushed last."""
        self._repository: Repository | None = None
        self._stack = AsyncExitStack()
        self._due = asyncio.Event()
        """Something happened that a point is for."""
        self._waiting: list[asyncio.Future[None]] = []
        self._leaving = False
        self._over = False
        """The sandbox has ended."""
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None]

    def __repr__(self) -> str:
        version = self.last.version if self.last is not None else None
        return f"<LivePush {self._name!r} version={version} failures={self._failures}>"

    # -- what users see --------------------------------------------------------------------

    @property
    def last(self) -> Pushed | None:
        """The newest version that was pushed."""
        return self._versions[-1] if self._versions else None

    @property
    def versions(self) -> Sequence[Pushed]:
        """Those that were pushed, the newest last; of very many the last hundred."""
        return tuple(self._versions)

    @property
    def error(self) -> SandboxError | None:
        """Why the last try failed; None when it did not. It is tried again at the next point."""
        return self._error

    @property
    def failures(self) -> int:
        """How many tries failed so far."""
        return self._failures

    async def flush(self) -> None:
        """Push what was written until now, without waiting for the next point.

        Raises:
            RemoteError: it could not be pushed; it is tried again at the next point.
            WrongState: nothing is pushed any more, because the sandbox has ended.
        """
        if self._task is None or self._task.done():
            raise WrongState(
                f"the changes of sandbox {self._sandbox.name!r} are not pushed any more"
            )
        asked = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._due.set()
        await asked

    async def wait(self) -> None:
        """Wait until nothing is pushed any more: the sandbox has ended, and what it wrote was
        pushed.

        Raises:
            RemoteConflict, RemoteDamaged: the remote has something else now.
            RemoteError: the last version could not be pushed.
        """
        if self._task is not None:
            await asyncio.shield(self._task)

    async def __aenter__(self) -> LivePush:
        loop = asyncio.get_running_loop()
        self._first = loop.create_future()
        self._task = loop.create_task(self._run())
        self._task.add_done_callback(_retrieve)
        try:
            await asyncio.wait([self._first, self._task], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._cancel()
            raise
        if not self._first.done():
            await self._task  # raises what is wrong
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        assert self._task is not None
        if isinstance(error, asyncio.CancelledError):
            await self._cancel()
            return
        self._leaving = True
        self._due.set()
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self._cancel()
            raise
        except SandboxError:
            if error is None:
                raise

    async def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # -- the points ------------------------------------------------------------------------

    async def _run(self) -> None:
        """From the first point to the last one."""
        ended = WrongState(f"the changes of sandbox {self._sandbox.name!r} are not pushed any more")
        try:
            async with self._stack, listening(self._sandbox, self._heard, self._ended):
                await self._push(await self._sandbox._disk_mark())
                self._first.set_result(None)
                while not self._leaving and not self._over:
                    await self._next()
                    if not self._leaving and not self._over:
                        await self._point()
                await self._last_point()
        except SandboxError as error:
            ended = WrongState(ended.message, hint=error.message)
            raise
        finally:
            self._answer(self._waiting, ended)

    def _heard(self) -> None:
        if self._after_exec:
            self._due.set()

    def _ended(self) -> None:
        self._over = True
        self._due.set()

    async def _next(self) -> None:
        """Wait for what a point is for."""
        patience = self._interval or (RETRY if self._error is not None else None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._due.wait()
        # What happens from now on is for the point after this one.
        self._due.clear()

    async def _point(self) -> None:
        """Push what changed; a failure is told, and leaves the sandbox alone."""
        waiting, self._waiting = self._waiting, []
        try:
            await self._push_changes()
        except SandboxError as error:
            self._answer(waiting, error)
            if isinstance(error, _FINAL):
                self._error = error
                raise
            if self._sandbox._runs():  # what its end cuts off is for the last point
                self._failed(error)
            return
        self._answer(waiting, None)

    @staticmethod
    def _answer(waiting: list[asyncio.Future[None]], error: SandboxError | None) -> None:
        for each in waiting:
            if each.done():
                continue
            if error is None:
                each.set_result(None)
            else:
                each.set_exception(error)

    def _failed(self, error: SandboxError) -> None:
        self._failures += 1
        self._error = error
        self._sandbox._host.tell(
            f"{self._name} was not pushed, which is tried again: {error.message}"
        )

    async def _push_changes(self) -> None:
        """Push, unless nothing was written since the last time."""
        mark = await self._sandbox._disk_mark()
        if mark and (self._memory or mark != self._mark):
            await self._push(mark)

    async def _last_point(self) -> None:
        """What was written since the last one, unless the sandbox has failed or is gone."""
        waiting, self._waiting = self._waiting, []
        try:
            if self._over:
                await self._push_the_end()
            else:
                mark = await self._sandbox._disk_mark()
                if self._memory or not mark or mark != self._mark:
                    await self._push(mark)
        except SandboxError as error:
            self._failures += 1
            self._error = error
            self._answer(waiting, error)
            raise
        self._answer(waiting, None)

    async def _push_the_end(self) -> None:
        """Push the disk that the sandbox left."""
        lost = f"what {self._name} wrote after its last version was not pushed"
        sandbox = await self._sandbox._as_it_ended()
        if sandbox is None:
            self._sandbox._host.tell(f"{lost}: its machine died, or it was removed")
            return
        before, self._sandbox = self._sandbox, sandbox
        try:
            await self._push()
        except SandboxError:
            if before._is_there():
                raise
            before._host.tell(f"{lost}: it was removed")

    async def _push(self, mark: str = "") -> None:
        for last in (False, True):
            try:
                pushed = await self._once()
                break
            except RemoteConflict:
                # Of one that stood still for too long nothing is there; what somebody else has
                # pushed is there the second time too.
                if last or not self._versions:
                    raise
        self._mark, self._error, self._force = mark, None, False
        self._versions.append(pushed)
        self._tell(pushed)

    async def _once(self) -> Pushed:
        options: dict[str, Any] = {"keep": self._keep, "force": self._force, "level": self._level}
        if self._progress is not None:
            options["tell"] = self._progress
        try:
            async with self._opened() as repository:
                return await push_sandbox(
                    repository, self._sandbox, self._name, memory=self._memory and not self._over,
                    options=options, quiet=True,
                )  # fmt: skip
        except RemoteError:
            await self._drop()
            raise
        except OSError as error:  # of files here, as of a sandbox that is just being removed
            raise StateError(f"sandbox {self._sandbox.name!r} cannot be saved: {error}") from error

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[Repository]:
        """The remote, which stays open from one point to the next."""
        if self._repository is None:
            opening = self._remote.open(create=True)
            self._repository = await self._stack.enter_async_context(opening)
        with blamed(self._repository.address):
            yield self._repository

    async def _drop(self) -> None:
        """Open it anew the next time."""
        self._repository = None
        with contextlib.suppress(RemoteError):
            await self._stack.aclose()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Who leaves the block is told; nobody may have to."""
    if not task.cancelled():
        task.exception()
