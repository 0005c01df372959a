"""Death, a full disk and a change of mind at every step of saving, restoring and forking.

Each operation is watched (bench/steps.py): what it does to the disk and to machines is its steps,
and at one of them something happens. All steps are walked by `python -m bench.crashes`; here the
dear ones are sampled, by a seed that a failure shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.crashes import strays_of, walk
from bench.soak import environment, own_state
from bench.steps import Steps

from sandlot import Sandbox, SandboxError, Snapshot, SnapshotNotFound
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import list_sandboxes

PATIENCE = 120.0
Act = Callable[[], Awaitable[Any]]


@pytest.fixture
def seed() -> int:
    return int.from_bytes(os.urandom(3))


@pytest.fixture
def apart(image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of its own, with the parts of all tests."""
    source = Path(os.environ["SANDLOT_DATA"])
    for name in ("SANDLOT_DATA", "SANDLOT_RUNTIME"):
        monkeypatch.setenv(name, os.environ[name])  # so that both are put back
    with own_state(source) as state:
        environment(state)
        yield state


@pytest.fixture
async def parent(image: str, apart: Path) -> AsyncIterator[Sandbox]:
    """A running sandbox with something on its disk and in its memory."""
    async with Sandbox.create("parent", image=image, memory="256M") as sandbox:
        await sandbox.exec("echo kept > /root/disk; echo kept > /dev/shm/memory; sync", check=True)
        yield sandbox
        for snapshot in await Snapshot.list():
            with contextlib.suppress(SnapshotNotFound):
                await snapshot.remove(cascade=True)
    await nothing_half_made()
    assert not list(Host.current().paths.sandboxes.iterdir())


async def has_all(sandbox: Sandbox) -> None:
    shown = await sandbox.exec("cat /root/disk /dev/shm/memory", check=True)
    assert shown.text == "kept\nkept\n"
    assert strays_of(sandbox.folder.path) == []


async def nothing_half_made() -> None:
    """Nothing that the programs here have begun is left unfinished; all that is there is whole."""
    for snapshot in await Snapshot.list():
        snapshot.folder.verify(whole=True)
    list_sandboxes()
    paths = Host.current().paths
    assert [path.name for path in paths.snapshots.glob(".*")] == []
    assert [path.name for path in paths.sandboxes.glob(".*")] == []


async def count(act: Act, only: tuple[str, ...] | None = None) -> int:
    """How many steps it takes."""
    steps = Steps(lambda _: None, 0, only)
    with steps.watching():
        await act()
    return len(steps.taken)


# -- the program dies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation, samples",
    [("snapshot", 4), ("restore", 5), ("restore-cold", 4), ("fork", 4), ("remove", 6),
     ("hibernate", 3), ("wake", 3)],
)  # fmt: skip
async def test_sigkill_at_a_step(
    operation: str, samples: int, image: str, apart: Path, seed: int
) -> None:
    wrong = await walk(apart, [operation], image, samples=samples, seed=seed, say=lambda _: None)
    assert not wrong, (seed, wrong)


# -- the machine dies ---------------------------------------------------------------------------


def _kill_machines(but: tuple[int, ...] = ()) -> None:
    """SIGKILL the machines of this program."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            mine = parent == os.getpid() and int(path.name) not in but
            if mine and b"qemu" in (path / "cmdline").read_bytes():
                os.kill(int(path.name), signal.SIGKILL)


async def test_the_machine_dies_while_it_is_saved(parent: Sandbox, seed: int) -> None:
    acts: dict[str, Act] = {
        "snapshot": lambda: parent.snapshot("new"), "fork": lambda: parent.fork("twin"),
    }  # fmt: skip
    dice = random.Random(seed)
    for what, act in acts.items():
        steps = await count(act)
        for at in sorted(dice.sample(range(1, steps + 1), 5)):
            await _forget()
            struck = Steps(lambda _: _kill_machines(), at)
            with struck.watching(), contextlib.suppress(SandboxError):
                async with asyncio.timeout(PATIENCE):
                    await act()
            await _forget()
            await nothing_half_made()
            async with asyncio.timeout(PATIENCE):
                await parent.stop(kill=True)
            assert parent.status == "stopped", (seed, what, at)
            await parent.start()
            assert (await parent.exec("cat /root/disk", check=True)).text == "kept\n"
            assert strays_of(parent.folder.path) == [], (seed, what, at)
        await _forget()


async def _forget() -> None:
    """Remove what an operation made, if it did."""
    for name in ("twin", "child"):
        with contextlib.suppress(SandboxError):
            await (await Sandbox.get(name)).remove()
    with contextlib.suppress(SnapshotNotFound):
        await (await Snapshot.get("new")).remove(cascade=True)


async def test_the_machine_of_a_child_dies_while_it_comes_up(parent: Sandbox, seed: int) -> None:
    base = await parent.snapshot("base")
    own = (parent.info().state.monitor,)

    async def restore() -> None:
        await base.restore("child")

    steps = await count(restore)
    await _forget()
    for at in sorted(random.Random(seed).sample(range(1, steps + 1), 8)):
        struck = Steps(lambda _: _kill_machines(own), at)
        with struck.watching(), contextlib.suppress(SandboxError):
            async with asyncio.timeout(PATIENCE):
                await restore()
        await _forget()
        await nothing_half_made()
        await has_all(parent)
    async with base.restore("child") as child:
        await has_all(child)


# -- who asked changes his mind -----------------------------------------------------------------


async def test_cancelled_at_a_step(parent: Sandbox, seed: int) -> None:
    dice = random.Random(seed)
    base = await parent.snapshot("base")
    acts: dict[str, Act] = {
        "snapshot": lambda: parent.snapshot("new"), "fork": lambda: parent.fork("twin"),
        "restore": lambda: base.restore("child"),
    }  # fmt: skip
    loop = asyncio.get_running_loop()
    for what, act in acts.items():
        steps = await count(act)
        await _forget()
        for at in sorted(dice.sample(range(1, steps + 1), min(steps, 12))):
            task = asyncio.ensure_future(act())

            def cancel(_: str, task: asyncio.Future[Any] = task) -> None:
                loop.call_soon_threadsafe(task.cancel)

            struck = Steps(cancel, at)
            with struck.watching(), contextlib.suppress(asyncio.CancelledError):
                await task
            await _forget()
            await nothing_half_made()
            assert (await parent.exec("true")).exit_code == 0, (seed, what, at)
        await has_all(parent)
    await parent.exec("echo after > /root/after; sync", check=True)
    await parent.stop()
    await parent.start()
    assert (await parent.exec("cat /root/disk /root/after", check=True)).text == "kept\nafter\n"
    assert strays_of(parent.folder.path) == []
