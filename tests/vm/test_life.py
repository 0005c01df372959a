"""A sandbox's life, its identity, and its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sandlot import (
    ConfigError,
    ImageNotFound,
    NameTaken,
    ResourceError,
    Sandbox,
    SandboxDied,
    SandboxNotFound,
    StateError,
    sync,
)
from sandlot.sandbox.host import Host

IDENTITY = """
import os, uuid, time, socket
print(os.urandom(16).hex(), uuid.uuid4(), socket.gethostname(), open('/etc/machine-id').read().strip(),
      open('/proc/sys/kernel/random/uuid').read().strip(), repr(time.time()))
"""


async def identity(sandbox: Sandbox) -> tuple[list[str], float]:
    """What the guest says it is, and how far its clock is from ours at most."""
    best = float("inf")
    for _ in range(3):
        before = time.time()
        text = (await sandbox.exec(["python3", "-c", IDENTITY], check=True)).text.split()
        after = time.time()
        guest = float(text[-1])
        best = min(best, max(before - guest, guest - after, 0.0))
    return text[:-1], best


async def test_two_sandboxes_are_two_machines_with_the_right_time(image: str) -> None:
    async with (
        Sandbox.create("one-machine", image=image, memory="512M") as a,
        Sandbox.create("other-machine", image=image, memory="512M", hostname="other") as b,
    ):
        (first, off_a), (second, off_b) = await identity(a), await identity(b)
    assert first[2] == "one-machine" and second[2] == "other"
    assert not set(first) & set(second)
    assert off_a < 0.05 and off_b < 0.05


async def test_the_clock_follows_the_host(sb: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the host slept: real time has gone on, the monotonic clock has not."""
    real = time.time_ns
    ahead = 5 * 3600
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead * 10**9)
    monkeypatch.setattr(time, "time", lambda: real() / 1e9 + ahead)
    guest = float((await sb.exec(["python3", "-c", "import time; print(time.time())"])).text)
    assert abs(guest - ahead - real() / 1e9) < 5


async def test_stop_keeps_the_disk_and_start_brings_it_back(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M")
    try:
        machine = (await sandbox.exec("cat /etc/machine-id; echo kept > /root/file")).text
        assert sandbox.status == "running"
        await sandbox.stop()
        assert sandbox.status == "stopped"
        await sandbox.stop()
        found = await Sandbox.get(sandbox.name)
        await found.start()
        assert (await found.exec("cat /etc/machine-id; cat /root/file")).text == f"{machine}kept\n"
        # The other handle reaches it through the door.
        assert (await sandbox.exec("cat /root/file")).text == "kept\n"
        await found.stop()
    finally:
        await sandbox.remove()
    with pytest.raises(SandboxNotFound):
        await Sandbox.get(sandbox.name)


async def test_a_sandbox_keeps_the_image_it_was_made_from(image: str, host: Host) -> None:
    store = host.images
    store.alias(store.get(image), "passing")
    sandbox = await Sandbox.create(image="passing", memory="512M")
    try:
        await sandbox.stop()
        store.remove("passing")
        await sandbox.start()
        assert (await sandbox.exec(["python3", "-c", "print(1)"])).text == "1\n"
    finally:
        await sandbox.remove()


async def test_processes_are_asked_to_end_before_they_are_killed(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M")
    try:
        p = await sandbox.spawn(
            "trap 'echo bye > /root/last; exit' TERM; echo up; while :; do sleep 0.1; done"
        )
        assert await p.stdout.read_line() == b"up\n"
        await sandbox.stop(grace=20)
        await sandbox.start()
        assert (await sandbox.exec("cat /root/last")).text == "bye\n"
    finally:
        await sandbox.remove()


async def test_names(image: str) -> None:
    async with Sandbox.create("taken", image=image, memory="512M") as first:
        with pytest.raises(NameTaken, match="taken"):
            await Sandbox.create("taken", image=image)
        assert (await Sandbox.get(first.id[:6])).name == "taken"
        assert "taken" in [i.record.name for i in await Sandbox.list() if i.status == "running"]
    made = await asyncio.gather(
        *(Sandbox._make(name="race", image=image) for _ in range(5)), return_exceptions=True
    )
    won = [m for m in made if isinstance(m, Sandbox)]
    assert len(won) == 1
    assert all(isinstance(m, NameTaken) for m in made if m is not won[0])
    await won[0].remove()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"image": "no-such-image"}, ImageNotFound),
        ({"name": "no/slash"}, ConfigError),
        ({"name": ""}, ConfigError),
        ({"memory": "much"}, ConfigError),
        ({"memory": "1M"}, ConfigError),
        ({"memory": "400G"}, ResourceError),
        ({"cpus": 0}, ConfigError),
        ({"cpus": 64}, ResourceError),
        ({"disk": "1K"}, ConfigError),
        ({"disk": "65G"}, ConfigError),
        ({"hostname": "a b"}, ConfigError),
        ({"env": {"": "x"}}, ConfigError),
    ],
)
async def test_bad_options(
    image: str, shared_parts: Path, options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        await Sandbox.create(**{"image": image, **options})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert await Sandbox.list() == []


async def test_a_state_directory_that_cannot_be_used(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDLOT_DATA", "/proc/nothing")
    with pytest.raises(StateError, match="/proc/nothing"):
        await Sandbox.create(image=image)


async def test_a_machine_that_dies_is_told_and_cleaned_up(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M")
    try:
        p = await sandbox.spawn(["sleep", "100"])
        monitor = sandbox.info().state.monitor
        os.kill(monitor, signal.SIGKILL)
        with pytest.raises(SandboxDied, match="has died"):
            await p.wait()
        with pytest.raises(SandboxDied):
            await sandbox.exec(["true"])
        assert sandbox.status == "stopped"
        await sandbox.start()
        assert (await sandbox.exec(["echo", "again"])).text == "again\n"
    finally:
        await sandbox.remove()


async def test_a_guest_that_powers_off(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M") as sandbox:
        with pytest.raises(SandboxDied):
            await sandbox.exec("echo o > /proc/sysrq-trigger; sleep 60")
        assert sandbox.status == "stopped"


OWNER = """
import asyncio, sys
from sandlot import Sandbox
async def main():
    sb = await Sandbox.create(sys.argv[1], image="test", memory="512M")
    print(sb.info().state.monitor, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_it_dies_with_its_owner(image: str) -> None:
    name = f"orphan-{os.getpid()}"
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), name], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        monitor = int(owner.stdout.readline())
        assert Path(f"/proc/{monitor}").exists()
        # From another program it can be used while it lives.
        found = await Sandbox.get(name)
        assert found.status == "running"
        assert (await found.exec(["echo", "hi"])).text == "hi\n"
        owner.kill()
        owner.wait()
        async with asyncio.timeout(10):
            while Path(f"/proc/{monitor}").exists():
                await asyncio.sleep(0.01)
        dead = await Sandbox.get(name)
        assert dead.status == "stopped"
        await dead.remove()
        assert not list(Host.current().paths.sockets.glob(f"{dead.id}.sock"))
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close() if owner.stdout else None
        with contextlib.suppress(SandboxNotFound):
            await (await Sandbox.get(name)).remove()


async def test_detached_ones_live_on_by_themselves(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="512M", detached=True)
    try:
        assert (await sandbox.exec(["cat"], stdin=b"x" * 300_000)).stdout == b"x" * 300_000
        again = await Sandbox.get(sandbox.name)
        assert again.status == "running"
        assert again.info().state.owner != os.getpid()
        r = await asyncio.gather(*(again.exec(["echo", str(i)]) for i in range(20)))
        assert [x.text for x in r] == [f"{i}\n" for i in range(20)]
        task = asyncio.create_task(again.exec(["sleep", "333"]))
        async with asyncio.timeout(30):
            while "1" not in (await sandbox.exec("pgrep -cx sleep")).text:
                pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            while "1" in (await sandbox.exec("pgrep -cx sleep")).text:
                pass
        await again.stop()
        assert again.status == "stopped"
    finally:
        await sandbox.remove()


def test_the_synchronous_api(image: str) -> None:
    with sync.Sandbox.create(image=image, memory="512M") as sandbox:
        assert sandbox.exec(["echo", "hi"], check=True).text == "hi\n"
        with sandbox.spawn(["cat"], stdin=True) as p:
            p.stdin.write(b"line\n")
            assert p.stdout.read_line() == b"line\n"
            p.stdin.close()
            assert p.wait().exit_code == 0
        assert sandbox.name in [i.record.name for i in sync.Sandbox.list()]
        assert sandbox.stats().private_bytes > 0


async def test_nothing_but_its_own_descriptors_and_no_privileges(sb: Sandbox, host: Host) -> None:
    monitor = sb.info().state.monitor
    status = Path(f"/proc/{monitor}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert sb.folder.path.name == sb.name
    targets = [os.readlink(f) for f in Path(f"/proc/{monitor}/fd").iterdir()]  # noqa: PTH115
    strange = [
        t
        for t in targets
        if not t.startswith(
            ("socket:", "anon_inode:", "pipe:", "/memfd:sandlot-window", "/dev/null")
        )
        and not t.startswith((str(host.paths.data), "/tmp/"))
    ]
    assert not strange
    limits = Path(f"/proc/{monitor}/limits").read_text()
    assert [line.split()[4] for line in limits.splitlines() if "core file" in line] == ["0"]
