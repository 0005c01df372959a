"""Memory that a guest has freed goes back to the host, and the template that it came from stays."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sandlot import Sandbox
from sandlot.engine.qemu.machine import QemuMachine
from sandlot.sandbox.host import Host

MIB = 1024 * 1024


def fingerprint(file: Path) -> tuple[int, int, str]:
    """Time, allocated space and contents."""
    status = file.stat()
    with file.open("rb") as opened:
        return (
            status.st_mtime_ns,
            status.st_blocks,
            hashlib.file_digest(opened, "sha256").hexdigest(),
        )


@asynccontextmanager
async def template_kept(host: Host) -> AsyncIterator[None]:
    """What happens inside must change nothing of the template, and a new sandbox must still work."""
    _, template = await host.template(512 * MIB, 1)
    ram = template.folder / "ram"
    before = await asyncio.to_thread(fingerprint, ram)
    yield
    assert await asyncio.to_thread(fingerprint, ram) == before
    async with Sandbox.create(image="test", memory="512M") as other:
        assert (await other.exec("echo whole")).text == "whole\n"
    _, again = await host.template(512 * MIB, 1)
    assert again.folder == template.folder


async def host_memory_below(sb: Sandbox, limit: int) -> None:
    async with asyncio.timeout(180):
        while (await sb.metrics()).host_memory > limit:
            await asyncio.sleep(0.2)


async def test_freed_memory_goes_back_while_the_sandbox_runs(image: str, host: Host) -> None:
    async with template_kept(host), Sandbox.create(image=image, memory="512M") as sb:
        keep = "head -c 20000000 /dev/urandom > /dev/shm/keep; sha256sum /dev/shm/keep > /sum"
        await sb.exec(keep, check=True)
        hold = (
            "import sys; x = bytearray(b'x') * (200 << 20); print(1, flush=True); sys.stdin.read()"
        )
        before = (await sb.metrics()).host_memory
        for _ in range(2):  # memory that went back can be had again, and given back again
            async with await sb.spawn(["python3", "-c", hold], stdin=True) as p:
                await p.stdout.read_line()
                full = (await sb.metrics()).host_memory
                assert full - before > 190 * MIB
                p.stdin.close()
                await p.wait()
            await host_memory_below(sb, full - 150 * MIB)
        # New memory is zeros, whatever the template holds at its place; the rest is as it was.
        zeros = "x = bytearray(300 << 20); print(x.count(0) == len(x))"
        assert (await sb.exec(["python3", "-c", zeros], check=True)).text == "True\n"
        assert (await sb.exec("sha256sum -c /sum")).exit_code == 0


async def test_a_guest_that_gives_up_nearly_all_memory_harms_only_itself(
    image: str, host: Host
) -> None:
    """The device's older way, page by page, which the guest's own root could take too."""
    async with template_kept(host), Sandbox.create(image=image, memory="512M") as sb:
        assert sb._owner is not None and sb._owner.owned is not None
        machine = sb._owner.owned.machine
        assert isinstance(machine, QemuMachine)
        await sb.exec("echo used")
        full = 512 * MIB
        await machine._monitor.execute("balloon", value=160 * MIB)
        async with asyncio.timeout(180):
            while (await machine._monitor.execute("query-balloon"))["actual"] > full - 256 * MIB:
                await asyncio.sleep(0.1)
        assert (await sb.exec("echo thin")).text == "thin\n"
        await machine._monitor.execute("balloon", value=full)
        async with asyncio.timeout(180):
            while (await machine._monitor.execute("query-balloon"))["actual"] < full:
                await asyncio.sleep(0.1)
        assert (await sb.exec("echo thick")).text == "thick\n"


async def test_a_disk_of_an_earlier_version_is_moved_to_its_place(image: str) -> None:
    sb = await Sandbox.create(image=image, memory="512M", disk="256M")
    try:
        await sb.exec("head -c 3000000 /dev/urandom > /keep; sha256sum /keep > /sum", check=True)
        await sb.stop()
        disk, old = sb.folder.disk, sb.folder.path / "old"
        # As it was then: at the beginning of its file.
        subprocess.run(
            ["dd", f"if={disk}", f"of={old}", "bs=1M", f"skip={1 << 20}", "conv=sparse"],
            check=True, capture_output=True,
        )  # fmt: skip
        assert old.stat().st_size == 256 * MIB
        old.replace(disk)
        await sb.start()
        assert (await sb.exec("sha256sum -c /sum")).exit_code == 0
        await sb.exec("rm /keep; echo new > /new; sync", check=True)
        await sb.stop()
        await sb.start()
        assert (await sb.exec("cat /new")).text == "new\n"
    finally:
        await sb.remove()
