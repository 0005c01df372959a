"""What one sandbox was lent, without machines: who is counted, and until when."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot.errors import BootError, ConfigError, Refuse
from sandlot.network.hooks import Hooks
from sandlot.runtime.caller import caller_id
from sandlot.runtime.checking import Permit
from sandlot.runtime.grant import RuntimeAccess
from sandlot.runtime.requests import Exec, Hello, ListPeers, Start, Stop
from sandlot.sandbox.lending import Lending, runtime_options
from sandlot.secrets import Secret

GRANT = RuntimeAccess(3, images=["one"], memory="1G", secrets=["K", "GONE"])


class FakeSandbox:
    """Starts when it is allowed to, and is gone when it was removed."""

    def __init__(self, world: World, given: Permit) -> None:
        self.world, self.name, self.id = world, f"app.{given.name}", f"id-{given.name}"
        self.folder = SimpleNamespace(path=world.folder / given.name)
        self.record = SimpleNamespace(detached=False)
        self.status = "running"
        self.folder.path.mkdir()
        world.alive.add(self.name)
        world.most = max(world.most, len(world.alive))

    def _found(self) -> bool:
        return bool(self.folder.path.exists())

    async def start(self) -> None:
        self.world.callers.append(caller_id.get())
        await self.world.may_start.wait()
        if self.name.endswith("broken"):
            raise BootError("the guest did not come up, see /home/somebody")

    async def stop(self, *, grace: float | None = None) -> None:
        self.world.stopped.append((self.name, grace))

    async def remove(self) -> None:
        await asyncio.sleep(0)
        self.world.alive.discard(self.name)
        if self.folder.path.exists():
            self.folder.path.rmdir()


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alive: set[str] = set()
        self.most = 0
        self.stopped: list[tuple[str, float | None]] = []
        self.callers: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.may_start = asyncio.Event()
        self.may_start.set()


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def lending(world: World, monkeypatch: pytest.MonkeyPatch) -> Lending:
    record = SimpleNamespace(
        runtime=GRANT.to_json(), id="0123", name="app", secrets={"K": {}}, inspect=[]
    )
    owner: Any = SimpleNamespace(
        record=record, event=lambda kind, **details: world.events.append(details)
    )
    made = Lending(owner)

    async def make(given: Permit) -> FakeSandbox:
        await asyncio.sleep(0)
        return FakeSandbox(world, given)

    monkeypatch.setattr(made, "_made", make)
    return made


class Talk:
    def __init__(self) -> None:
        self.items: list[Any] = []

    async def item(self, item: Any) -> None:
        self.items.append(item)


async def ask(lending: Lending, request: Any) -> Any:
    """As a connection of the guest, in a task of its own."""
    talk: Any = Talk()
    answer = await asyncio.create_task(_handled(lending, request, talk))
    return talk.items if isinstance(request, ListPeers) else answer


async def _handled(lending: Lending, request: Any, talk: Any) -> Any:
    return await lending.handle(request, talk)


async def test_a_thousand_at_once_are_counted(lending: Lending, world: World) -> None:
    answers = await asyncio.gather(
        *(ask(lending, Start(memory=256 << 20)) for _ in range(1000)), return_exceptions=True
    )
    assert sum(isinstance(each, dict) for each in answers) == 3 == world.most
    assert all(isinstance(each, dict | Refuse) for each in answers)
    assert len(await ask(lending, ListPeers())) == 3
    assert set(world.callers) == {"0123"}
    assert caller_id.get() == ""


async def test_who_goes_away_in_the_middle_is_counted(lending: Lending, world: World) -> None:
    world.may_start.clear()
    asking = [
        asyncio.create_task(ask(lending, Start(name=f"n{n}", memory=512 << 20))) for n in range(2)
    ]
    while len(world.alive) < 2:
        await asyncio.sleep(0)
    for each in asking:
        each.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    # 512M each: both take all that was granted, though nobody waits for them.
    with pytest.raises(Refuse, match="0M of 1024M are left"):
        await ask(lending, Start())
    world.may_start.set()
    while [each["status"] for each in await ask(lending, ListPeers())] != ["running"] * 2:
        await asyncio.sleep(0)
    await ask(lending, Stop(peer="n0", grace=2.0))
    assert world.stopped == [("app.n0", 2.0)]
    assert (await ask(lending, Start(name="n0", memory=512 << 20)))["name"] == "n0"


async def test_what_does_not_start_is_gone_and_told_by_its_kind(
    lending: Lending, world: World
) -> None:
    with pytest.raises(Refuse) as refused:
        await ask(lending, Start(name="broken"))
    assert refused.value.message == "sandbox 'broken' could not be started: BootError"
    assert "/home/somebody" in world.events[-1]["failed"]
    assert not world.alive
    assert await ask(lending, ListPeers()) == []


async def test_others_are_not_there(lending: Lending) -> None:
    for name in ("app", "0123", "", "app.helper"):
        with pytest.raises(Refuse, match="has started none"):
            await ask(lending, Exec(peer=name, command=("id",)))
        with pytest.raises(Refuse, match="has started none"):
            await ask(lending, Stop(peer=name))


async def test_all_end_with_the_one_that_started_them(lending: Lending, world: World) -> None:
    await ask(lending, Start(name="runs", memory=256 << 20))
    world.may_start.clear()
    starting = asyncio.create_task(ask(lending, Start(name="starts", memory=256 << 20)))
    while len(world.alive) < 2:
        await asyncio.sleep(0)
    lending.close()
    with pytest.raises(Refuse, match="is stopping"):
        await ask(lending, Start())
    await lending.ended()
    assert not world.alive
    await asyncio.gather(starting, return_exceptions=True)


async def test_one_that_does_not_come_up_can_be_stopped(lending: Lending, world: World) -> None:
    world.may_start.clear()
    starting = asyncio.create_task(ask(lending, Start(name="slow")))
    while not world.alive:
        await asyncio.sleep(0)
    await ask(lending, Stop(peer="slow"))
    assert not world.alive
    assert await ask(lending, ListPeers()) == []
    with pytest.raises(Refuse, match="was stopped while it started"):
        await starting


async def test_one_that_somebody_removed_counts_no_more(lending: Lending, world: World) -> None:
    for n in range(4):
        await ask(lending, Start(name=f"n{n}", memory=512 << 20))
        (world.folder / f"n{n}").rmdir()


async def test_hello_tells_the_grant(lending: Lending) -> None:
    said = await ask(lending, Hello())
    assert (said["name"], said["id"], said["version"]) == ("app", "0123", 1)
    # A secret that the sandbox has no more cannot be granted.
    assert said["grant"]["secrets"] == ["K"]


def test_what_may_be_granted() -> None:
    secrets = {"K": Secret("value", hosts="a.example"), "GONE": Secret("v", hosts="a.example")}
    fields, variables = runtime_options(
        GRANT, {"PATH": "/own", "PYTHONPATH": "/lib"}, secrets, None
    )
    assert RuntimeAccess.from_json(fields["runtime"]) == GRANT
    assert variables["PATH"] == "/own:/run/sandlot/runtime"
    assert variables["PYTHONPATH"].startswith("/lib:/run/sandlot/runtime/sandlot-")
    assert runtime_options(GRANT, {}, secrets, None)[1]["PATH"].startswith("/usr/local/sbin:")
    for runtime, hooks in (
        ("all", None), (RuntimeAccess(secrets=["OTHER"]), None),
        (RuntimeAccess(lifetime="detached"), Hooks()),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            runtime_options(runtime, {}, secrets, hooks)
