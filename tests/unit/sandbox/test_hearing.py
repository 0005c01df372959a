"""Who hears of the ends of programs, without a machine; real ones in tests/vm/test_live.py."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import SandboxDied, WrongState
from sandlot.sandbox.hearing import Hearing, listening
from sandlot.wire.messages import Job, Message, MessageReader, Ok
from sandlot.wire.snapshot import Heard, Listen


class Owner:
    def __init__(self, jobs: list[Job]) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.owned: Any = SimpleNamespace(session=Session(jobs))
        self.asleep = self.paused = False
        self.main = 7
        self.alive = True
        self.ended = asyncio.Event()
        self.hearing = Hearing(self)  # type: ignore[arg-type]  # a fake

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def over(self) -> None:
        await self.ended.wait()


class Session:
    """Jobs whose ends come when `end` is set."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self.end = asyncio.Event()
        self.watched: list[int] = []

    async def jobs(self) -> list[Job]:
        return self._jobs

    async def watch(self, number: int, *, flags: int) -> Any:
        self.watched.append(number)
        if number == 99:
            raise WrongState("there is no such job")

        async def following() -> None:
            await self.end.wait()

        return SimpleNamespace(next=following, close=lambda: None)


class Stream:
    """The visitor's end is told by hand, and what it is sent is kept."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.room = asyncio.Event()
        self.room.set()
        self.finished = False
        self._reader = MessageReader()

    def put(self, data: bytes) -> None:
        self.said += self._reader.receive(data)

    async def write(self, data: bytes) -> None:
        await self.room.wait()
        self.put(data)

    async def read_message(self) -> None:
        await self.gone

    def finish(self) -> None:
        self.finished = True


def job(number: int, *, running: bool = True) -> Job:
    return Job(process=number, flags=Job.RUNNING if running else 0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_programs_and_jobs_are_heard_while_somebody_listens() -> None:
    owner = Owner([job(1), job(2, running=False), job(7)])
    told: list[int] = []
    owner.hearing.ended()
    owner.hearing.job(owner.owned.session, 5)  # nobody listens
    with owner.hearing.telling(lambda: told.append(1)):
        await settle()
        assert owner.owned.session.watched == [1]  # neither an ended one nor the main command
        owner.hearing.ended()
        owner.hearing.job(owner.owned.session, 8)
        owner.hearing.job(owner.owned.session, 99)
        await settle()
        assert len(told) == 2 and owner.owned.session.watched == [1, 8, 99]
        owner.owned.session.end.set()
        await settle()
        assert len(told) == 4
    owner.hearing.ended()
    assert len(told) == 4
    owner.asleep = True
    with owner.hearing.telling(lambda: told.append(1)):
        await settle()
    assert len(owner.owned.session.watched) == 3


async def test_a_visitor_that_reads_slowly_is_told_once() -> None:
    owner, stream = Owner([]), Stream()
    serving = asyncio.create_task(owner.hearing.serve(stream))  # type: ignore[arg-type]  # a fake
    await settle()
    assert stream.said == [Ok()]
    stream.room.clear()
    for _ in range(1000):
        owner.hearing.ended()
        await asyncio.sleep(0)
    stream.room.set()
    await settle()
    assert stream.said[1:] in ([Heard()], [Heard(), Heard()])
    stream.gone.set_result(None)
    await serving
    assert stream.finished and not owner.hearing._told


async def test_the_owner_hears_itself_and_its_end() -> None:
    owner = Owner([])
    told: list[str] = []
    sandbox: Any = SimpleNamespace(_owner=owner)
    async with listening(sandbox, lambda: told.append("heard"), lambda: told.append("over")):
        owner.hearing.ended()
        owner.ended.set()
        await settle()
        assert told == ["heard", "over"]
    async with listening(sandbox, lambda: None, lambda: told.append("late")):
        owner.ended.clear()
    await settle()
    assert "late" not in told


async def test_a_visitor_hears_through_the_door() -> None:
    answers: asyncio.Queue[Message | None] = asyncio.Queue()
    asked: list[Message] = []

    class Channel:
        error = None

        def open(self, request: Message) -> Any:
            asked.append(request)
            return SimpleNamespace(read_message=answers.get, finish=lambda: None)

    async def session() -> Any:
        return SimpleNamespace(channel=Channel())

    sandbox: Any = SimpleNamespace(_owner=None, _session=session, name="box")
    told: list[str] = []
    answers.put_nowait(Ok())
    async with listening(sandbox, lambda: told.append("heard"), lambda: told.append("over")):
        assert asked == [Listen()]
        answers.put_nowait(Heard())
        answers.put_nowait(None)
        await settle()
        assert told == ["heard", "over"]
    answers.put_nowait(None)
    with pytest.raises(SandboxDied):
        async with listening(sandbox, lambda: None, lambda: None):
            raise AssertionError("nobody answered")
