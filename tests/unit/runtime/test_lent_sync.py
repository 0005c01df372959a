"""The client without `await`: the same methods, and they work."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.framework.borrowing import MadeUpPeers
from tests.framework.borrowing import lent as served

import sandlot
from sandlot import WrongState, sync
from sandlot.runtime import lent, lent_sync


@pytest.fixture
async def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MadeUpPeers]:
    monkeypatch.setenv("SANDLOT_RUNTIME_SOCKET", str(tmp_path / "s"))
    made = MadeUpPeers()
    async with served(tmp_path / "s", made):
        yield made


def use() -> None:
    rt = lent_sync.Sandbox.current_runtime()
    assert (rt.name, rt.grant) == ("own", {"max_sandboxes": 2})
    with rt.start("researcher", network=lent.Network.deny_all()) as peer:
        assert (peer.name, peer.status) == ("researcher", "running")
        result = peer.exec(["cat"], stdin="typed")
        assert (result.text, result.exit_code) == ("typed", 3)
        peer.files.write("/a", "text")
        assert peer.files.read("/a") == b"text"
        assert peer.files.read_text("/a") == "text"
        assert [each.path for each in peer.files.list("/")] == ["/a"]
        peer.files.mkdir("/b")
        peer.files.remove("/b")
        assert list(peer.logs()) == [b"said\n"]
        for piece in peer.logs(follow=True):
            assert piece == b"said\n"
            break
    assert [each.name for each in rt.list()] == ["a", "b"]
    assert rt.get("b").id == "4567"
    with pytest.raises(lent.Refuse):
        rt.start("too-much")


async def test_it_works(peers: MadeUpPeers) -> None:
    await asyncio.to_thread(use)


@pytest.mark.parametrize("name", ["Runtime", "Peer", "Files", "Sandbox"])
def test_it_has_the_same_methods(name: str) -> None:
    one, other = getattr(lent, name), getattr(lent_sync, name)
    names = [each for each in vars(one) if not each.startswith("_")]
    assert names == [each for each in vars(other) if not each.startswith("_")]
    for each in names:
        ours = inspect.signature(getattr(one, each)).parameters.values()
        theirs = inspect.signature(getattr(other, each)).parameters.values()
        assert [(p.name, p.kind, p.default) for p in ours] == [
            (p.name, p.kind, p.default) for p in theirs
        ]


async def test_outside_of_a_sandbox_this_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDLOT_RUNTIME_SOCKET", str(tmp_path / "none"))
    with pytest.raises(WrongState, match="no runtime was lent"):
        await sandlot.Sandbox.current_runtime()
    with pytest.raises(WrongState, match="no runtime was lent"):
        await asyncio.to_thread(sync.Sandbox.current_runtime)


def test_python_3_9_reads_it() -> None:
    ast.parse(Path(lent_sync.__file__).read_text(), feature_version=(3, 9))
