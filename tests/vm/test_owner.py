"""Who runs a sandbox: pauses, limits of time, restarts, races, and owners that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandlot import ConfigError, NameTaken, Sandbox, SandboxDied, SandboxError, WrongState
from sandlot.sandbox.host import Host
from sandlot.state.lock import FileLock, is_held


@contextlib.asynccontextmanager
async def detached(image: str, **options: Any) -> AsyncIterator[Sandbox]:
    """A detached sandbox that is removed at the end."""
    command = options.pop("command", ())
    made = await Sandbox._make(
        name=None, image=image, memory="512M", detached=True, hold=True, command=command, **options
    )
    try:
        await made.start()
        yield made
    finally:
        await made.remove()


async def until_status(sandbox: Sandbox, *wanted: str, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while sandbox.info().status not in wanted:
            await asyncio.sleep(0.02)


def kinds(sandbox: Sandbox) -> list[str]:
    return [e.kind for e in Host.current().sandboxes.events.read() if e.id == sandbox.id]


async def test_pause_and_resume(sb: Sandbox) -> None:
    ticks = await sb.spawn("while :; do date +%s; sleep 0.2; done", detached=True)
    visitor = await Sandbox.get(sb.name)
    await visitor.pause()
    await sb.pause()
    assert sb.status == visitor.status == "paused"
    with pytest.raises(WrongState, match="paused"):
        await visitor.exec(["true"])
    with pytest.raises(WrongState, match="paused"):
        await sb.exec(["true"])
    with pytest.raises(WrongState, match="paused"):
        await visitor.jobs()
    # The guest stands still, and has the right time afterwards.
    machine = sb._owner.owned.machine if sb._owner and sb._owner.owned else None
    assert machine is not None
    before = machine.stats().cpu_seconds
    await asyncio.sleep(1.5)
    assert machine.stats().cpu_seconds - before < 0.5
    await visitor.resume()
    assert sb.status == "running"
    guest = float((await visitor.exec("date +%s.%N")).text)
    assert abs(guest - time.time()) < 2
    assert kinds(sb)[-2:] == ["paused", "resumed"]
    await ticks.kill()
    await sb.pause()
    await sb.stop(grace=1)  # a paused one can be stopped
    with pytest.raises(WrongState, match="not running"):
        await sb.pause()


async def test_idle_ones_stop_and_busy_ones_do_not(image: str) -> None:
    async with detached(image, idle_timeout=1.5, command=["sleep", "1000"]) as sandbox:
        await sandbox.exec(["sleep", "3"])  # in use
        job = await sandbox.spawn(["sleep", "3"], detached=True)  # a job is use as well
        await asyncio.sleep(2.5)
        assert sandbox.info().status == "running"
        assert (await job.wait()).exit_code == 0
        await until_status(sandbox, "stopped")
        assert sandbox.info().state.reason == "idle for 1.5 s"
        with pytest.raises(WrongState, match=r"idle for 1\.5 s"):
            await (await Sandbox.get(sandbox.name)).exec(["true"])


async def test_no_longer_than_its_duration(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", max_duration="1s") as sandbox:
        assert (await sandbox.exec(["sleep", "100"])).signal == 15
        with pytest.raises(SandboxDied, match="was stopped: ran for 1 s"):
            while True:
                await sandbox.exec(["true"])
        await sandbox.wait()
        assert sandbox.status == "stopped"
        assert sandbox.info().state.reason == "ran for 1 s"


async def test_restarts_on_failure_so_often(image: str) -> None:
    script = "echo run >> /root/runs; [ $(wc -l < /root/runs) -ge 9 ] && sleep 1000; exit 5"
    async with detached(image, restart="on-failure:2", command=["sh", "-c", script]) as sandbox:
        await until_status(sandbox, "stopped", seconds=120)
        state = sandbox.info().state
        assert (state.restarts, state.exit_code) == (2, 5)
        seen = kinds(sandbox)
        assert seen.count("exited") == 3 and seen.count("restarting") == 2
        assert seen.count("started") == 3 and seen.count("stopped") == 1


async def test_always_restarts_until_it_is_stopped(image: str) -> None:
    async with detached(image, restart="always", command=["sh", "-c", "sleep 0.3"]) as sandbox:
        async with asyncio.timeout(120):
            while sandbox.info().state.restarts < 2:
                await asyncio.sleep(0.05)
        await sandbox.stop()
        assert sandbox.info().status == "stopped"
        count = kinds(sandbox).count("started")
        await asyncio.sleep(1)
        assert kinds(sandbox).count("started") == count


async def test_a_machine_that_dies_is_restarted(image: str) -> None:
    async with detached(image, restart="on-failure", command=["sleep", "1000"]) as sandbox:
        monitor = sandbox.info().state.monitor
        os.kill(monitor, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not sandbox.info().state.restarts or sandbox.info().status != "running":
                await asyncio.sleep(0.02)
        assert (await sandbox.exec(["echo", "again"])).text == "again\n"


async def test_the_stop_signal_and_the_real_end(image: str) -> None:
    script = "trap 'echo int > /root/got; exit 9' INT; trap 'echo term > /root/got' TERM; echo up; while :; do sleep 0.05; done"
    async with detached(image, stop_signal="SIGINT", command=["sh", "-c", script]) as sandbox:
        async with await (await sandbox.main_job()).attach() as output:
            assert await output.read() is not None
        await sandbox.stop(grace=20)
        assert sandbox.info().state.exit_code == 9
        await sandbox.start()
        assert (await sandbox.exec("cat /root/got")).text == "int\n"
        await sandbox.kill()
        assert sandbox.info().state.exit_code == 137
    with pytest.raises(ConfigError, match="SIGNONE"):
        await Sandbox._make(name=None, image=image, stop_signal="SIGNONE")


async def test_stop_and_remove_while_it_starts(image: str) -> None:
    for act in ("stop", "remove"):
        made = await Sandbox._make(name=None, image=image, memory="512M", detached=True)
        other = await Sandbox.get(made.name)
        starting = asyncio.create_task(made.start())
        async with asyncio.timeout(30):
            while not is_held(made.folder.lock_path):
                await asyncio.sleep(0.001)
        await (other.stop(kill=True) if act == "stop" else other.remove())
        with contextlib.suppress(SandboxError):
            await starting
        # It may have come up a moment before: then the stop has ended it.
        assert not is_held(made.folder.lock_path)
        await made.remove()
        assert not made.folder.path.exists()


async def test_removing_while_a_program_runs(image: str) -> None:
    async with detached(image) as sandbox:
        running = asyncio.create_task((await Sandbox.get(sandbox.name)).exec(["sleep", "100"]))
        async with asyncio.timeout(30):
            while "1" not in (await sandbox.exec("pgrep -cx sleep")).text:
                pass
        await (await Sandbox.get(sandbox.name)).remove()
        with pytest.raises(SandboxDied):
            await running
        assert kinds(sandbox)[-2:] == ["stopped", "removed"]


async def test_a_keeper_that_was_killed(image: str) -> None:
    async with detached(image, command=["sleep", "1000"]) as sandbox:
        state = sandbox.info().state
        os.kill(state.owner, signal.SIGKILL)
        async with asyncio.timeout(30):
            while Path(f"/proc/{state.monitor}").exists() or sandbox.info().state.running:
                await asyncio.sleep(0.01)
        with pytest.raises(WrongState, match="not running"):
            await (await Sandbox.get(sandbox.name)).exec(["true"])
        await Sandbox.list()  # writes its end down
        assert kinds(sandbox)[-1] == "stopped"
        assert sandbox.info().state.reason == "its keeper was killed"
        await sandbox.start()
        assert (await sandbox.exec(["echo", "again"])).text == "again\n"


async def test_a_keeper_that_hangs(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.sandbox.life.OWNER_PATIENCE", 0.5)
    monkeypatch.setattr("sandlot.sandbox.life.KILL_PATIENCE", 0.5)
    async with detached(image) as sandbox:
        owner = sandbox.info().state.owner
        os.kill(owner, signal.SIGSTOP)
        try:
            visitor = await Sandbox.get(sandbox.name)
            with pytest.raises(WrongState, match=f"process {owner}.* does not answer") as caught:
                await visitor.stop(grace=0)
            assert f"kill -9 {owner}" in caught.value.hint
            await visitor.remove()  # that may kill what is ours
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(owner, signal.SIGCONT)
        assert not sandbox.folder.path.exists()


async def test_a_rm_sandbox_whose_maker_dies_is_removed(image: str) -> None:
    made = await Sandbox._make(name=None, image=image, auto_remove=True, hold=True)
    assert made._lock is not None
    assert made.name in [i.record.name for i in await Sandbox.list()]
    made._lock.release()  # as its death would
    made._lock = None
    assert made.name not in [i.record.name for i in await Sandbox.list()]
    assert not made.folder.path.exists()


async def test_a_handle_does_not_touch_another_of_its_name(image: str) -> None:
    first = await Sandbox._make(name="twice", image=image)
    stale = await Sandbox.get("twice")
    await first.remove()
    second = await Sandbox._make(name="twice", image=image)
    try:
        await stale.remove()
        assert second.folder.path.exists()
        with pytest.raises(NameTaken):
            await Sandbox._make(name="twice", image=image)
        await second.rename("thrice")
        assert (await Sandbox.get("thrice")).id == second.id
        lock = FileLock.take(second.folder.lock_path)
        assert lock is not None
        with pytest.raises(WrongState, match="is running"):
            await second.rename("again")
        lock.release()
    finally:
        await second.remove()
