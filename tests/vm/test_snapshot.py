"""Snapshots, restores and forks of real machines."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import (
    ConfigError,
    NameTaken,
    Sandbox,
    Snapshot,
    SnapshotDamaged,
    SnapshotNotFound,
    WrongState,
    prune,
)
from sandlot.sandbox.host import Host
from sandlot.snapshot.memory import DEEPEST

COUNTER = """
import os, time
number = 0
opened = open('/root/open', 'a+')
while True:
    number += 1
    print(number, flush=True)
    opened.write('x'); opened.flush()
    with open('/root/count.new', 'w') as file: file.write(str(number))
    os.rename('/root/count.new', '/root/count')
    time.sleep(0.02)
"""


async def count(sandbox: Sandbox) -> int:
    return int((await sandbox.exec(["cat", "/root/count"], check=True)).text)


async def count_over(sandbox: Sandbox, number: int) -> int:
    while (now := await count(sandbox)) <= number:
        await asyncio.sleep(0.02)  # the guest's program counts on by itself
    return now


@pytest.fixture
async def counting(image: str) -> AsyncIterator[Sandbox]:
    """A sandbox in which a Python program counts."""
    async with Sandbox.create(image=image, memory="512M", env={"A": "1"}) as sandbox:
        await sandbox.spawn(["python3", "-c", COUNTER], detached=True)
        while not await sandbox.files.exists("/root/count"):
            await asyncio.sleep(0.02)
        yield sandbox
    for snapshot in await Snapshot.list():
        if snapshot.record.sandbox == sandbox.name:
            await snapshot.remove(cascade=True)


async def test_a_restored_sandbox_goes_on_where_it_was(counting: Sandbox) -> None:
    snap = await counting.snapshot()
    assert snap.record.pause < 30
    saved_after = await count(counting)
    async with snap.restore(env={"WORKER_ID": "7"}) as child, snap.restore() as other:
        first = await count(child)
        assert await count_over(child, first) > first
        shown = await child.exec("echo $A $WORKER_ID; hostname; cat /root/open | wc -c", check=True)
        words = shown.text.split()
        assert words[:3] == ["1", "7", child.name] and int(words[3]) >= first
        # The job of the one that was saved is one of each child, with what it said.
        (job,) = await child.jobs()
        assert job.status == "running"
        assert b"1\n2\n3\n" in b"".join([piece.data for piece in await job.logs()])
        await child.exec("echo mine > /root/mine", check=True)
        assert not await other.files.exists("/root/mine")
        assert not await counting.files.exists("/root/mine")
    assert await count_over(counting, saved_after) > saved_after


async def test_a_tree_of_snapshots(counting: Sandbox) -> None:
    """Children of children, after their parents are gone; and each has what was written over it."""
    top = await counting.snapshot()
    ids = [""]
    snap = top
    for depth in range(3):
        async with snap.restore() as child:
            await child.exec(f"echo {depth} > /root/depth-{depth}; echo {depth} >> /root/all")
            below = await child.snapshot()
        assert below.parent == snap.id
        ids.append(snap.id)
        snap = below
    with pytest.raises(WrongState, match="has children"):
        await top.remove()
    async with snap.restore() as last:
        assert (await last.exec("cat /root/all; ls /root/depth-*", check=True)).text.split() == [
            "0", "1", "2", "/root/depth-0", "/root/depth-1", "/root/depth-2",
        ]  # fmt: skip
        await last.stop()
        await last.start()  # from its disk, which lies over four others
        assert (await last.exec("cat /root/all", check=True)).text.split() == ["0", "1", "2"]
        with pytest.raises(WrongState, match=f"sandbox {last.name}"):
            await snap.remove()
    memory = [await Snapshot.get(each) for each in ids[1:]]
    assert all(each.usage().own < 100 << 20 for each in memory)
    await top.remove(cascade=True)
    with pytest.raises(SnapshotNotFound):
        await Snapshot.get(snap.id)


async def test_deep_trees_are_flattened(counting: Sandbox) -> None:
    """Snapshots of one sandbox, and children of children, deeper than layers may lie."""
    for number in range(DEEPEST + 2):
        await counting.exec(f"echo {number} >> /root/all; echo {number} > /root/own-{number}")
        snap = await counting.snapshot()
    assert len(snap.record.layers) <= DEEPEST + 1
    for depth in range(DEEPEST + 2):
        async with snap.restore() as child:
            await child.exec(f"echo child {depth} >> /root/all; echo {depth} > /dev/shm/{depth}")
            snap = await child.snapshot()
        assert len(snap.record.layers) <= DEEPEST + 1
        assert snap.folder.memory.depth <= DEEPEST + 1
    snap.folder.memory.drop_full()
    async with snap.restore() as last:
        numbers = [str(each) for each in range(DEEPEST + 2)]
        shown = await last.exec("cat /root/all; cat /root/own-*; sync")
        for text in numbers:
            assert f"child {text}\n" in shown.text
        assert shown.text.split()[: len(numbers)] == numbers
        assert set((await last.exec("ls /dev/shm")).text.split()) >= set(numbers)
        assert await count_over(last, 0) > 0
        await last.stop()
        await last.start()
        assert (await last.exec("cat /root/all")).text.split()[: len(numbers)] == numbers


async def test_forks_are_twins_that_part(counting: Sandbox) -> None:
    before = await count(counting)
    twins = await counting.fork_many(3, names=["twin-a", "twin-b", "twin-c"])
    try:
        assert [twin.name for twin in twins] == ["twin-a", "twin-b", "twin-c"]
        for twin in twins:
            assert await count_over(twin, before) > before
            assert (await twin.exec(["hostname"])).text.strip() == twin.name
        async with twins[0].fork() as grandchild:
            assert await count_over(grandchild, before) > before
    finally:
        for twin in twins:
            await twin.remove()
    assert Host.current().snapshots.half_made() == []
    assert await count_over(counting, before) > before


async def test_snapshots_of_a_sandbox_that_another_program_runs(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M", detached=True)
    try:
        await sandbox.exec("echo there > /root/file", check=True)
        snap = await sandbox.snapshot("from-outside", tags=["outside"])
        try:
            with pytest.raises(NameTaken, match="from-outside"):
                await sandbox.snapshot("from-outside")
            async with (await Snapshot.get("outside")).restore() as child:
                assert (await child.exec(["cat", "/root/file"])).text == "there\n"
            detached = await snap.restore(detached=True)
            try:
                assert (await detached.exec(["cat", "/root/file"])).text == "there\n"
            finally:
                await detached.remove()
            async with sandbox.fork() as twin:
                assert (await twin.exec(["cat", "/root/file"])).text == "there\n"
        finally:
            await snap.remove()
    finally:
        await sandbox.remove()
    assert not (Host.current().paths.snapshots / "from-outside").exists()


async def test_only_the_disk_of_a_running_and_of_a_stopped_one(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        await sandbox.exec("echo one > /root/file", check=True)
        running = await sandbox.snapshot(disk_only=True)
        await sandbox.exec("echo two > /root/file", check=True)
        with pytest.raises(WrongState, match="paused"):
            await sandbox.pause()
            await sandbox.snapshot()
        await sandbox.resume()
        await sandbox.stop()
        with pytest.raises(WrongState) as raised:
            await sandbox.snapshot()
        assert "disk_only" in raised.value.hint
        stopped = await sandbox.snapshot(disk_only=True)
        await sandbox.start()
        await sandbox.exec("echo three > /root/file", check=True)
        for snap, text in ((running, "one\n"), (stopped, "two\n")):
            assert snap.kind == "disk"
            async with snap.restore() as child:
                assert (await child.exec(["cat", "/root/file"])).text == text
            await snap.remove()
        assert (await sandbox.exec(["cat", "/root/file"])).text == "three\n"


async def test_a_damaged_snapshot_is_refused_before_it_runs(counting: Sandbox) -> None:
    snap = await counting.snapshot()
    for name in snap.record.digests:
        path = snap.folder.path / name
        whole, times = path.stat().st_size, path.stat()
        data = _flip(path)
        with pytest.raises(SnapshotDamaged, match="damaged"):
            await snap.restore()
        if name == "state":
            async with snap.restore(disk_only=True) as child:
                assert (await child.exec("true")).exit_code == 0
        _flip(path, data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_size == whole
    # What is only made from the rest is made again.
    _flip(snap.folder.memory.full)
    async with snap.restore() as child:
        assert await count_over(child, 0) > 0


def _flip(path: Path, back: tuple[int, bytes] | None = None) -> tuple[int, bytes]:
    """Change a byte of a file's data in place, or change it back."""
    with path.open("r+b") as file:
        if back is not None:
            file.seek(back[0])
            file.write(back[1])
            return back
        at = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        file.seek(at)
        before = file.read(1)
        file.seek(at)
        file.write(bytes([before[0] ^ 0x10]))
        return at, before


async def test_programs_learn_of_a_restore(image: str) -> None:
    hook = "#!/bin/sh\necho $WORKER_ID $SANDLOT_RESTORED > /root/hooked\n"
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        await sandbox.files.write(
            "/etc/sandlot/on-restore.d/10-note", hook, mode=0o755, parents=True
        )
        await sandbox.files.write("/etc/sandlot/on-restore.d/20-fails", "#!/bin/sh\nexit 3\n",
                                  mode=0o755)  # fmt: skip
        snap = await sandbox.snapshot()
        assert not await sandbox.files.exists("/root/hooked")
        assert not await sandbox.files.exists("/run/sandlot/restored")
        async with snap.restore(env={"WORKER_ID": "9"}) as child:
            assert (await child.files.read_text("/root/hooked")) == "9 /run/sandlot/restored\n"
            shown = await child.files.read_text("/run/sandlot/restored")
            assert f'"{child.name}"' in shown and '"WORKER_ID": "9"' in shown
            assert "20-fails: it failed" in await child.files.read_text(
                "/run/sandlot/on-restore.log"
            )
        await snap.remove()


async def test_terminals_pipes_and_servers_go_on(image: str) -> None:
    shell = "stty -echo; echo ready; while read line; do echo got $line; done"
    pipe = "python3 -c 'import time; [(print(n, flush=True), time.sleep(0.05)) for n in range(10**6)]' | tee /root/piped"
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        terminal = await sandbox.spawn(["sh", "-c", shell], tty=True, stdin=True, detached=True)
        await sandbox.spawn(["sh", "-c", pipe], detached=True)
        while b"ready" not in b"".join([piece.data for piece in await terminal.logs()]):
            await asyncio.sleep(0.05)
        while not await sandbox.files.exists("/root/piped"):
            await asyncio.sleep(0.05)
        async with sandbox.fork() as twin:
            jobs = {job.id: job for job in await twin.jobs()}
            assert all(job.status == "running" for job in jobs.values())
            before = await twin.files.read_text("/root/piped")
            async with await jobs[terminal.id].attach(input=True) as attached:
                assert attached.stdin is not None
                await attached.stdin.write(b"hello\n")
                said = b""
                while b"got hello" not in said:
                    piece = await attached.read()
                    assert piece is not None
                    said += piece.data
            while len(await twin.files.read_text("/root/piped")) <= len(before):
                await asyncio.sleep(0.05)
        assert b"got hello" not in b"".join([piece.data for piece in await terminal.logs()])


async def test_many_restores_at_once(counting: Sandbox) -> None:
    snap = await counting.snapshot()
    snap.folder.memory.drop_full()  # the first makes it for all
    began = time.monotonic()
    children = await asyncio.gather(*(snap.restore(env={"N": str(n)}) for n in range(6)))
    try:
        shown = await asyncio.gather(*(child.exec("echo $N") for child in children))
        assert [each.text for each in shown] == [f"{n}\n" for n in range(6)]
        assert time.monotonic() - began < 300
    finally:
        await asyncio.gather(*(child.remove() for child in children))


async def test_what_does_not_fit_is_refused(counting: Sandbox) -> None:
    snap = await counting.snapshot()
    with pytest.raises(NameTaken):
        await snap.restore(counting.name)
    await snap.rename("renamed-snapshot")
    await snap.set_tags(["good", "good"])
    assert (await Snapshot.get("good")).tags == ("good",)
    assert (await Snapshot.get("renamed-snapshot")).id == snap.id


async def test_memory_in_one_piece_is_bounded_and_made_again(
    counting: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await counting.snapshot()
    assert first.usage().cached > 0
    monkeypatch.setenv("SANDLOT_SNAPSHOT_CACHE", "nothing")
    with pytest.raises(ConfigError, match="SANDLOT_SNAPSHOT_CACHE 'nothing' is not a size"):
        async with Sandbox.create(image=counting.image, memory="512M") as other:
            await other.snapshot()
    monkeypatch.setenv("SANDLOT_SNAPSHOT_CACHE", "0")
    first = await Snapshot.get(first.name)
    name = f"{first.name}/memory/full"
    async with Sandbox.create(image=counting.image, memory="512M") as other:
        second = await other.snapshot()
        assert first.usage().cached == second.usage().cached == 0
        try:
            async with first.restore() as child, first.restore() as sibling:
                for each in (child, sibling):
                    now = await count(each)
                    assert await count_over(each, now) > now
                assert first.usage().cached > 0  # while a machine has it
                assert name not in {each.name for each in prune(everything=True)}
            (gone,) = [each for each in prune(everything=True) if each.name == name]
            assert gone.kind == "snapshots" and gone.size == first.usage().cached > 0
        finally:
            await second.remove()
