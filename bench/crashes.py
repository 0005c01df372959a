"""SIGKILL at every step of saving, restoring, forking, removing, sleeping and waking.

python -m bench.crashes [OPERATION ...] [--samples N] [--seed N] [--image demo]

A program of its own does the operation and is killed just before its N-th step, for every N until
the operation ends by itself (or for a sample of them). After each: every snapshot is whole or gone,
what it was made of starts again with its files, and no process and no half made file is left.
What it prints is its result: the seed, the steps, each fault.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.soak import environment, own_state
from bench.steps import Steps
from sandlot import Sandbox, SandboxError, SandboxNotFound, Snapshot, SnapshotNotFound
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import list_sandboxes
from sandlot.snapshot.store import SnapshotFolder

ROOT = Path(__file__).parents[1]
MEMORY = "256M"
PATIENCE = 180.0
VICTIM, BASE = "victim", "base"
IN_FOLDER = {
    "sandbox.json", "owner.lock", "run.json", "disk.json", "disk.img", "disk", "image", "memory",
    "saved", "output.jsonl", "console.jsonl", "flows.jsonl", "keeper.log",
}  # fmt: skip


# -- what is done, in a program that is killed --------------------------------------------------


async def _victim() -> Sandbox:
    """Start it, see that it has everything that was confirmed, and add to it."""
    victim = await Sandbox.get(VICTIM)
    await victim.start()
    confirmed = victim.folder.path.parents[1] / "confirmed"
    known = confirmed.read_text().split() if confirmed.exists() else []
    found = (await victim.exec("cat /root/marks", check=True)).text.split()
    if lost := set(known) - set(found):
        raise AssertionError(f"lost: {lost}")
    if strays := strays_of(victim.folder.path):
        raise AssertionError(f"left in its folder: {strays}")
    mark = secrets.token_hex(4)
    await victim.exec(
        f"echo {mark} >> /root/marks; echo {mark} > /dev/shm/mark; sync", check=True
    )  # fmt: skip
    with confirmed.open("a") as file:
        file.write(f"{mark}\n")
    return victim


async def _snapshot() -> Callable[[], Awaitable[Any]]:
    victim = await _victim()
    return lambda: victim.snapshot("new")


async def _fork() -> Callable[[], Awaitable[Any]]:
    victim = await _victim()

    async def fork() -> Sandbox:
        return await victim.fork("child")

    return fork


async def _restore() -> Callable[[], Awaitable[Any]]:
    base = await Snapshot.get(BASE)

    async def restore() -> Sandbox:
        return await base.restore("child")

    return restore


async def _restore_cold() -> Callable[[], Awaitable[Any]]:
    base = await Snapshot.get(BASE)
    base.folder.memory.drop_full()
    return await _restore()


async def _remove() -> Callable[[], Awaitable[Any]]:
    doomed = await Snapshot.get("new")
    return lambda: doomed.remove()


async def _hibernate() -> Callable[[], Awaitable[Any]]:
    victim = await _victim()
    assert victim._owner is not None
    return victim._owner.sleep.hibernate


async def _wake() -> Callable[[], Awaitable[Any]]:
    victim = await _victim()
    owner = victim._owner
    assert owner is not None
    await owner.sleep.hibernate()
    if not owner.asleep:
        raise AssertionError("it does not sleep")
    return owner.sleep.wake


OPERATIONS = {
    "snapshot": _snapshot, "restore": _restore, "restore-cold": _restore_cold, "fork": _fork,
    "remove": _remove, "hibernate": _hibernate, "wake": _wake,
}  # fmt: skip


async def work(operation: str, at: int) -> None:
    """The program: it is killed at a step, or says how many there were and dies then."""
    act = await OPERATIONS[operation]()
    steps = Steps(lambda _: os.kill(os.getpid(), signal.SIGKILL), at)
    with steps.watching():
        await act()
        sys.stdout.write(json.dumps(steps.taken))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)


# -- what is looked at afterwards --------------------------------------------------------------


@dataclass
class Walk:
    """One walk over the steps of one operation."""

    state: Path
    operation: str
    wrong: list[str] = field(default_factory=list)

    async def prepare(self, image: str) -> None:
        """What the operations need; made once for all."""
        with contextlib.suppress(SnapshotNotFound):
            await Snapshot.get(BASE)
            return
        victim = await Sandbox.create(VICTIM, image=image, memory=MEMORY)
        await victim.exec("echo first > /root/marks; echo first > /dev/shm/mark; sync", check=True)
        await victim.snapshot(BASE)
        await victim.stop()

    async def run(self, samples: int | None, dice: random.Random) -> list[int]:
        """Walk over all steps, or a sample of them; which."""
        taken = await self.once(0)
        numbers = list(range(1, len(taken) + 1))
        if samples is not None and samples < len(numbers):
            numbers = sorted(dice.sample(numbers, samples))
        for number in numbers:
            await self.once(number)
        return numbers

    async def once(self, at: int) -> list[str]:
        """Do it in a program that is killed at a step, and look at what there is then."""
        if self.operation == "remove":
            self._copy("new")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.crashes", "--worker", self.operation, "--at", str(at),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE):
                said, error = await process.communicate()
        except TimeoutError:
            process.kill()
            said, error = await process.communicate()
            self.fault(at, f"it hangs: {error.decode()[-2000:]}")
        if process.returncode != -signal.SIGKILL:
            self.fault(at, f"the program ended with {process.returncode}: {error.decode()[-2000:]}")
        try:
            await self.judge(at)
        except (SandboxError, OSError, AssertionError) as wrong:
            self.fault(at, f"{type(wrong).__name__}: {wrong}")
        taken: list[str] = json.loads(said or b"[]")
        return taken

    def fault(self, at: int, text: str) -> None:
        self.wrong.append(f"{self.operation}, killed at step {at}: {text}")

    def _copy(self, name: str) -> None:
        """Another snapshot with the same files."""
        base = Host.current().snapshots.find(BASE)
        target = base.path.with_name(name)
        shutil.copytree(base.path, target, copy_function=os.link)
        folder = SnapshotFolder(target)
        (target / "snapshot.json").unlink()  # a link would change the other's
        (target / "snapshot.json").write_text(
            json.dumps({**base.record().to_json(), "name": name, "id": secrets.token_hex(6)})
        )
        folder.record()

    async def judge(self, at: int) -> None:
        """Everything is whole or gone, and starts again."""
        await until(lambda: not processes(self.state), "processes are left")
        store = Host.current().snapshots
        for path in Host.current().paths.snapshots.glob(".*"):
            os.utime(path, (0, 0))  # what was half made long ago
        found = {each.name: each for each in await Snapshot.list()}
        if hidden := [each.name for each in Host.current().paths.snapshots.glob(".*")]:
            self.fault(at, f"half made snapshots are left: {hidden}")
        if store.half_made():
            self.fault(at, f"half made: {store.half_made()}")
        if extra := found.keys() - {BASE, "new"}:
            self.fault(at, f"snapshots that nobody made: {extra}")
        if BASE not in found:
            self.fault(at, "the snapshot that it came from is lost")
        for each in found.values():
            each.folder.verify(whole=True)
        names = {info.record.name for info in list_sandboxes()}
        if hidden := [each.name for each in Host.current().paths.sandboxes.glob(".*")]:
            self.fault(at, f"half made sandboxes are left: {hidden}")
        if VICTIM not in names or names - {VICTIM, "child"}:
            self.fault(at, f"there are the sandboxes {names}")
        if "child" in names:
            child = await Sandbox.get("child")
            await child.start()
            await self._alive(at, child)
        if "new" in found:
            if self.operation != "remove":
                async with found["new"].restore("new-child") as child:
                    await self._alive(at, child, whole=True)
            await found["new"].remove()

    async def _alive(self, at: int, child: Sandbox, *, whole: bool = False) -> None:
        """It goes on from its memory, or began again from its disk; both are whole."""
        shown = (await child.exec("cat /dev/shm/mark; tail -n 1 /root/marks")).text.split()
        if len(shown) != 2 - (not whole and len(shown) == 1) or len(set(shown)) != 1:
            self.fault(at, f"{child.name} shows {shown}")
        if strays := strays_of(child.folder.path):
            self.fault(at, f"left in the folder of {child.name}: {strays}")
        await child.remove()

    async def finish(self) -> None:
        """Remove all, and see that nothing is left."""
        for each in await Snapshot.list():
            if not (self.state / "snapshots" / each.name).exists():
                continue
            await each.remove(cascade=True)
        with contextlib.suppress(SandboxNotFound):
            await (await Sandbox.get(VICTIM)).remove()
        left = [*(self.state / "snapshots").iterdir(), *(self.state / "sandboxes").iterdir()]
        self.wrong += [f"left at the end: {each}" for each in left]

        def no_doors() -> bool:
            list_sandboxes()
            return not any((self.state / "run").iterdir())

        await until(no_doors, "sockets are left")


def strays_of(folder: Path) -> list[str]:
    """What is in a running sandbox's folder and belongs to nothing."""
    found = [each.name for each in folder.iterdir() if each.name not in IN_FOLDER]
    if (folder / "disk").exists():
        disk = json.loads((folder / "disk.json").read_text())
        known = {*disk["layers"], disk["active"]}
        found += [f"disk/{e.name}" for e in (folder / "disk").iterdir() if e.name not in known]
    return [each for each in found if not each.startswith((".sandbox.json", ".run.json"))]


def processes(state: Path) -> list[int]:
    """Machines and keepers whose files lie below `state`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            if os.fsencode(state) in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


async def until(condition: Callable[[], bool], text: str, patience: float = 60.0) -> None:
    """Wait for something that nobody tells of.

    Raises:
        AssertionError: it does not come.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(text)
        await asyncio.sleep(0.05)


async def walk(
    state: Path, operations: list[str], image: str, *, samples: int | None, seed: int,
    say: Any = print,
) -> list[str]:  # fmt: skip
    """Walk over the steps of these operations; what went wrong, in words."""
    dice = random.Random(seed)
    wrong: list[str] = []
    one = Walk(state, operations[0])
    for operation in operations:
        one = Walk(state, operation)
        began = time.monotonic()
        await one.prepare(image)
        numbers = await one.run(samples, dice)
        say(f"{operation}: killed at steps {numbers} in {time.monotonic() - began:.0f} s")
        wrong += one.wrong
        one.wrong = []
    await one.finish()
    return wrong + one.wrong


def main() -> int:
    """The program, and each of its workers."""
    parser = argparse.ArgumentParser(prog="bench.crashes")
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help=", ".join(OPERATIONS))
    parser.add_argument("--samples", type=int)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--image", default="demo")
    parser.add_argument("--worker")
    parser.add_argument("--at", type=int, default=0)
    a = parser.parse_args()
    if a.worker:
        asyncio.run(work(a.worker, a.at))
        return 0
    from sandlot.settings import Settings

    print(f"seed {a.seed}", flush=True)
    with own_state(Settings.read().data) as state:
        environment(state)
        wrong = asyncio.run(
            walk(state, a.operations or list(OPERATIONS), a.image, samples=a.samples, seed=a.seed)
        )
    for each in wrong:
        print(f"WRONG: {each}")
    print("everything whole or gone" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
