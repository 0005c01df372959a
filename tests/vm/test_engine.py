"""The conformance suite of the seam `Engine`: run on whatever accelerator is chosen here.

`SANDLOT_ACCELERATOR=kvm pytest tests/vm/test_engine.py` runs it on another one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import ExecError, SandboxDied
from sandlot.engine.base import Engine, Machine
from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET, MIB, Disk, MachineConfig
from sandlot.guest.agent import agent_path
from sandlot.guest.channel import Channel
from sandlot.guest.initramfs import build_initramfs
from sandlot.guest.session import Command, GuestSession
from sandlot.sandbox.host import Host
from sandlot.snapshot.template import kernel_arguments
from sandlot.wire.frames import FIRST_TOKEN
from sandlot.wire.messages import Clock

PATIENCE = 240.0  # an engine inside an emulated machine is slow


@pytest.fixture
async def engine(host: Host) -> Engine:
    return await host.engine()


@pytest.fixture
async def config(host: Host, engine: Engine, tmp_path: Path) -> MachineConfig:
    kernel = await host.kernel()
    from sandlot.engine.qemu.engine import host_machine

    initrd = tmp_path / "initrd"
    initrd.write_bytes(build_initramfs(kernel, agent_path(host_machine())))
    for name, size in (("ram", 256 * MIB), ("blank", DISK_OFFSET + DEVICE_SIZE)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    blank = tmp_path / "blank"
    plain = MachineConfig(
        memory=256 * MIB,
        cpus=1,
        ram=tmp_path / "ram",
        kernel=kernel.image,
        initrd=initrd,
        disks=(
            Disk(path=blank, readonly=True),
            Disk(path=blank, readonly=False, offset=DISK_OFFSET),
        ),
    )
    return dataclasses.replace(plain, cmdline=kernel_arguments(engine, plain))


@pytest.fixture
async def booted(
    engine: Engine, config: MachineConfig, tmp_path: Path
) -> AsyncIterator[tuple[Machine, GuestSession, bytes]]:
    machine = await engine.boot(config, tmp_path / "state")
    try:
        channel, token = await Channel.resynced(
            machine.channel, machine.window, FIRST_TOKEN, patience=PATIENCE
        )
        yield machine, GuestSession(channel), token
        channel.close()
    finally:
        await machine.close()


async def answers(session: GuestSession) -> None:
    await session.call(Clock(time_ns=time.time_ns()))


async def test_a_machine_boots_pauses_resumes_and_is_measured(
    booted: tuple[Machine, GuestSession, bytes],
) -> None:
    machine, session, _ = booted
    await answers(session)
    with pytest.raises(ExecError):
        await session.start(Command(argv=[b"/init"]))
    await machine.pause()
    waiting = asyncio.create_task(answers(session))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done, "a paused machine answered"
    await machine.pause()
    await machine.resume()
    await waiting
    stats = machine.stats()
    assert stats.private_bytes > MIB and stats.cpu_seconds > 0


async def test_a_saved_machine_is_restored_many_times_at_once(
    booted: tuple[Machine, GuestSession, bytes],
    engine: Engine,
    config: MachineConfig,
    tmp_path: Path,
) -> None:
    machine, session, token = booted
    await answers(session)
    await machine.pause()
    await machine.save()
    session.channel.close()
    machine.kill()
    await machine.wait()
    before = (tmp_path / "ram").stat().st_mtime_ns

    async def child() -> None:
        restored = await engine.restore(config, tmp_path / "state")
        try:
            channel, nonce = await Channel.resynced(
                restored.channel, restored.window, token, patience=PATIENCE
            )
            assert nonce != token
            own = GuestSession(channel)
            await own.configure(hostname="child", machine_id="0" * 32)
            await answers(own)
            channel.close()
        finally:
            await restored.close()

    await asyncio.gather(child(), child(), child())
    await child()
    assert (tmp_path / "ram").stat().st_mtime_ns == before, "a child wrote to the saved memory"


async def test_a_killed_machine_is_told(booted: tuple[Machine, GuestSession, bytes]) -> None:
    machine, session, _ = booted
    machine.kill()
    assert await machine.wait() != 0
    with pytest.raises(SandboxDied):
        await answers(session)
    machine.kill()


async def test_a_kernel_that_cannot_start_ends_and_its_console_is_kept(
    engine: Engine, config: MachineConfig, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    broken = dataclasses.replace(config, initrd=empty)
    machine = await engine.boot(broken, tmp_path / "state")
    try:
        async with asyncio.timeout(PATIENCE):
            await machine.wait()
        assert "panic" in machine.console_tail()
    finally:
        await machine.close()
