"""When a point is, and what becomes of failures, without a machine; real ones in tests/vm/test_live.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot import (
    LivePush,
    Pushed,
    Remote,
    RemoteConflict,
    RemoteDamaged,
    RemoteUnreachable,
    SandboxError,
    StateError,
    WrongState,
)
from sandlot.sandbox import live as module

PUSHED: dict[str, Any] = {
    "name": "box", "kind": "sandbox", "remote": "x", "size": 1, "added": 1, "moved": 1,
    "seconds": 0.0,
}  # fmt: skip


class Box:
    """A sandbox that only counts what is written to it, with a remote that only counts pushes."""

    name = "box"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = 1
        self.still = False
        self.runs = True
        self.fails: list[Exception] = []
        """What the next pushes raise."""
        self.pushes: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.said: list[str] = []
        self.ended: Any = self
        self._host = SimpleNamespace(tell=self.said.append)
        self.heard: Callable[[], None]
        self.over: Callable[[], None]
        monkeypatch.setattr(module, "push_sandbox", self._push)
        monkeypatch.setattr(module, "listening", self._listening)

    @contextlib.asynccontextmanager
    async def _listening(self, _: Any, heard: Any, over: Any) -> AsyncIterator[None]:
        if not self.runs:
            raise WrongState("it does not run")
        self.heard, self.over = heard, over
        yield

    async def _push(self, repository: Any, sandbox: Any, name: str, **how: Any) -> Pushed:
        self.begun.set()
        await self.gate.wait()
        if self.fails:
            raise self.fails.pop(0)
        self.pushes.append(how)
        return Pushed(version=len(self.pushes), **PUSHED)

    async def _disk_mark(self) -> str:
        return "" if self.still else str(self.written)

    async def _as_it_ended(self) -> Any:
        return self.ended

    def _runs(self) -> bool:
        return self.runs

    def _is_there(self) -> bool:
        return self.ended is not None

    def live(self, **how: Any) -> LivePush:
        given: dict[str, Any] = {
            "interval": None, "after_exec": True, "memory": False, "keep": 5, "force": False,
            "level": 1, "told": None, "progress": None, **how,
        }  # fmt: skip
        return LivePush(self, FakeRemote(), None, **given)  # type: ignore[arg-type]  # a fake

    def exec(self) -> None:
        """A program that writes has ended."""
        self.written += 1
        self.heard()


class FakeRemote(Remote):
    @contextlib.asynccontextmanager
    async def open(self, **_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(address="x")


@pytest.fixture
async def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(monkeypatch)


async def settled(live: LivePush, version: int) -> None:
    while live.last is None or live.last.version < version:
        await asyncio.sleep(0)


async def test_one_at_the_beginning_and_one_at_the_end_if_anything_was_written(box: Box) -> None:
    versions: list[int] = []
    async with box.live(told=lambda pushed: versions.append(pushed.version)) as live:
        assert live.last is not None and live.last.version == 1
        await live.flush()
    assert len(box.pushes) == 1 and "version=1" in repr(live)
    async with box.live() as live:
        box.written += 1
    assert len(box.pushes) == 3 and [each.version for each in live.versions] == [2, 3]
    assert versions == [1] and box.pushes[0]["quiet"] and not box.said


async def test_programs_that_end_during_a_push_have_one_point_together(box: Box) -> None:
    async with box.live() as live:
        box.gate.clear()
        box.begun.clear()
        box.exec()
        await box.begun.wait()
        for _ in range(50):
            box.exec()
            await asyncio.sleep(0)
        box.gate.set()
        await settled(live, 3)
        await live.flush()
    assert len(box.pushes) == 3
    async with box.live(after_exec=False, interval=1e6) as live:
        box.exec()
        await asyncio.sleep(0)
        assert len(box.pushes) == 4


async def test_what_stands_still_is_not_pushed_and_memory_always_is(box: Box) -> None:
    async with box.live(interval=1e-9) as live:
        await settled(live, 1)
        box.still = True
        box.written += 1
        await live.flush()
        assert len(box.pushes) == 1
        box.still = False
        await settled(live, 2)
    async with box.live(memory=True, interval=1e-9) as live:
        await settled(live, 5)
    assert all(each["memory"] for each in box.pushes[2:])


async def test_a_failure_is_told_and_tried_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.001)
    async with box.live() as live:
        box.fails = [RemoteUnreachable("cut off"), RemoteUnreachable("cut off")]
        box.written += 1
        with pytest.raises(RemoteUnreachable):
            await live.flush()
        assert isinstance(live.error, RemoteUnreachable) and live.failures == 1
        await settled(live, 2)  # by itself
        assert live.error is None and live.failures == 2
    assert len(box.said) == 2 and "tried again: cut off" in box.said[0]
    with pytest.raises(RemoteUnreachable):
        async with box.live() as live:
            box.fails = [RemoteUnreachable("cut off")]
            box.written += 1
    assert live.failures == 1
    async with box.live() as live:
        box.fails = [OSError("of a file here")]
        box.written += 1
        with pytest.raises(StateError, match="of a file here"):
            await live.flush()
    with pytest.raises(ZeroDivisionError):  # whose is worse
        async with box.live():
            box.fails = [RemoteUnreachable("cut off")]
            box.written += 1
            raise ZeroDivisionError


async def test_what_somebody_else_pushed_ends_it(box: Box) -> None:
    with pytest.raises(RemoteConflict):
        async with box.live(force=True) as live:
            box.fails = [RemoteConflict("theirs"), RemoteConflict("theirs")]
            box.exec()
            with pytest.raises(RemoteConflict):
                await live.wait()
            with pytest.raises(WrongState, match="not pushed any more"):
                await live.flush()
    assert isinstance(live.error, RemoteConflict)
    # One that had only stood still for too long goes on.
    async with box.live(force=True) as live:
        box.fails = [RemoteConflict("taken for dead")]
        box.written += 1
        await live.flush()
    assert [each["options"]["force"] for each in box.pushes] == [True, True, False]
    with pytest.raises(RemoteDamaged):
        async with box.live() as live:
            box.fails = [RemoteDamaged("older")]
            box.exec()
            await live.wait()


async def test_what_is_wrong_at_the_beginning_is_raised_there(box: Box) -> None:
    for error in (RemoteConflict("theirs"), RemoteUnreachable("no route")):
        box.fails = [error]
        with pytest.raises(type(error)):
            async with box.live():
                raise AssertionError("it was let in")
    box.runs = False
    with pytest.raises(WrongState):
        async with box.live():
            raise AssertionError("it was let in")


async def test_the_end_of_the_sandbox_has_the_last_point(box: Box) -> None:
    async with box.live() as live:
        box.over()
        await live.wait()
        assert live.last is not None and live.last.version == 2
    box.ended = None  # its machine died, or it was removed
    async with box.live() as live:
        box.over()
        await live.wait()
    assert len(box.pushes) == 3 and "not pushed" in box.said[0]


async def test_what_the_end_cuts_off_is_no_failure(box: Box) -> None:
    async with box.live() as live:
        box.fails = [SandboxError("it has ended")]
        box.runs = False
        box.exec()
        while box.fails:
            await asyncio.sleep(0)
        box.over()
        await live.wait()
    assert live.failures == 0 and not box.said and len(box.pushes) == 2


async def test_cancelled_it_pushes_no_more(box: Box) -> None:
    async def streams() -> None:
        async with box.live():
            box.gate.clear()
            box.begun.clear()
            box.exec()
            await box.begun.wait()
            await asyncio.sleep(1e6)

    task = asyncio.create_task(streams())
    await box.begun.wait()
    while box.gate.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(box.pushes) == 1
    # While the first one is on its way.
    task = asyncio.create_task(streams())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # While it waits for the last one.
    box.gate.set()
    live = box.live()
    await live.__aenter__()
    box.gate.clear()
    box.begun.clear()
    box.written += 1
    leaving = asyncio.create_task(live.__aexit__(None, None, None))
    await box.begun.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert len(box.pushes) == 2
