"""What bounds the connections of a guest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.framework.borrowing import MadeUpPeers, lent

from sandlot.runtime import server as module
from sandlot.runtime.frames import HEADER, Kind, frame
from sandlot.runtime.server import MOST_AT_ONCE

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[MadeUpPeers]:
    made = MadeUpPeers()
    async with lent(tmp_path / "s", made):
        yield made


def request(**fields: Any) -> bytes:
    return frame(Kind.REQUEST, json.dumps({"version": 1, **fields}).encode())


async def connected(path: Path, data: bytes) -> Connection:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    return reader, writer


async def answered(connection: Connection) -> list[tuple[Kind, bytes]]:
    """Everything that is said on a connection until its end."""
    reader, writer = connection
    found = []
    async with asyncio.timeout(30):
        while head := await reader.read(HEADER.size):
            kind, size = HEADER.unpack(head)
            found.append((Kind(kind), await reader.readexactly(size)))
    writer.close()
    return found


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_request_is_answered(tmp_path: Path, peers: MadeUpPeers) -> None:
    found = await answered(await connected(tmp_path / "s", request(op="list")))
    assert [kind for kind, _ in found] == [Kind.ITEM, Kind.ITEM, Kind.ANSWER]


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (request(op="start", name="too-much"), "Refuse", "are taken"),
        (request(op="start", name="A"), "ConfigError", "not a name"),
        (request(op="reboot"), "GuestProtocolError", "nothing is called"),
        (bytes(100), "GuestProtocolError", "kind 0"),
        (
            request(op="logs", peer="a", follow=True) + frame(Kind.INPUT, b"x"),
            "GuestProtocolError",
            "takes no input",
        ),
        (request(op="exec", peer="a", command=["none"]), "CommandNotFound", "not found"),
    ],
)
async def test_a_refusal_is_told(
    tmp_path: Path, peers: MadeUpPeers, data: bytes, kind: str, word: str
) -> None:
    *_, (last, payload) = await answered(await connected(tmp_path / "s", data))
    said = json.loads(payload)
    assert (last, said["error"]) == (Kind.ERROR, kind)
    assert word in said["message"]


async def test_what_is_the_hosts_is_not_told(tmp_path: Path, peers: MadeUpPeers) -> None:
    data = request(op="start", name="broken")
    ((_, payload),) = await answered(await connected(tmp_path / "s", data))
    assert json.loads(payload) == {
        "error": "SandboxError", "message": "the host could not do it", "hint": "",
    }  # fmt: skip


async def test_a_thousand_at_once_are_refused_beyond_the_bound(
    tmp_path: Path, peers: MadeUpPeers
) -> None:
    data = request(op="exec", peer="a", command=["sleep"])
    held = [await connected(tmp_path / "s", data) for _ in range(MOST_AT_ONCE)]
    await wait_until(lambda: peers.running == MOST_AT_ONCE)
    for _ in range(50):
        more = [await connected(tmp_path / "s", data) for _ in range(20)]
        for each in more:
            ((kind, payload),) = await answered(each)
            assert (kind, json.loads(payload)["error"]) == (Kind.ERROR, "Refuse")
    assert peers.most == MOST_AT_ONCE
    for _, writer in held:
        writer.close()
    await wait_until(lambda: peers.running == 0)
    assert peers.cancelled == MOST_AT_ONCE
    assert await answered(await connected(tmp_path / "s", request(op="list")))


async def test_who_goes_away_ends_what_was_asked(tmp_path: Path, peers: MadeUpPeers) -> None:
    for data in (
        request(op="exec", peer="a", command=["sleep"], stdin=True),
        request(op="logs", peer="a", follow=True),
        request(op="write", peer="a", path="/a") + frame(Kind.INPUT, b"half"),
    ):
        _, writer = await connected(tmp_path / "s", data)
        before = peers.cancelled
        await wait_until(lambda: peers.running == 1)
        writer.close()
        await wait_until(lambda before=before: peers.cancelled == before + 1)
    assert peers.written == b""


async def test_who_says_nothing_is_sent_away(
    tmp_path: Path, peers: MadeUpPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORD_PATIENCE", 0.05)
    ((kind, payload),) = await answered(await connected(tmp_path / "s", b"\x01"))
    assert kind is Kind.ERROR
    assert "nothing was asked" in json.loads(payload)["message"]


async def test_who_does_not_go_away_is_cut_off(
    tmp_path: Path, peers: MadeUpPeers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_PATIENCE", 0.05)
    reader, writer = await connected(tmp_path / "s", request(op="hello"))
    async with asyncio.timeout(30):
        await reader.read()
        with pytest.raises(ConnectionError):
            while True:
                writer.write(frame(Kind.INPUT, b"more"))
                await writer.drain()
                await asyncio.sleep(0.01)
    writer.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                lambda op, peer, path: request(op=op, peer=peer, path=path),
                st.sampled_from(["hello", "list", "read", "write", "files", "stop"]),
                st.text(max_size=3), st.text(max_size=3),
            ),
            st.builds(frame, st.sampled_from(list(Kind)), st.binary(max_size=20)),
        ),
        max_size=4,
    )
)  # fmt: skip
async def test_nothing_that_is_sent_does_harm(tmp_path: Path, pieces: list[bytes]) -> None:
    peers = MadeUpPeers()
    path = tmp_path / "fuzz"
    path.unlink(missing_ok=True)
    async with lent(path, peers):
        reader, writer = await connected(path, b"".join(pieces))
        writer.write_eof()
        async with asyncio.timeout(30):
            await reader.read()
        writer.close()
        assert await answered(await connected(path, request(op="list")))
        await wait_until(lambda: peers.running == 0)
