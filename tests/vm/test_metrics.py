"""What a sandbox uses, what it said, and what it gives back."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from sandlot import ExecError, ResourceError, Sandbox, WrongState, sync
from tests.vm.test_cli import sandlot, until
from tests.vm.test_owner import detached

MIB = 1024 * 1024


async def test_both_views(sb: Sandbox) -> None:
    before = await sb.metrics()
    assert 0 < before.memory_used < before.memory_total <= 512 * MIB
    assert before.cpus == 1 and before.processes >= 0 and before.process_limit > 100
    assert 0 < before.disk_used < before.disk_total <= 4096 * MIB
    assert before.host_memory > 10 * MIB and before.host_cpu_seconds > 0 and before.host_disk > 0
    hog = "import time; x = bytearray(b'x' * (100 << 20)); print(1, flush=True); time.sleep(600)"
    p = await sb.spawn(["python3", "-c", hog])
    await p.stdout.read_line()
    await sb.exec("dd if=/dev/zero of=/big bs=1M count=50 && sync", check=True)
    after = await (await Sandbox.get(sb.name)).metrics()  # through the door
    assert after.memory_used - before.memory_used > 90 * MIB
    assert after.host_memory - before.host_memory > 90 * MIB
    assert after.disk_used - before.disk_used >= 50 * MIB
    assert after.host_disk - before.host_disk >= 45 * MIB
    assert after.cpu_seconds > before.cpu_seconds and after.uptime > before.uptime
    assert after.processes > before.processes
    await p.kill()


async def test_a_limit_of_processes_is_named(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", pids=12) as sandbox:
        assert (await sandbox.metrics()).process_limit == 12
        for _ in range(11):
            await sandbox.spawn(["sleep", "300"], detached=True)
        with pytest.raises(ExecError, match="pids"):
            for _ in range(5):
                await sandbox.spawn(["sleep", "300"], detached=True)


async def test_processors_work_in_parallel(image: str) -> None:
    if (os.cpu_count() or 1) < 2:
        with pytest.raises(ResourceError, match="processors"):
            await Sandbox.create(image=image, cpus=2)
        return
    async with Sandbox.create(image=image, memory="512M", cpus=2) as sandbox:
        assert (await sandbox.exec(["nproc"])).text == "2\n"
        spin = "for _ in range(4_000_000): pass"
        monitor = sandbox.info().state.monitor

        def spent() -> dict[str, float]:
            """The processor time of each thread of the machine, on the host."""
            times = {}
            for task in Path(f"/proc/{monitor}/task").iterdir():
                values = (task / "stat").read_text().rpartition(")")[2].split()
                times[task.name] = int(values[11]) / os.sysconf("SC_CLK_TCK")
            return times

        before = spent()
        await asyncio.gather(*(sandbox.exec(["python3", "-c", spin], check=True) for _ in range(2)))
        gained = sorted(now - before.get(task, 0.0) for task, now in spent().items())
        # The work is the same for both processors, however busy the host is.
        assert gained[-1] > 0.2 and gained[-2] > gained[-1] / 2, gained


async def test_what_is_removed_is_given_back_and_the_disk_stays_whole(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M", disk="1G")
    try:
        fill = (
            "head -c 20000000 /dev/urandom > /keep; sha256sum /keep > /keep.sum;"
            "head -c 200000000 /dev/zero | tr '\\0' x > /waste; sync"
        )
        await sandbox.exec(fill, check=True, timeout=120)
        full = (await sandbox.metrics()).host_disk
        assert full > 210 * MIB
        await sandbox.exec("rm /waste; sync", check=True)
        async with asyncio.timeout(60):
            while (await sandbox.metrics()).host_disk > full - 150 * MIB:
                await sandbox.exec("sync")
                await asyncio.sleep(0.1)
        # Discards go out by themselves; on the overlay there is nothing to trim, which fstrim says.
        trimmed = await sandbox.exec("fstrim -v /; fstrim -av")
        assert b"not supported" in trimmed.stderr and trimmed.exit_code == 0
        assert (await sandbox.exec("sha256sum -c /keep.sum")).exit_code == 0
        await sandbox.stop()
        await sandbox.start()
        assert (await sandbox.exec("sha256sum -c /keep.sum")).exit_code == 0
    finally:
        await sandbox.remove()


async def test_logs_of_both_kinds(image: str) -> None:
    script = "echo one; echo two >&2; echo sandlot-test > /dev/kmsg; sleep 1; echo three"
    async with detached(image, command=["sh", "-c", script]) as sandbox:
        followed = [e async for e in sandbox.logs(follow=True)]
        assert b"".join(e.data for e in followed if e.stream == "stdout") == b"one\nthree\n"
        assert b"".join(e.data for e in followed if e.stream == "stderr") == b"two\n"
        last = [e.data async for e in sandbox.logs(tail=1)]
        assert b"".join(last) == b"three\n"
        assert not [e async for e in sandbox.logs(since=time.time())]
        with pytest.raises(WrongState):
            await sandbox.metrics()


def test_logs_and_metrics_without_await(image: str) -> None:
    with sync.Sandbox.create(image=image, memory="512M") as sandbox:
        assert sandbox.metrics().memory_used > 0
        assert list(sandbox.logs()) == []
        sandbox.exec("echo '<0>loud words' > /dev/kmsg")
        deadline = time.monotonic() + 30
        while b"loud words" not in b"".join(e.data for e in sandbox.logs(console=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [e.kind for e in sandbox.events() if e.id == sandbox.id] == ["created", "started"]


def test_stats_and_logs_from_the_command_line() -> None:
    name = f"stats-{os.getpid()}"
    script = "for i in 1 2 3 4 5; do echo line$i; done; sleep 1000"
    try:
        assert sandlot("run", "-d", "--name", name, "test", "sh", "-c", script).returncode == 0
        until(lambda: b"line5" in sandlot("logs", name).stdout, "no output")
        assert sandlot("logs", "--tail", "2", name).stdout == b"line4\nline5\n"
        assert sandlot("logs", "--since", "1h", "-n", "all", name).stdout.count(b"line") == 5
        stamped = sandlot("logs", "-t", name).stdout.splitlines()
        assert len(stamped) == 5 and all(b"Z line" in line for line in stamped)
        pieces = [json.loads(line) for line in sandlot("logs", "--json", name).stdout.splitlines()]
        assert "".join(p["text"] for p in pieces).count("line") == 5
        (one,) = json.loads(sandlot("stats", "--json", name).stdout)
        assert one["name"] == name and one["memory_used"] > 0
        assert name.encode() in sandlot("stats", "--no-stream").stdout
        assert b"sleep 1000" in sandlot("top", name).stdout
        assert sandlot("logs", "--tail", "x", name).returncode == 125
        assert sandlot("stats", "no-such").returncode == 125
    finally:
        sandlot("rm", "-f", name)
