"""Idle sandboxes that sleep, and what wakes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import Sandbox, SandboxError, SandboxNotFound
from sandlot.sandbox.branching import prepare_child
from sandlot.sandbox.owned import OwnedMachine
from sandlot.sandbox.restoring import Changes, origin_of
from sandlot.sandbox.secrecy import Grants

SERVER = """
import socket, time
began = time.monotonic()
with socket.create_server(('0.0.0.0', 8000)) as server:
    print('ready', flush=True)
    number = 0
    while True:
        client, _ = server.accept()
        number += 1
        client.sendall(b'%d\\n' % number)
        client.close()
"""


async def asleep(sandbox: Sandbox) -> None:
    while sandbox.info().status != "hibernated":
        assert sandbox.info().state.running, sandbox.info().state
        await asyncio.sleep(0.05)


async def answer(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.fixture
async def sleeper(image: str) -> AsyncIterator[Sandbox]:
    async with Sandbox.create(
        image=image, memory="512M", ports={0: 8000}, idle_timeout=1, idle_action="hibernate"
    ) as sandbox:
        yield sandbox


async def test_an_idle_sandbox_sleeps_and_a_call_wakes_it(sleeper: Sandbox) -> None:
    await sleeper.exec("echo kept > /dev/shm/memory; echo kept > /root/disk", check=True)
    machine = sleeper.info().state.monitor
    await asleep(sleeper)
    assert not Path(f"/proc/{machine}").exists()
    assert sleeper.status == "hibernated"
    shown = await asyncio.gather(
        *(sleeper.exec("cat /dev/shm/memory /root/disk") for _ in range(3))
    )
    assert [each.text for each in shown] == ["kept\nkept\n"] * 3
    assert sleeper.status == "running"
    await asleep(sleeper)
    assert (await sleeper.files.read_text("/dev/shm/memory")) == "kept\n"
    await asleep(sleeper)
    async with sleeper.fork() as twin:
        assert (await twin.exec("cat /dev/shm/memory", check=True)).text == "kept\n"
    # What it changed before it slept is all that a snapshot of it has of its own.
    snap = await sleeper.snapshot()
    assert snap.record.own_memory < 100 << 20 and snap.usage().own < 100 << 20
    snap.folder.memory.drop_full()
    async with snap.restore() as child:
        assert (await child.exec("cat /dev/shm/memory", check=True)).text == "kept\n"
    await snap.remove()


async def test_a_program_that_runs_keeps_it_awake(sleeper: Sandbox) -> None:
    assert (await sleeper.exec("sleep 3; echo done")).text == "done\n"
    await asleep(sleeper)


async def test_a_detached_one_is_woken_by_a_connection(image: str, tmp_path: Path) -> None:
    sandbox = await Sandbox._make(
        name=None, image=image, memory="512M", ports={0: 8000}, idle_timeout=2,
        idle_action="hibernate", detached=True, command=["python3", "-c", SERVER], hold=True,
    )  # fmt: skip
    await sandbox.start()
    try:
        async for piece in sandbox.logs(follow=True):
            if b"ready" in piece.data:
                break
        (port,) = sandbox.ports
        assert await answer(port) == b"1\n"
        await asleep(sandbox)
        assert sandbox.ports == {port: 8000}
        assert await answer(port) == b"2\n"
        assert sandbox.info().status == "running"
        await asleep(sandbox)
        # Another program's call wakes it too, and its main command is still the same.
        job = await sandbox.main_job()
        assert job.status == "running"
        await asleep(sandbox)
        await sandbox.stop()
        assert sandbox.info().state.exit_code is not None
        assert not (sandbox.folder.path / "saved").exists()
        await sandbox.start()  # from its disk: what slept has ended
        async for piece in sandbox.logs(follow=True, tail=1):
            if b"ready" in piece.data:
                break
    finally:
        await sandbox.remove()
    with pytest.raises(SandboxNotFound):
        await Sandbox.get(sandbox.name)


@pytest.mark.parametrize("kill", [True, False])
async def test_one_that_sleeps_can_be_stopped(sleeper: Sandbox, kill: bool) -> None:
    await sleeper.exec("echo kept > /root/disk; sync", check=True)
    await asleep(sleeper)
    await sleeper.stop(kill=kill)
    assert sleeper.status == "stopped"
    await sleeper.start()
    assert (await sleeper.exec("cat /root/disk; ls /dev/shm")).text == "kept\n"


async def test_a_sleeper_whose_program_died_goes_on_at_the_next_start(
    image: str, tmp_path: Path
) -> None:
    code = f"""
import asyncio, os
from sandlot import Sandbox
async def main():
    sb = await Sandbox.create("left-asleep", image={image!r}, memory="512M", idle_timeout=1,
                              idle_action="hibernate")
    await sb.exec("echo kept > /dev/shm/memory", check=True)
    while sb.info().status != "hibernated":
        await asyncio.sleep(0.05)
    os._exit(9)
asyncio.run(main())
"""
    import sys

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=os.environ)
    assert await process.wait() == 9
    left = await Sandbox.get("left-asleep")
    try:
        assert left.status == "stopped"
        await left.start()
        assert (await left.exec("cat /dev/shm/memory")).text == "kept\n"
    finally:
        await left.remove()


async def test_a_machine_that_came_up_and_was_not_thawed_does_not_come_up_twice(
    sleeper: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel may have written to the disk, which is then not the one that its memory knows."""
    await sleeper.exec("echo kept > /root/disk; echo lost > /dev/shm/memory; sync", check=True)
    snap = await sleeper.snapshot()
    await asleep(sleeper)

    async def killed(_: object) -> None:
        raise SandboxError("killed before the thaw")

    monkeypatch.setattr(OwnedMachine, "thaw", killed)
    with pytest.raises(SandboxError, match="killed before"):
        await sleeper.exec("true")
    child = await prepare_child(snap._host, origin_of(snap.folder), None, Changes(), Grants(), None)
    with pytest.raises(SandboxError, match="killed before"):
        await child.start()
    overlay = child.folder.disk
    monkeypatch.undo()
    try:
        await sleeper.start()
        assert (await sleeper.exec("cat /root/disk; ls /dev/shm", check=True)).text == "kept\n"
        await child.start()  # over a new overlay, with its memory
        assert (await child.exec("cat /root/disk /dev/shm/memory")).text == "kept\nlost\n"
        assert child.folder.disk != overlay and not overlay.exists()
    finally:
        await child.remove()
        await snap.remove()
