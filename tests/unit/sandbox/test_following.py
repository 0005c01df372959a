"""What is followed, without a machine; real ones in tests/vm/test_live.py."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sandlot import (
    ConfigError,
    Follow,
    NameTaken,
    Remote,
    RemoteDamaged,
    RemoteNotFound,
    RemoteUnreachable,
    Sandbox,
    WrongState,
)
from sandlot.network.policy import Network
from sandlot.remote.keys import new_key_file
from sandlot.remote.opening import open_store
from sandlot.remote.versions import begin_push
from sandlot.sandbox import following as module
from sandlot.sandbox import pushing
from sandlot.sandbox.host import Host
from sandlot.sandbox.pushing import parts
from tests.unit.snapshot.fakes import (
    PLACEHOLDER,
    fitting_host,
    make_snapshot,
    nothing_half_made,
    source_record,
)


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return fitting_host(monkeypatch)


class Site:
    """Where versions of one sandbox are pushed, and what stands here for them."""

    def __init__(self, host: Host, folder: Path) -> None:
        new_key_file(folder / "key")
        self.folder = folder / "remote"
        self.remote = Remote(str(self.folder), key=folder / "key")
        self._host = host
        self._seed = 0
        self.records: list[Any] = []
        self.ended: list[str] = []

    async def push(self, keep: int = 3) -> int:
        """Another version."""
        self._seed += 1
        source = source_record(
            command=["serve"], labels={"fleet": "x"}, idle_timeout=60.0, max_duration=60.0,
            restart="always", inspect=["*"],
        )  # fmt: skip
        folder = make_snapshot(
            self._host, f"s{self._seed}", memory=False, seed=self._seed, source=source
        )
        config, files = parts(folder, folder.record(), folder.record().digests)
        async with (
            self.remote.open(create=True) as repository,
            begin_push(repository, "sandbox", "web", "one", keep=keep, force=True) as push,
        ):
            return (await push.send(config, files)).version

    async def head(self, other: bytes = b"") -> bytes:
        """What the name stands for, as it is stored; or have it be another."""
        async with open_store(str(self.folder)) as store:
            (key,) = [blob.key async for blob in store.list("heads/")]
            data, tag = await store.read(key)
            if other:
                await store.replace(key, other, tag)
        return data

    def follow(self, name: str | None = "look", **how: Any) -> Follow:
        made = Sandbox.follow("web", name, remote=self.remote, interval=0.001, **how)
        site = self

        class Stands:
            def __init__(self, record: Any) -> None:
                self.record = record

            async def remove(self) -> None:
                site.ended.append("removed")

            async def stop(self) -> None:
                site.ended.append("stopped")

        async def stands(origin: Any, record: Any) -> Any:
            assert all((origin.folder.disk / each).exists() for each in origin.layers)
            site.records.append(record)
            return Stands(record)

        made._made = stands  # type: ignore[method-assign]  # no machine is started here
        return made


@pytest.fixture
def site(host: Host, tmp_path: Path) -> Site:
    return Site(host, tmp_path)


async def test_each_version_once_and_nothing_that_may_do_anything(host: Host, site: Site) -> None:
    host.tell = lambda text: pytest.fail(text)  # not even of rules that do not hold here
    await site.push()
    follow = site.follow()
    with pytest.raises(WrongState):
        follow.sandbox  # noqa: B018  # it raises
    async with follow:
        sandbox = await anext(follow)
        assert sandbox is follow.sandbox and follow.version == 1 and follow.created > 0
        waiting = asyncio.ensure_future(anext(follow))
        await site.push()
        await site.push()
        found = await waiting
        assert found is not sandbox and follow.version in (2, 3)
        assert "version=" in repr(follow) and follow.failures == 0
    assert set(site.ended) == {"removed"} and len(site.ended) == len(site.records)
    record = site.records[0]
    assert record.name == "look" and record.read_only and record.auto_remove
    assert Network.from_json(record.network) == Network.deny_all()
    assert record.env == {"A": "1"} and PLACEHOLDER not in str(record)
    for empty in ("secrets", "placeholders", "ports", "volumes", "plugins", "labels", "command",
                  "inspect", "runtime", "idle_timeout", "max_duration"):  # fmt: skip
        assert not getattr(record, empty), empty
    assert record.restart == "no" and not record.detached
    nothing_half_made(host)


async def test_it_stays_when_that_is_asked(site: Site) -> None:
    await site.push()
    async with site.follow(None, keep=True):
        pass
    assert site.ended == ["stopped"]
    assert site.records[0].name == "source" and not site.records[0].auto_remove


async def test_a_remote_that_is_away_is_told_and_asked_again(
    host: Host, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    host.tell = said.append
    await site.push()
    left = 3
    async with site.follow() as follow:
        await anext(follow)
        await site.push()

        async def away(*arguments: Any) -> Any:
            nonlocal left
            if left:
                left -= 1
                raise RemoteUnreachable("no route")
            return await pushing.look(*arguments)

        monkeypatch.setattr(module, "look", away)
        await anext(follow)
        assert follow.version == 2 and follow.failures == 3 and follow.error is None
        assert len([each for each in said if "no route" in each]) == 1
        waiting = asyncio.ensure_future(anext(follow))
        await site.remote.forget("web")
        while not isinstance(follow.error, RemoteNotFound):
            await asyncio.sleep(0)
        assert follow.version == 2 and await site.push() == 4
        await waiting
        assert follow.version == 4


async def test_what_is_taken_back_or_damaged_is_refused(site: Site) -> None:
    await site.push()
    before = await site.head()
    await site.push()
    with pytest.raises(RemoteDamaged, match="has seen version 2"):
        async with site.follow() as follow:
            await anext(follow)
            await site.head(before)
            await anext(follow)
    assert site.ended == ["removed"]
    await site.head(before[:-1])
    with pytest.raises(RemoteDamaged):
        async with site.follow():
            raise AssertionError("it was let in")


async def test_a_version_that_is_gone_makes_room_for_the_next(
    host: Host, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage was collected while it was fetched, since only the newest is kept."""
    await site.push(keep=1)
    take, pushed = Follow._take, False

    async def slow(self: Follow, found: Any) -> None:
        nonlocal pushed
        if not pushed:
            pushed = True
            await site.push(keep=1)
            raise RemoteDamaged("a chunk is gone")
        await take(self, found)

    monkeypatch.setattr(Follow, "_take", slow)
    async with site.follow() as follow:
        assert follow.version == 2
    pushed = False

    async def damaged(self: Follow, found: Any) -> None:
        raise RemoteDamaged("a chunk is wrong")

    monkeypatch.setattr(Follow, "_take", damaged)
    with pytest.raises(RemoteDamaged, match="is wrong"):
        async with site.follow():
            raise AssertionError("it was let in")


async def test_names_are_checked_before_anything_is_fetched(host: Host, site: Site) -> None:
    await site.push()
    with pytest.raises(ConfigError, match="does not change"):
        Sandbox.follow("web@1", remote=site.remote)
    with pytest.raises(ConfigError):
        Sandbox.follow("web", "a/b", remote=site.remote)
    with pytest.raises(RemoteNotFound):
        async with Sandbox.follow("other", remote=site.remote):
            raise AssertionError("it was let in")
    folder = host.paths.sandboxes / "look"
    folder.mkdir(parents=True)
    with pytest.raises(NameTaken):
        async with site.follow():
            raise AssertionError("it was let in")
    assert not site.records
