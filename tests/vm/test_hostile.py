"""A guest that does its worst harms itself only."""

from __future__ import annotations

import asyncio

import pytest

from sandlot import GuestProtocolError, Sandbox, SandboxDied
from sandlot.engine.config import DISK_OFFSET


async def answers(sb: Sandbox, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        assert (await sb.exec(["echo", "alive"])).text == "alive\n"


async def test_a_thousand_children(sb: Sandbox) -> None:
    r = await sb.exec(
        "i=0; while [ $i -lt 1000 ]; do sleep 60 & i=$((i+1)); done; pgrep -cx sleep", timeout=120
    )
    assert int(r.text) == 1000
    await answers(sb)


async def test_a_fork_bomb(image: str) -> None:
    async with (
        Sandbox.create(image=image, memory="512M") as bomb,
        Sandbox.create(image=image, memory="512M") as other,
    ):
        await bomb.spawn(["bash", "-c", "b() { b | b & }; b; sleep 60"], detached=True)
        for _ in range(5):
            await answers(other)
        await answers(bomb, 120)


async def test_a_full_disk(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", disk="128M") as sb:
        r = await sb.exec("dd if=/dev/zero of=/big bs=1M count=1000")
        assert r.exit_code != 0 and b"No space left" in r.stderr
        await answers(sb)
        used = sb.folder.disk.stat().st_blocks * 512
        assert used < 140 << 20
        assert (await sb.exec("rm /big && echo x > /small && cat /small")).text == "x\n"


async def test_a_disk_is_not_larger_than_asked_even_for_root(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", disk="128M") as sb:
        r = await sb.exec("dd if=/dev/zero of=/dev/vdb bs=1M seek=200 count=4 oflag=direct")
        assert r.exit_code != 0
        assert sb.folder.disk.stat().st_size == DISK_OFFSET + (128 << 20)


async def test_memory_runs_out(sb: Sandbox) -> None:
    r = await sb.exec(["python3", "-c", "x = bytearray(4 << 30); x[::4096] = b'x' * (1 << 20)"])
    r = await sb.exec("python3 -c 'l=[]\nwhile True: l.append(bytearray(1<<24))'")
    assert r.exit_code in (1, 137)
    r = await sb.exec("head -c 2G /dev/zero | tail")
    assert r.out_of_memory or r.exit_code != 0
    await answers(sb)


@pytest.mark.parametrize(
    "garbage",
    [
        "b'\\xff' * 100000",
        "b'\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x02\\xff\\xff\\xff\\xff'",
        "b'\\x00\\x04\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x10\\x00\\x00\\xff\\xff\\xff\\x00'",
    ],
)
async def test_garbage_on_the_channel(image: str, garbage: str) -> None:
    """Root in the guest takes the agent's memory and speaks in its place."""
    program = f"""
import os, glob
for fd in glob.glob('/proc/1/fd/*'):
    try:
        if 'vport' in os.readlink(fd):
            port = os.open(os.readlink(fd).replace('/dev/', '/dev/'), os.O_WRONLY)
    except OSError as e:
        err = e
try:
    os.write(port, {garbage})
except NameError:
    # The port admits one opener: take the descriptor itself.
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(434, 1, 0)
    for fd in os.listdir('/proc/1/fd'):
        mine = libc.syscall(438, pidfd, int(fd), 0)
        if mine >= 0 and 'vport' in os.readlink(f'/proc/self/fd/{{mine}}'):
            os.write(mine, {garbage})
import time; time.sleep(30)
"""
    async with (
        Sandbox.create(image=image, memory="512M") as bad,
        Sandbox.create(image=image, memory="512M") as good,
    ):
        with pytest.raises((GuestProtocolError, SandboxDied)) as caught:
            await bad.exec(["python3", "-c", program], timeout=60)
        assert isinstance(caught.value, GuestProtocolError), caught.value
        with pytest.raises((GuestProtocolError, SandboxDied)):
            await bad.exec(["true"])
        await answers(good)


async def test_a_guest_whose_kernel_panics(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M") as sb:
        with pytest.raises(SandboxDied) as caught:
            await sb.exec("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 60")
        assert "Kernel Offset" in caught.value.console_tail
