"""Where the milliseconds of a restore go."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.measure import Row, row
from sandlot import Sandbox
from sandlot.engine.qemu.machine import QemuMachine
from sandlot.guest.channel import Channel
from sandlot.guest.session import GuestSession
from sandlot.sandbox import restoring
from sandlot.sandbox.owned import OwnedMachine

ROUNDS = 15


class Clock:
    """When each step began and ended, by the wall clock, since QMP tells that time."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        self.began: dict[str, float] = {}

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Note when calls of an asynchronous function begin and end."""
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)
        bound = hasattr(inner, "__self__")

        async def timed(*args: Any, **options: Any) -> Any:
            self.began[label] = time.time()
            try:
                return await inner(*(args[1:] if bound else args), **options)
            finally:
                self.ended[label] = time.time()

        setattr(owner, name, classmethod(timed) if bound else timed)


def _resumed(machine: QemuMachine) -> float:
    """When the machine had loaded its state and let the processors run."""
    machine._script.drain()
    for text in machine._script.text().splitlines():
        said = json.loads(text)
        if said.get("event") == "RESUME":
            when = said["timestamp"]
            return float(when["seconds"] + when["microseconds"] / 1e6)
    raise AssertionError("QEMU told of no RESUME")


async def phases() -> list[Row]:
    """Of `Snapshot.restore` to the first exec's answer, step by step."""
    clock = Clock()
    clock.wrap(restoring, "make_child", "folder")
    clock.wrap(QemuMachine, "start", "start")
    clock.wrap(Channel, "resynced", "resync")
    clock.wrap(GuestSession, "configure", "configure")
    clock.wrap(OwnedMachine, "thaw", "thaw")
    found: dict[str, list[float]] = {}

    def note(what: str, seconds: float) -> None:
        found.setdefault(what, []).append(seconds * 1e3)

    async with Sandbox.create(image="demo", memory="512M") as sandbox:
        await sandbox.exec(["/bin/true"])
        snap = await sandbox.snapshot()
        for _ in range(ROUNDS):
            began = time.time()
            child = await snap.restore()
            returned = time.time()
            await child.exec(["/bin/true"])
            answered = time.time()
            assert child._owner is not None and child._owner.owned is not None
            machine = child._owner.owned.machine
            assert isinstance(machine, QemuMachine)
            resumed = _resumed(machine)
            note("record and folder: links, an overlay", clock.ended["folder"] - began)
            note("process started", clock.ended["start"] - clock.ended["folder"])
            note("QEMU's own start, memory mapped, devices loaded", resumed - clock.ended["start"])
            note("agent's first answer (first page faults)", clock.ended["resync"] - resumed)
            note(
                "identity: clock, entropy, names",
                clock.ended["configure"] - clock.began["configure"],
            )
            note("network attached", clock.began["thaw"] - clock.ended["configure"])
            note("thaw: boot id, event file, programs go on",
                 clock.ended["thaw"] - clock.began["thaw"])  # fmt: skip
            note("the rest of `restore`", returned - clock.ended["thaw"])
            note("the first exec", answered - returned)
            note("all", answered - began)
            await child.exec(["/bin/true"])
            again = time.time()
            await child.exec(["/bin/true"])
            note("a later exec", time.time() - again)
            await child.remove()
        await snap.remove()
    return [row(f"restore: {what}", "", values, "ms") for what, values in found.items()]


BENCHES = {"phases": phases}
