"""What a hostile guest asks about sandboxes that it was not to have, and of those that it has."""

from __future__ import annotations

import asyncio
import shutil
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandlot import Sandbox
from sandlot.cli import look
from sandlot.errors import Refuse, WrongState
from sandlot.files.files import Files
from sandlot.network.policy import Network
from sandlot.runtime.checking import Share
from sandlot.runtime.grant import MIB
from sandlot.runtime.requests import ListFiles, ListPeers, Logs, Start, Stop
from sandlot.sandbox.lending import Lending, _file, _Peer, _permitted
from sandlot.sandbox.log import OutputLog
from sandlot.state.events import Event
from sandlot.state.lock import FileLock
from sandlot.state.records import SandboxFolder, SandboxFolders, SandboxRecord
from tests.unit.sandbox.test_lending import FakeSandbox, World, ask
from tests.unit.sandbox.test_lending import lending as lending
from tests.unit.sandbox.test_lending import world as world


async def test_one_that_cannot_be_removed_counts_on(
    lending: Lending, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def remove(self: FakeSandbox) -> None:
        raise WrongState("it is held")

    monkeypatch.setattr(FakeSandbox, "remove", remove)
    for name in ("a-broken", "b-broken", "c-broken"):
        with pytest.raises(Refuse, match="could not be started"):
            await ask(lending, Start(name=name, memory=256 * MIB))
    with pytest.raises(Refuse, match="3 of 3 sandboxes are taken"):
        await ask(lending, Start(memory=128 * MIB))
    monkeypatch.undo()


def _real(tmp_path: Path, name: str, id_: str) -> SandboxFolder:
    folder = tmp_path / name
    folder.mkdir()
    record = SandboxRecord(
        id=id_, name=name, image="one", image_digest="", memory=1, cpus=1, disk=1, hostname=name,
        machine_id="", network=Network.deny_all().to_json(),
    )  # fmt: skip
    found = SandboxFolder(folder)
    found.write_record(record)
    return found


async def test_a_name_that_became_another_sandboxs_is_no_peer(
    lending: Lending, tmp_path: Path
) -> None:
    host: Any = SimpleNamespace(sandboxes=SandboxFolders(tmp_path))
    folder = _real(tmp_path, "app.a", "aaaaaaaaaaaa")
    share = Share("a", 1, 128 * MIB)
    sandbox = Sandbox(host, folder, folder.record())
    lending._peers["a"] = _Peer(share, _permitted(folder.record(), share), sandbox)
    assert len(await ask(lending, ListPeers())) == 1
    # The host's user gives it another name: it counts, and is found under that.
    folder.path.rename(tmp_path / "other")
    assert len(await ask(lending, ListPeers())) == 1
    assert sandbox.folder.path.name == "other"
    # And then removes it, and makes one of her own that is called so.
    shutil.rmtree(tmp_path / "other")
    _real(tmp_path, "app.a", "bbbbbbbbbbbb").log.write_text('[1.0, "stdout", "secret"]\n')
    _real(tmp_path, "other", "cccccccccccc")
    for asked in (Logs(peer="a"), Stop(peer="a"), Logs(peer="aaaaaaaaaaaa")):
        with pytest.raises(Refuse, match="has started none"):
            await ask(lending, asked)
    assert (tmp_path / "app.a").exists() and (tmp_path / "other").exists()


@pytest.mark.parametrize("follow", [True, False])
async def test_who_waits_in_a_log_does_not_get_into_anothers(tmp_path: Path, follow: bool) -> None:
    folder = _real(tmp_path, "app.a", "aaaaaaaaaaaa")
    folder.log.write_text('[1.0, "stdout", "own"]\n')
    sandbox = Sandbox(cast(Any, None), folder, folder.record())
    entries = sandbox.logs(follow=follow)
    assert (await anext(entries)).data == b"own"
    # While the guest does not read, the host's user makes a sandbox of that name.
    shutil.rmtree(tmp_path / "app.a")
    other = _real(tmp_path, "app.a", "bbbbbbbbbbbb")
    other.log.write_text('[1.0, "stdout", "of somebody else"]\n')
    lock = FileLock.take(other.lock_path)  # it runs
    assert lock is not None
    async with asyncio.timeout(30):
        assert [each async for each in entries] == []
    lock.release()
    assert [each async for each in sandbox.logs(tail=3)] == []


@pytest.mark.parametrize(
    "peer", ["app", "0123", "id-", "i", "app.real", "../real", "real/", "REAL", "real ", "*", "."]
)
async def test_nothing_else_is_found_by_name(lending: Lending, peer: str) -> None:
    await ask(lending, Start(name="real", memory=128 * MIB))
    with pytest.raises(Refuse, match="has started none"):
        await ask(lending, Stop(peer=peer, kill=True))
    assert [each["name"] for each in await ask(lending, ListPeers())] == ["real"]


async def test_a_folder_of_millions_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer's agent tells of files without end; the one who asked reads the first of them only."""
    told = 0
    waits = asyncio.Event()

    async def entries(*_: object) -> AsyncIterator[Any]:
        nonlocal told
        while told < 5000:
            told += 1
            yield SimpleNamespace(path="/a", type="file", size=1, mode=2, mtime=3.0, target="")

    class Talk:
        async def item(self, item: object) -> None:
            if told >= 1000:
                waits.set()
                await asyncio.Event().wait()

    monkeypatch.setattr(Files, "_entries", entries)
    sandbox: Any = SimpleNamespace(files=Files(cast(Any, None)))
    talk: Any = Talk()
    asking = asyncio.create_task(_file(sandbox, ListFiles(peer="a", path="/"), talk))
    await waits.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert told == 1000


@pytest.mark.parametrize("tail", [None, 1, 1_000_000])
async def test_a_long_log_is_neither_held_nor_read_in_one_go(
    tmp_path: Path, tail: int | None
) -> None:
    folder = _real(tmp_path, "app.a", "aaaaaaaaaaaa")
    log = OutputLog(folder.log)
    for _ in range(50_000):
        log.write("stdout", b"x")  # of no line ends: all of it is one line
    log.write("stdout", b"\n")
    log.close()
    sandbox = Sandbox(cast(Any, None), folder, folder.record())
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    tracemalloc.start()
    try:
        entries = sandbox.logs(tail=tail)
        first = await anext(entries)  # and then it reads no more
        _, most = tracemalloc.get_traced_memory()
        await entries.aclose()
    finally:
        tracemalloc.stop()
        beside.cancel()
    assert first.data == b"x"
    assert most < 1 << 20
    assert turns > 100 or tail is None


def test_what_a_guest_chose_is_no_order_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    orders = "\x1b]0;owned\x07\x1b[2J\r\u202e"
    look._show(Event(1.0, "lent", "app", "0123", "", {"failed": orders}), json_=False)
    record: Any = SimpleNamespace(command=["sh", orders])
    shown = look._command(cast(Any, SimpleNamespace(record=record)), whole=True)
    assert (shown + capsys.readouterr().out.rstrip("\n")).isprintable()
