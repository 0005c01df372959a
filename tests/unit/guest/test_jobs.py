"""What a guest says about jobs is checked before it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError, SandboxDied, SandboxError, WrongState
from sandlot.guest.jobs import JobOutput, check_job, ended_status, job_error
from sandlot.wire.messages import Exited, Failed, Job, Message, Output, Stdio, Watch
from tests.framework.agent import FakeAgent
from tests.unit.guest.test_session import talk

RUNNING = Job(process=9, argv=(b"x",), pid=5, flags=Job.RUNNING, newest=10)


def answering(*messages: Message, fin: bool = True) -> Any:
    def handler(agent: FakeAgent, stream: int, message: Message) -> None:
        if isinstance(message, Watch | Stdio):
            for each in messages:
                agent.say(stream, each)
            if fin:
                agent.mux.finish(stream)

    return handler


async def test_output_and_its_end() -> None:
    said = (Output(offset=0, descriptor=1, data=b"ab"), Output(offset=5, descriptor=2, data=b"c"))
    async with talk(answering(RUNNING, *said, Exited(code=3))) as (session, _):
        watch = await session.watch(9)
        assert await watch.next() == JobOutput(0, "stdout", b"ab")
        piece = await watch.next()
        assert piece == JobOutput(5, "stderr", b"c", dropped=3) and piece.next_offset == 6
        assert await watch.next() is None
        assert watch.status is not None and watch.status.exit_code == 3
        assert await watch.next() is None


@pytest.mark.parametrize(
    "said",
    [
        Output(offset=0, descriptor=0, data=b"x"),
        Output(offset=0, descriptor=3, data=b"x"),
        Output(offset=0, descriptor=1),
        Output(offset=1 << 63, descriptor=1, data=b"x"),
        Job(process=1),
    ],
)
async def test_impossible_output(said: Message) -> None:
    async with talk(answering(RUNNING, said)) as (session, _):
        watch = await session.watch(9)
        with pytest.raises(GuestProtocolError):
            await watch.next()


async def test_an_offset_that_goes_back() -> None:
    piece = Output(offset=4, descriptor=1, data=b"xyz")
    async with talk(answering(RUNNING, piece, piece)) as (session, _):
        watch = await session.watch(9)
        await watch.next()
        with pytest.raises(GuestProtocolError):
            await watch.next()


async def test_refusals() -> None:
    async with talk(answering(Failed(code="no-job"))) as (session, _):
        with pytest.raises(WrongState, match="no job"):
            await session.watch(9)
        with pytest.raises(WrongState, match="no job"):
            await session.own_input(9)
    async with talk(answering(Exited())) as (session, _):
        with pytest.raises(GuestProtocolError):
            await session.watch(9)
        with pytest.raises(GuestProtocolError):
            await session.own_input(9)
    async with talk(answering()) as (session, _):
        with pytest.raises((GuestProtocolError, SandboxDied)):
            await session.watch(9)


async def test_a_listing_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.guest.session.MOST_JOBS", 3)

    def handler(agent: FakeAgent, stream: int, message: Message) -> None:
        for _ in range(10):
            agent.say(stream, RUNNING)

    async with talk(handler) as (session, _):
        with pytest.raises(GuestProtocolError, match="too much"):
            await session.jobs()


@pytest.mark.parametrize("code", ["busy", "no-input", "closed", "other"])
def test_words_for_people(code: str) -> None:
    error = job_error(Failed(code=code, text="why\x1b[0m"), "abc")
    assert isinstance(error, SandboxError) and "abc" in error.message
    assert "\x1b" not in error.message


@given(
    st.builds(
        Job,
        oldest=st.integers(0, 2**64 - 1), newest=st.integers(0, 2**64 - 1),
        flags=st.integers(0, 7), signal=st.integers(0, 2**64 - 1),
    )
)  # fmt: skip
def test_any_job_is_sound_or_blamed(job: Job) -> None:
    try:
        check_job(job)
    except GuestProtocolError:
        assert not job.oldest <= job.newest < 1 << 62
    assert (ended_status(job) is None) == bool(job.flags & Job.RUNNING)
