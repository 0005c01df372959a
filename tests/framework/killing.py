"""Pushes, pulls and collections that are killed at their N-th step, for each N: run as a program.

It works on snapshots of a machine that never ran, in two state directories below the folder that is
its argument, with a remote in a folder between them. Each attempt is a process of its own, which
kills itself; what is told at the end is how many steps there were.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sandlot import Remote, Snapshot
from sandlot.remote import known, leases
from sandlot.remote.folder import FolderStore
from sandlot.remote.keys import new_key_file
from sandlot.remote.store import BlobStore
from sandlot.sandbox.host import Host
from tests.unit.snapshot.fakes import FACTS, files_of, make_snapshot

LEFT = 0
"""Steps until this process is killed; 0 for never."""


def step() -> None:
    global LEFT
    LEFT -= 1
    if LEFT == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(FolderStore):
    """A folder; before and after each call there is a step."""


def stepped(name: str) -> None:
    original = getattr(FolderStore, name)

    async def call(self: FolderStore, *arguments: Any, **options: Any) -> Any:
        step()
        found = await original(self, *arguments, **options)
        step()
        return found

    setattr(DyingStore, name, call)


for each in ("get", "put", "has", "delete", "read", "replace"):
    stepped(each)


def open_dying(address: object) -> BlobStore:
    return DyingStore(str(address))


def with_step(work: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        step()
        found = work(*arguments)
        step()
        return found

    return call


def attempt(at: int, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Whether the work ended by itself, in a process that is killed at its step `at`."""
    global LEFT
    child = os.fork()
    if not child:
        LEFT = at
        asyncio.run(work())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def machine(folder: Path) -> Host:
    os.environ["SANDLOT_DATA"] = str(folder)
    return Host.current()


def main(folder: Path) -> dict[str, int]:
    from sandlot.remote import remote as remotes

    new_key_file(folder / "key")
    os.environ["SANDLOT_KEY"] = str(folder / "key")
    facts = SimpleNamespace(facts=dict(FACTS))

    async def engine(self: Host) -> Any:
        return facts

    # For this program alone, which ends with the test: no machine is asked for.
    Host.engine = engine  # type: ignore[method-assign]
    vars(remotes)["open_store"] = open_dying
    for name in ("write_json", "_checked_write"):
        vars(known)[name] = with_step(vars(known)[name])
    leases.LEASE = -1.0  # who is dead is dead at once, in this test
    place = folder / "remote"
    here, there = folder / "here", folder / "there"
    host = machine(here)
    first = files_of(make_snapshot(host, "one", seed=1))
    second = files_of(make_snapshot(host, "two", seed=2))
    steps = {}

    async def push(name: str) -> None:
        snapshot = Snapshot(machine(here), machine(here).snapshots.find(name))
        await snapshot.push(Remote(str(place)), "it", force=True, keep=1)

    async def pull() -> None:
        machine(there)
        await Snapshot.pull("it", "pulled", remote=str(place))

    async def collect() -> None:
        machine(here)
        await Remote(str(place)).gc()

    def pulled(*allowed: object) -> None:
        """Another machine pulls what is there, which is whole."""
        asyncio.run(pull())
        found = machine(there).snapshots.find("pulled")
        assert files_of(found) in allowed
        machine(there).snapshots.remove(found)

    asyncio.run(push("one"))
    pulled(first)
    at = 0
    while True:
        at += 1
        name, old, new = ("two", first, second) if at % 2 else ("one", second, first)
        ended = attempt(at, partial(push, name))
        pulled(old, new)
        if ended:
            break
        asyncio.run(push(name))  # who asks again gets through
        pulled(new)
    steps["push"], at = at, 0
    while True:
        at += 1
        if attempt(at, pull):
            machine(there).snapshots.remove(machine(there).snapshots.find("pulled"))
            break
        there_now = machine(there).snapshots
        for left in there_now.all():  # whole or not at all, also when it was killed at the end
            assert files_of(left) == new
            there_now.remove(left)
        assert not there_now.half_made()
        pulled(new)
    steps["pull"], at = at, 0
    whole = folder / "whole"
    shutil.copytree(place, whole)
    while True:
        at += 1
        shutil.rmtree(place)
        shutil.copytree(whole, place)
        ended = attempt(at, collect)
        pulled(new)
        asyncio.run(collect())
        pulled(new)
        if ended:
            break
    steps["gc"] = at
    return steps


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
