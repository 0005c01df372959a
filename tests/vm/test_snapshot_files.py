"""Snapshots of real machines in files, and what changed between two."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandlot import Sandbox, Snapshot, SnapshotDamaged
from sandlot.sandbox.host import Host

ELSEWHERE = """
import asyncio, json, sys
from pathlib import Path
from sandlot import Sandbox, Snapshot

async def main(file):
    snap = await Snapshot.import_(file)
    async with snap.restore("moved", env={"B": "2"}) as child:
        while True:
            before = int(await child.files.read_text("/root/count"))
            await asyncio.sleep(0.02)  # the guest's program counts on by itself
            if int(await child.files.read_text("/root/count")) > before:
                break
        print(json.dumps({
            "count": before, "said": (await child.exec("echo $A $B; cat /root/kept; hostname")).text,
            "kind": snap.kind,
        }))
        below = await child.snapshot("below")
    assert below.parent == snap.id
    # What is here already is shared: all but the devices' state, which is small.
    again = await Snapshot.import_(file, "again")
    assert again.usage().own < 4 << 20, again.usage()
    async with again.restore() as child:
        assert (await child.exec("cat /root/kept")).text == "kept\\n"
    for each in (below, again, snap):
        await each.remove()

asyncio.run(main(Path(sys.argv[1])))
"""
COUNTER = """
import os, time
number = 0
while True:
    number += 1
    with open('/root/count.new', 'w') as file: file.write(str(number))
    os.rename('/root/count.new', '/root/count')
    time.sleep(0.02)
"""


async def counting_up(sandbox: Sandbox) -> None:
    await sandbox.spawn(["python3", "-c", COUNTER], detached=True)
    while not await sandbox.files.exists("/root/count"):
        await asyncio.sleep(0.02)  # the guest's program makes it


async def test_a_machine_goes_on_in_another_state_directory(image: str, tmp_path: Path) -> None:
    file = tmp_path / "moved.snapshot"
    async with Sandbox.create(image=image, memory="512M", env={"A": "1"}) as sandbox:
        await sandbox.exec(
            "echo kept > /root/kept; head -c 8M /dev/urandom > /root/noise", check=True
        )
        await counting_up(sandbox)
        parent = await sandbox.snapshot("to-move-parent")
    async with parent.restore() as child:
        snap = await child.snapshot("to-move")
        saved = int(await child.files.read_text("/root/count"))
    try:
        await snap.export(file)
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
    finally:
        await parent.remove(cascade=True)
    state = tmp_path / "elsewhere"
    state.mkdir()
    (state / "kernels").symlink_to(Host.current().paths.kernels)
    environment = {
        **os.environ, "SANDLOT_DATA": str(state), "SANDLOT_RUNTIME": str(tmp_path / "run")
    }  # fmt: skip
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ELSEWHERE, str(file), env=environment, stdout=subprocess.PIPE
    )
    out, _ = await program.communicate()
    assert program.returncode == 0
    found = json.loads(out)
    assert found["kind"] == "machine" and 0 < found["count"] <= saved + 10_000
    assert found["said"].split() == ["1", "2", "kept", "moved"]
    assert not list((state / "snapshots").iterdir()) and not list((state / "sandboxes").iterdir())
    shutil.rmtree(state)


async def test_a_changed_file_is_seen_before_it_runs(image: str, tmp_path: Path) -> None:
    file = tmp_path / "changed.snapshot"
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        snap = await sandbox.snapshot("to-change")
    await snap.export(file)
    await snap.remove()
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))
    before = {each.id for each in await Snapshot.list()}
    with pytest.raises(SnapshotDamaged):
        await Snapshot.import_(file, "never-there")
    assert not (Host.current().paths.snapshots / "never-there").exists()
    assert before >= {
        each.id for each in await Snapshot.list() if each.record.sandbox == sandbox.name
    }


async def test_what_changed_between_two_snapshots(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        # A program that would change more, if it ran while one looks.
        await sandbox.spawn(
            ["sh", "-c", "while :; do date +%N > /root/ticking; done"], detached=True
        )
        await sandbox.exec(
            "echo old > /root/changed; echo x > /root/gone; mkdir /root/d", check=True
        )
        before = await sandbox.snapshot("diff-before")
        await sandbox.exec(
            "echo new > /root/changed; rm /root/gone; mkdir -p /root/more/deep; echo y > /root/more/deep/f;"
            "rmdir /root/d; ln -s /etc /root/d; chmod 600 /etc/passwd; rm -r /usr/share/doc/python3;"
            "touch /etc/group; rm /root/ticking",
            check=True,
        )  # fmt: skip
        after = await sandbox.snapshot("diff-after")
    try:
        changes = {change.path: change for change in await before.diff(after)}
        ticking = changes.pop("/root/ticking", None)
        assert ticking is None or ticking.before is not None
        documents = [path for path in changes if path.startswith("/usr/share/doc/python3")]
        assert "/usr/share/doc/python3" in documents and len(documents) > 1
        assert {changes.pop(path).change for path in documents} == {"removed"}
        assert {path: change.change for path, change in changes.items()} == {
            "/root/changed": "changed", "/root/gone": "removed", "/root/more": "added",
            "/root/more/deep": "added", "/root/more/deep/f": "added", "/root/d": "type",
            "/etc/passwd": "changed",
        }  # fmt: skip
        assert changes["/root/changed"].what == ("contents",)
        assert changes["/etc/passwd"].what == ("mode",)
        linked = changes["/root/d"].after
        assert linked is not None and (linked.type, linked.target) == ("symlink", "/etc")
        back = {change.path: change.change for change in await after.diff(before)}
        assert back["/root/more/deep/f"] == "removed" and back["/usr/share/doc/python3"] == "added"
        assert await before.diff(before) == []
        assert not [
            info.record.name for info in await Sandbox.list()
            if info.record.snapshot in (before.id, after.id)
        ]  # fmt: skip
    finally:
        await before.remove()
        await after.remove()


async def test_snapshots_of_disks_are_compared_too(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        await sandbox.exec("echo 1 > /root/a; echo same > /root/b", check=True)
        before = await sandbox.snapshot("disk-before", disk_only=True)
        await sandbox.exec("echo 22 > /root/a", check=True)
        after = await sandbox.snapshot("disk-after")
    try:
        (change,) = await before.diff(after)
        assert change.path == "/root/a" and change.before is not None and change.after is not None
        assert (change.before.size, change.after.size) == (2, 3)
    finally:
        await before.remove()
        await after.remove()


async def test_one_with_a_main_command_is_imported(image: str, tmp_path: Path) -> None:
    sandbox = await Sandbox._make(
        name=None, image=image, memory="256M", detached=True, command=["sleep", "1000"], hold=True
    )
    await sandbox.start()
    try:
        snap = await sandbox.snapshot()
        try:
            await snap.export(tmp_path / "file")
            again = await Snapshot.import_(tmp_path / "file", "with-main")
            try:
                restored = await again.restore(detached=True)
                try:
                    assert (await restored.main_job()).command == ["sleep", "1000"]
                finally:
                    await restored.remove()
            finally:
                await again.remove()
        finally:
            await snap.remove()
    finally:
        await sandbox.remove()
