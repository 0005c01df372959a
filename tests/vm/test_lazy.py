"""Sandboxes that run before all of their disk is here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandlot import ProcessError, Remote, RemoteDamaged, Sandbox, WrongState
from sandlot.remote.index import pack_of
from sandlot.remote.keys import new_key_file
from sandlot.remote.ondemand import OnDemand
from sandlot.sandbox.lazy import LAZY
from tests.vm.test_push import Elsewhere, sandlot
from tests.vm.test_snapshot_files import counting_up

pytestmark = pytest.mark.xdist_group("remotes")

BIG = 40 << 20
SLOW = "10M"
"""A second, so that some seconds pass until all is here."""


class Pushed:
    """A sandbox in a remote, with a large file of random bytes."""

    def __init__(self, folder: Path, key: Path) -> None:
        self.address, self.key = str(folder / "remote"), key
        self.name = "lazy-source"
        self.digest = ""

    def slow(self) -> Remote:
        return Remote(self.address, key=self.key, rate=SLOW)

    async def check(self, sb: Sandbox) -> None:
        """All of the large file, read from the disk."""
        await sb.exec("echo 3 > /proc/sys/vm/drop_caches", user="0")
        found = (await sb.exec("sha256sum /root/big /root/small", check=True)).text.split()
        assert found[0] == self.digest and found[2] == hashlib.sha256(b"small\n").hexdigest()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("lazy")
    new_key_file(folder / "key")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def pushed(image: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pushed]:
    monkeypatch.setenv("SANDLOT_KEY", str(home / "key"))
    made = Pushed(home, home / "key")
    if not (home / "digest").exists():
        async with Sandbox.create("lazy-source", image=image, memory="512M") as sb:
            await sb.exec(
                f"head -c {BIG} /dev/urandom > /root/big; echo small > /root/small; sync",
                check=True,
            )
            (home / "digest").write_text((await sb.exec("sha256sum /root/big")).text.split()[0])
            await sb.push(made.address)
    made.digest = (home / "digest").read_text()
    yield made


@pytest.fixture
def elsewhere(tmp_path: Path, pushed: Pushed) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path / "elsewhere", pushed.key)
    yield made
    shutil.rmtree(made.state)


def parts(sb: Sandbox) -> Path:
    return Path(sb.inspect()["files"]["folder"]) / LAZY


async def test_it_runs_before_all_is_here_and_needs_no_remote_after(pushed: Pushed) -> None:
    async with Sandbox.pull(pushed.name, "early", remote=pushed.slow(), lazy=True) as sb:
        said = await sb.exec("cat /root/small; python3 -c 'print(6*7)'; echo new > /root/new")
        assert said.text.split() == ["small", "42"]
        # The rest is still to come: what is here of the file is a hole.
        assert parts(sb).exists() and sb.inspect()["whole"] is False
        await sb.pulled()
        assert not parts(sb).exists() and sb.inspect()["whole"] is True
        away = Path(pushed.address).with_name("away")
        Path(pushed.address).rename(away)
        try:
            await pushed.check(sb)
            await sb.restart()
            await pushed.check(sb)
            async with sb.fork("early-twin") as twin:
                assert (await twin.exec("cat /root/new")).text == "new\n"
        finally:
            away.rename(pushed.address)
        # The next one is told what this one read first.
        assert list(Path(pushed.address, "hot").iterdir())
    async with Sandbox.pull(pushed.name, "early", remote=pushed.slow(), lazy=True) as sb:
        assert (await sb.exec("cat /root/small")).text == "small\n"
        assert sb._owner is not None and sb._owner.fetching.waited <= 2


ELSEWHERE = """
ALL = "find /usr/bin -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"

async def main(address):
    async with Sandbox.pull("lazy-source", remote=Remote(address, rate="40M"), lazy=True) as sb:
        first = (await sb.exec("cat /root/small; python3 -c 'print(6*7)'")).text
        before = sb.inspect()["whole"]
        sums = [(await sb.exec(ALL)).text]
        await sb.pulled()
        await sb.exec("echo 3 > /proc/sys/vm/drop_caches", user="0")
        sums.append((await sb.exec(ALL)).text)
        await sb.restart()
        sums.append((await sb.exec(ALL)).text)
        tell(first=first, before=before, sums=sums)

asyncio.run(main(sys.argv[1]))
"""


async def test_where_nothing_is_its_image_comes_on_demand_too(
    pushed: Pushed, elsewhere: Elsewhere
) -> None:
    """The files of the image are the same while they come, after, and in the next machine."""
    found = await elsewhere.run(ELSEWHERE, pushed.address)
    assert found["first"].split() == ["small", "42"] and found["before"] is False
    async with Sandbox.pull(pushed.name, "as-it-was", remote=pushed.address) as sb:
        said = await sb.exec(ELSEWHERE.split('"')[1], check=True)
    assert found["sums"] == [said.text] * 3


async def test_saving_waits_until_all_is_here(pushed: Pushed) -> None:
    async with Sandbox.pull(pushed.name, "saved", remote=pushed.slow(), lazy=True) as sb:
        assert parts(sb).exists()
        snap = await sb.snapshot("saved-lazily")
        try:
            assert not parts(sb).exists()
            async with snap.restore("from-lazy") as child:
                await pushed.check(child)
        finally:
            await snap.remove()
        again = await sb.push(pushed.slow(), "again")
        assert again.moved < 16 << 20  # what it has from there is not sent again


async def test_what_was_stopped_midway_goes_on(pushed: Pushed) -> None:
    """Stopped, killed, started again; and saved while nobody runs it."""
    sb = await Sandbox.pull(
        pushed.name, "midway", remote=pushed.slow(), lazy=True, detached=True, start=False
    )
    try:
        assert parts(sb).exists()
        with pytest.raises(WrongState, match="not running") as caught:
            await sb.pulled()
        assert "start it" in caught.value.hint
        await sb.start()
        await sb.exec("echo kept > /root/kept; sync", check=True)
        await sb.stop()
        assert parts(sb).exists()
        await sb.start()
        assert (await sb.exec("cat /root/kept")).text == "kept\n"
        owner = int(sb.inspect()["state"]["owner"])
        os.kill(owner, signal.SIGKILL)
        await sb.wait()
        assert parts(sb).exists()
        await sb.start()
        await pushed.check(sb)  # what is not here yet is waited for
        await sb.pulled()
        await pushed.check(sb)
    finally:
        await sb.remove()
    other = await Sandbox.pull(pushed.name, "unused", remote=pushed.slow(), lazy=True, start=False)
    try:
        await other.stop()  # this program was about to start it
        snap = await other.snapshot("never-started", disk_only=True)
        try:
            assert not parts(other).exists()
            async with snap.restore("never-started") as child:
                await pushed.check(child)
        finally:
            await snap.remove()
    finally:
        await other.remove()


async def test_programs_that_go_on_have_their_disk_on_demand(
    image: str, tmp_path: Path, pushed: Pushed
) -> None:
    address = str(tmp_path / "remote")
    async with Sandbox.create("lazy-counter", image=image, memory="512M") as sb:
        await sb.exec("head -c 16M /dev/urandom > /root/noise; sync", check=True)
        digest = (await sb.exec("sha256sum /root/noise")).text
        await counting_up(sb)
        await sb.push(address, memory=True)
    slow = Remote(address, rate="60M")
    async with Sandbox.pull("lazy-counter", "lazy-on", remote=slow, lazy=True) as sb:
        before = int(await sb.files.read_text("/root/count"))
        while int(await sb.files.read_text("/root/count")) <= before:
            await asyncio.sleep(0.02)  # the guest's program counts on by itself
        await sb.exec("echo 3 > /proc/sys/vm/drop_caches", user="0")
        assert (await sb.exec("sha256sum /root/noise")).text == digest
        await sb.pulled()
        assert (await sb.exec("sha256sum /root/noise")).text == digest


async def test_what_the_store_changed_is_an_error_and_never_wrong_bytes(
    pushed: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = asyncio.Event()  # the rest comes when this test is through
    monkeypatch.setattr(OnDemand, "_turn", lambda self: turn.wait())
    evil = tmp_path / "remote"
    shutil.copytree(pushed.address, evil)
    async with Sandbox.pull(pushed.name, "lied-to", remote=str(evil), lazy=True) as sb:
        for path in (evil / "packs").rglob("*"):
            if path.is_file() and pack_of(f"packs/{path.parent.name}/{path.name}"):
                data = bytearray(path.read_bytes())
                data[5000::9000] = bytes(each ^ 1 for each in data[5000::9000])
                path.write_bytes(data)
        with pytest.raises(ProcessError, match=r"(?i)input/output error|I/O error"):
            await sb.exec("cat /root/big > /dev/null", check=True)
        turn.set()
        with pytest.raises(RemoteDamaged, match="packs/"):
            await sb.pulled()
        assert parts(sb).exists()
        # It runs on with what is here.
        assert (await sb.exec("echo still here")).text == "still here\n"


async def test_by_the_command(pushed: Pushed) -> None:
    words = ("pull", "-q", "--lazy", "--start", "--rate", SLOW, "-n", "by-command", pushed.name)
    made = await asyncio.to_thread(sandlot, *words, pushed.address)
    sb = await Sandbox.get(made)
    try:
        said = await asyncio.to_thread(sandlot, "exec", "by-command", "cat", "/root/small")
        assert said == "small"
        await sb.pulled()
        await pushed.check(sb)
    finally:
        await sb.remove()
