"""The client inside a sandbox, which has nothing of Sandlot but this one file."""

from __future__ import annotations

import ast
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.framework.borrowing import MadeUpPeers
from tests.framework.borrowing import lent as served

from sandlot.runtime import lent
from sandlot.runtime.requests import Exec, Start, Wanted, WriteFile


@pytest.fixture
async def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MadeUpPeers]:
    monkeypatch.setenv("SANDLOT_RUNTIME_SOCKET", str(tmp_path / "s"))
    made = MadeUpPeers()
    async with served(tmp_path / "s", made):
        yield made


async def test_peers_are_started_and_found(peers: MadeUpPeers) -> None:
    rt = await lent.Sandbox.current_runtime()
    assert (rt.name, rt.grant) == ("own", {"max_sandboxes": 2})
    peer = await rt.start(
        "researcher", image="python:3.12", secrets={"K": "its name counts"}, memory="512M",
        network=lent.Network.deny_all(), env={"A": "b"}, command=["sleep", "1"],
        runtime=lent.RuntimeAccess(2, network=lent.Network(allow=["a.example"])),
    )  # fmt: skip
    assert (peer.name, peer.status) == ("researcher", "running")
    asked = peers.asked[-1]
    assert isinstance(asked, Start)
    assert (asked.image, asked.secrets, asked.memory) == ("python:3.12", ("K",), 512 << 20)
    assert asked.network is not None
    assert asked.network.default == "deny"
    assert isinstance(asked.runtime, Wanted)
    assert asked.runtime.network is not None
    assert asked.runtime.network.allow == ("a.example",)
    assert [each.name for each in await rt.list()] == ["a", "b"]
    assert (await rt.get("4567")).name == "b"
    with pytest.raises(lent.SandboxNotFound):
        await rt.get("none")


async def test_refusals_are_errors_of_their_kind(peers: MadeUpPeers) -> None:
    rt = await lent.current_runtime()
    with pytest.raises(lent.Refuse, match="are taken") as refused:
        await rt.start("too-much")
    assert refused.value.hint == "stop one first"
    peer = await rt.start()
    with pytest.raises(lent.CommandNotFound):
        await peer.exec(["none"])
    with pytest.raises(lent.FileNotFound) as missing:
        await peer.files.read("/none")
    assert (missing.value.errno, missing.value.path) == (2, "/none")
    with pytest.raises(lent.ConfigError):
        await rt.start("x" * 70_000)


async def test_programs_are_run(peers: MadeUpPeers) -> None:
    peer = await (await lent.current_runtime()).start()
    data = bytes(range(256)) * 1000
    result = await peer.exec(["cat"], stdin=data, timeout=5)
    assert (result.exit_code, result.stdout, result.stderr) == (3, data, b"wrong")
    await peer.exec("a | b")
    asked = peers.asked[-1]
    assert isinstance(asked, Exec)
    assert asked.command == ("/bin/sh", "-c", "a | b")
    with pytest.raises(lent.ProcessError) as failed:
        await peer.exec("false", check=True)
    assert failed.value.exit_code == 3
    with pytest.raises(lent.SandboxError, match="longer than 10 bytes"):
        await peer.exec(["cat"], stdin=data, max_output=10)


async def test_cancelling_ends_it_on_the_host(peers: MadeUpPeers) -> None:
    peer = await (await lent.current_runtime()).start()
    running = asyncio.ensure_future(peer.exec(["sleep"]))
    async with asyncio.timeout(30):
        while not peers.running:
            await asyncio.sleep(0.005)
        running.cancel()
        while peers.running:
            await asyncio.sleep(0.005)
    assert peers.cancelled == 1


async def test_files_and_logs(peers: MadeUpPeers) -> None:
    async with await (await lent.current_runtime()).start() as peer:
        await peer.files.write("/a", "text" * 50_000, mode=0o600, parents=True)
        asked = peers.asked[-1]
        assert isinstance(asked, WriteFile)
        assert (asked.mode, asked.parents) == (0o600, True)
        assert await peer.files.read_text("/a") == "text" * 50_000
        assert [each.path for each in await peer.files.list("/")] == ["/a"]
        await peer.files.mkdir("/b")
        await peer.files.remove("/b", recursive=True)
        assert [each async for each in peer.logs()] == [b"said\n"]
    assert type(peers.asked[-1]).__name__ == "Stop"


async def test_without_a_runtime_this_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDLOT_RUNTIME_SOCKET", str(tmp_path / "none"))
    with pytest.raises(lent.WrongState, match="no runtime was lent"):
        await lent.current_runtime()


def test_it_needs_python_3_9_and_nothing_else() -> None:
    source = Path(lent.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).partition(".")[0])
        # Attributes that came later.
        assert not (isinstance(node, ast.Attribute) and node.attr in ("timeout", "TaskGroup"))
        # `X | Y` as a value; annotations are only text.
        assert not isinstance(node, ast.Match)
    assert modules - {"__future__"} <= sys.stdlib_module_names
