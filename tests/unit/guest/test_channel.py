"""The host's end of the channel, against an agent that this test plays."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import Iterator

import pytest

from sandlot.errors import GuestProtocolError, SandboxDied
from sandlot.guest import channel as channels
from sandlot.guest.channel import BULK_CREDIT, Channel
from sandlot.wire.frames import FIRST_TOKEN, Flag, Frame, Type, encode
from sandlot.wire.messages import Clock, Message, Ok, Stdio
from sandlot.wire.messages import encode as encode_message
from tests.framework.agent import FakeAgent

PATIENCE = 10.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


Pair = tuple[socket.socket, socket.socket]


async def connect(sock: socket.socket, **options: object) -> Channel:
    channel, _ = await Channel.resynced(
        sock,
        None,
        FIRST_TOKEN,
        **{"patience": PATIENCE, **options},  # type: ignore[arg-type]
    )
    return channel


def keep_quiet(agent: FakeAgent, stream: int, message: Message) -> None:
    """Answers nothing."""


@pytest.mark.parametrize("before", [b"", b"\0" * 5000, b"\x00sandlot-resync\xff" + b"x" * 15])
async def test_resync_skips_what_an_old_session_left(pair: Pair, before: bytes) -> None:
    async with FakeAgent(pair[1], before=before) as agent:
        channel, token = await Channel.resynced(pair[0], None, FIRST_TOKEN, patience=PATIENCE)
        stream = channel.open(Clock(time_ns=7))
        await agent.until(lambda: agent.saw(Clock))
        stream.finish()
        assert len(token) == 16
        channel.close()


async def test_a_silent_agent_is_given_up(pair: Pair) -> None:
    async with FakeAgent(pair[1], silent=True):
        broken: list[Exception] = []
        with pytest.raises(GuestProtocolError, match="silent"):
            await connect(pair[0], patience=0.05, broken=broken.append)
        assert [type(error) for error in broken] == [GuestProtocolError]


async def test_an_endless_answer_to_resync_is_given_up(pair: Pair) -> None:
    async with FakeAgent(pair[1], before=b"\xaa" * (17 << 20)):
        with pytest.raises(GuestProtocolError, match="no answer to resync"):
            await connect(pair[0])


async def test_a_lost_connection_during_resync(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises((SandboxDied, BrokenPipeError)):
        await connect(pair[0])


GARBAGE = [
    b"\xff" * 12,  # no such version
    encode(Frame(99, 0, 0, 0)),
    encode(Frame(Type.DATA, 0x40, 1, 0)),
    encode(Frame(Type.DATA, 0, 12345, 1, b"x")),  # a stream nobody opened
    encode(Frame(Type.DATA, Flag.SYN, 3, 0)),  # opens one of our numbers
    encode(Frame(Type.CREDIT, 0, 1, 1 << 30)),
    encode(Frame(Type.GO_AWAY, 0, 0, 1)),
    encode(Frame(Type.SHARED, 0, 1, 10, offset=0)),  # there is no window
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_ends_the_session_for_everyone(pair: Pair, garbage: bytes) -> None:
    async with FakeAgent(pair[1], handler=keep_quiet) as agent:
        broken: list[Exception] = []
        channel = await connect(pair[0], broken=broken.append)
        waiting = [asyncio.ensure_future(channel.open(Clock()).read()) for _ in range(3)]
        await agent.until(lambda: len(agent.messages) == 3)
        await agent.raw(garbage)
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, GuestProtocolError)
        assert len(broken) == 1
        with pytest.raises(GuestProtocolError):
            channel.open(Clock())


async def test_a_stream_that_the_guest_opens_is_reset(pair: Pair) -> None:
    async with FakeAgent(pair[1]) as agent:
        channel = await connect(pair[0])
        theirs = agent.mux.open()
        agent.mux.send(theirs, b"let me in")
        await agent.flush()
        await agent.until(lambda: theirs in agent.was_reset)
        assert channel.error is None
        channel.close()


async def test_a_lost_connection_is_the_sandboxs_death(pair: Pair) -> None:
    agent = FakeAgent(pair[1], handler=keep_quiet)
    async with agent:
        channel = await connect(pair[0], died=lambda: SandboxDied("gone", console_tail="oops"))
        stream = channel.open(Clock())
        await agent.until(lambda: agent.saw(Clock))
    with pytest.raises(SandboxDied) as caught:
        await stream.read()
    assert caught.value.console_tail == "oops"


async def test_a_malformed_message_ends_the_session(pair: Pair) -> None:
    def lie(agent: FakeAgent, stream: int, message: Message) -> None:
        agent.mux.send(stream, b"\x80\xff\xff\xff\xff")

    async with FakeAgent(pair[1], handler=lie):
        channel = await connect(pair[0])
        with pytest.raises(GuestProtocolError, match="message of"):
            await channel.open(Clock()).read_message()
        assert isinstance(channel.error, GuestProtocolError)


async def test_an_unanswered_ping_ends_the_session(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "SILENCE_TICK", 0.005)
    async with FakeAgent(pair[1], handler=keep_quiet) as agent:
        channel = await connect(pair[0])
        assert agent._task is not None
        agent._task.cancel()  # the guest hangs, its socket stays open
        with pytest.raises(GuestProtocolError, match="ping"):
            await channel.open(Clock()).read()


async def test_an_answered_ping_keeps_the_session(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "SILENCE_TICK", 0.02)
    async with FakeAgent(pair[1], handler=keep_quiet):
        channel = await connect(pair[0])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(channels.SILENCE_TICKS * 0.02 * 2):
                await channel.open(Clock()).read()
        assert channel.error is None
        channel.close()


async def test_closing_ends_the_waiters_and_tells_nobody(pair: Pair) -> None:
    async with FakeAgent(pair[1], handler=keep_quiet):
        broken: list[Exception] = []
        channel = await connect(pair[0], broken=broken.append)
        stream = channel.open(Clock())
        channel.close()
        with pytest.raises(SandboxDied):
            await stream.read()
        assert not broken


async def test_writes_wait_for_a_slow_reader(pair: Pair) -> None:
    async with FakeAgent(pair[1], handler=keep_quiet) as agent:
        agent.consumes = False
        channel = await connect(pair[0])
        stream = channel.open(Stdio(process=1, descriptor=0))
        writing = asyncio.ensure_future(stream.write(b"x" * (1 << 20)))
        await agent.until(lambda: sum(map(len, agent.data.values())) > 250_000)
        held = sum(map(len, agent.data.values()))
        assert held <= 256 * 1024
        assert not writing.done()
        agent.consumes = True
        agent.mux.consumed(stream.number, held)
        await agent.flush()
        await writing
        stream.finish()
        await agent.until(lambda: stream.number in agent.ended)
        assert len(agent.data[stream.number]) == 1 << 20
        channel.close()


async def test_a_writer_learns_that_nobody_reads(pair: Pair) -> None:
    def refuse(agent: FakeAgent, stream: int, message: Message) -> None:
        agent.mux.reset(stream)

    async with FakeAgent(pair[1], handler=refuse):
        channel = await connect(pair[0])
        stream = channel.open(Stdio(process=1, descriptor=0))
        with pytest.raises(BrokenPipeError):
            await stream.write(b"x" * (1 << 20))
        assert stream.was_reset
        channel.close()


async def test_a_hundred_megabytes_stay_bounded(pair: Pair) -> None:
    total, piece = 100 << 20, bytes(1 << 16)

    async def pour(agent: FakeAgent) -> None:
        left = total
        while left:
            sent = agent.mux.send(stream.number, piece[:left])
            left -= sent
            await agent.flush()
            if not sent:
                agent.changed.clear()
                await agent.changed.wait()
        agent.mux.finish(stream.number)
        await agent.flush()

    async with FakeAgent(pair[1], handler=keep_quiet) as agent:
        channel = await connect(pair[0])
        stream = channel.open(Stdio(process=1, descriptor=1), credit=BULK_CREDIT)
        await agent.until(lambda: agent.saw(Stdio))
        tracemalloc.start()
        try:
            pouring = asyncio.ensure_future(pour(agent))
            received = 0
            while data := await stream.read():
                received += len(data)
            await pouring
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert received == total
        assert peak < 24 << 20
        assert channel.statistics()["in"] == 0
        channel.close()


async def test_both_ends_of_a_local_session(pair: Pair) -> None:
    """As the door uses it: no resync, and streams are accepted."""
    served: asyncio.Queue[channels.ChannelStream] = asyncio.Queue()
    server = Channel(client=False, accept=served.put_nowait)
    pair[1].setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: server, sock=pair[1])
    client = await Channel.connected(pair[0])
    stream = client.open(Clock(time_ns=3))
    other = await served.get()
    assert await other.read_message() == Clock(time_ns=3)
    other.put(encode_message(Ok()))
    other.finish()
    assert await stream.read_message() == Ok()
    assert await stream.read_message() is None
    client.close()
    with pytest.raises(SandboxDied):
        while True:
            await other.read()
            if server.error:
                raise server.error
