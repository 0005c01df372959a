"""The disk of a restored sandbox, or a fork, may be larger than the saved one's."""

from __future__ import annotations

import os

import pytest

from sandlot import ConfigError, Sandbox
from tests.vm.test_cli import sandlot
from tests.vm.test_cli_snapshot import said

MIB = 1 << 20
FILE = "/root/large"
WRITER = """
import time
opened = open("/root/open", "a")
while True:
    opened.write("x"); opened.flush()
    time.sleep(0.05)
"""


async def room(sandbox: Sandbox) -> int:
    """The size of its file system in MiB."""
    shown = await sandbox.exec("df -B1M --output=size / | tail -1", check=True)
    return int(shown.text)


async def fill(sandbox: Sandbox, megabytes: int) -> None:
    """More than fitted on the saved disk, in the file that has begun there."""
    write = (
        f"file = open('{FILE}', 'ab'); [file.write(bytes([n]) * 2**20) for n in range({megabytes})]"
    )
    await sandbox.exec(
        ["python3", "-c", f"{write}; file.close(); import os; os.sync()"], check=True
    )


async def digest(sandbox: Sandbox) -> str:
    return (await sandbox.exec(["sha256sum", FILE], check=True)).text.split()[0]


async def test_a_childs_disk_grows(image: str) -> None:
    async with Sandbox.create(image=image, memory="256M", disk="64M") as parent:
        await parent.exec(f"echo begun > {FILE}", check=True)
        await parent.spawn(["python3", "-c", WRITER], detached=True)
        small = await room(parent)
        snap = await parent.snapshot()
        for wrong, match in (("63M", "too small"), ("65G", "too large"), ("some", "not a size")):
            with pytest.raises(ConfigError, match=match):
                await snap.restore(disk=wrong)
        async with parent.fork(disk="512M") as twin:
            assert await room(twin) > 3 * small and twin.record.disk == 512 * MIB
        assert await room(parent) == small
    try:
        async with snap.restore(disk="1G") as child, snap.restore() as same:
            assert await room(child) > 850 > 10 * small
            assert await room(same) == small
            await fill(child, 100)
            whole = await digest(child)
            before = await child.files.read("/root/open")
            while await child.files.read("/root/open") == before:
                pass  # the program that ran goes on
            below = await child.snapshot()
            await child.stop()
            await child.start()  # from its disk
            assert await room(child) > 850 and await digest(child) == whole
        assert below.record.sandbox_record.disk == 1024 * MIB
        async with below.restore() as grandchild:
            assert await room(grandchild) > 850 and await digest(grandchild) == whole
        with pytest.raises(ConfigError, match="can only grow"):
            await below.restore(disk="512M")
        async with below.restore(disk="8G", disk_only=True) as larger:
            assert await room(larger) > 7500 and await digest(larger) == whole
            await fill(larger, 20)
            checked = await larger.exec("dmesg | grep -i 'ext4.*error' || true")
            assert not checked.text
            assert await digest(larger) != whole
    finally:
        await snap.remove(cascade=True)


def test_from_the_command_line(image: str) -> None:
    box, ready, twin = (f"{each}-{os.getpid()}" for each in ("grows", "grown", "twin"))
    size = ["df", "-B1M", "--output=size", "/"]
    said("run", "-d", "--name", box, "-m", "256M", "--disk", "128M", image, "sleep", "1000000")
    try:
        said("snapshot", "create", box, ready)
        shown = said("restore", "--rm", "--disk", "1G", ready, "--", *size)
        assert int(shown.split()[-1]) > 850
        refused = sandlot("restore", "--rm", "--disk", "100M", ready, "--", *size)
        lines = refused.stderr.decode().splitlines()
        assert refused.returncode == 125 and "can only grow" in lines[0] and len(lines) == 2
        assert lines[1].startswith("hint: leave --disk out")
        said("fork", "--rm", "--disk", "1G", "--name", twin, box)
        assert int(said("exec", twin, *size).split()[-1]) > 850
    finally:
        sandlot("rm", "-f", twin, box)
        sandlot("snapshot", "rm", ready)
