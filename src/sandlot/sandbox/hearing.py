"""Who is told that programs in a sandbox have ended, whoever has started them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from sandlot.errors import SandboxDied, SandboxError
from sandlot.guest.channel import ChannelStream
from sandlot.wire.messages import Ok, Watch, encode
from sandlot.wire.snapshot import Heard, Listen

if TYPE_CHECKING:
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.life import Life
    from sandlot.sandbox.owner import Owner

Told = Callable[[], object]


class Hearing:
    """Of one owner: it sees every program, its own and those of visitors."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._told: list[Told] = []

    def ended(self) -> None:
        """A program has ended."""
        for each in tuple(self._told):
            each()

    def job(self, session: GuestSession, number: int) -> None:
        """A job runs."""
        if self._told:
            self._owner.run(self._follow(session, number))

    @contextlib.contextmanager
    def telling(self, told: Told) -> Iterator[None]:
        """Tell somebody until the end of the block; of jobs that run already too."""
        if not self._told:
            self._owner.run(self._follow_all())
        self._told.append(told)
        try:
            yield
        finally:
            self._told.remove(told)

    async def serve(self, stream: ChannelStream) -> None:
        """Tell a visitor until it goes away."""
        news = asyncio.Event()

        async def tell() -> None:
            while True:
                await news.wait()
                news.clear()  # those that end while this is sent are told together
                await stream.write(encode(Heard()))

        with self.telling(news.set):
            stream.put(encode(Ok()))
            telling = asyncio.get_running_loop().create_task(tell())
            try:
                await stream.read_message()
            finally:
                telling.cancel()
        stream.finish()

    async def _follow_all(self) -> None:
        owned = self._owner.owned
        if owned is None or self._owner.asleep or self._owner.paused:
            return  # no job runs in one that sleeps
        with contextlib.suppress(SandboxError):
            for job in await owned.session.jobs():
                if job.flags & job.RUNNING and job.process != self._owner.main:
                    self.job(owned.session, job.process)

    async def _follow(self, session: GuestSession, number: int) -> None:
        with contextlib.suppress(SandboxError):
            watch = await session.watch(number, flags=Watch.STATUS)
            try:
                while await watch.next() is not None:
                    pass
            finally:
                watch.close()
        self.ended()


@contextlib.asynccontextmanager
async def listening(sandbox: Life, told: Told, over: Told) -> AsyncIterator[None]:
    """Call `told` when programs in a running sandbox have ended, and `over` when the sandbox has.

    Raises:
        WrongState: it does not run.
    """
    owner = sandbox._owner
    loop = asyncio.get_running_loop()
    if owner is not None and owner.alive:
        waiting = loop.create_task(owner.over())
        waiting.add_done_callback(lambda task: task.cancelled() or over())
        try:
            with owner.hearing.telling(told):
                yield
        finally:
            waiting.cancel()
        return
    session = await sandbox._session()
    stream = session.channel.open(Listen())
    if not isinstance(await stream.read_message(), Ok):
        raise session.channel.error or SandboxDied(f"sandbox {sandbox.name!r} has ended")

    async def follow() -> None:
        with contextlib.suppress(SandboxError):
            while await stream.read_message() is not None:
                told()

    waiting = loop.create_task(follow())
    waiting.add_done_callback(lambda task: task.cancelled() or over())
    try:
        yield
    finally:
        waiting.cancel()
        stream.finish()
