"""Pushes that meet, fail and follow one another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandlot.errors import (
    ConfigError,
    RemoteConflict,
    RemoteError,
    RemoteNotFound,
    RemoteUnreachable,
)
from sandlot.remote.collecting import collect
from sandlot.remote.known import Base
from sandlot.remote.versions import begin_push, find, forget
from tests.framework.blobs import MemoryStore, failing
from tests.framework.pushing import noise, opened, pull, push


async def test_who_did_not_come_from_what_is_there_is_told(tmp_path: Path) -> None:
    store, file = MemoryStore(), noise(tmp_path / "file", 1000, 1)
    await push(store, tmp_path / "a", file)
    with pytest.raises(RemoteConflict, match="did not come from it"):
        await push(store, tmp_path / "b", file)
    here = await opened(store, tmp_path / "b")
    version, manifest = await find(here, "sandbox", "web", None)
    here.known.note_base("sandbox", "here", Base("web", manifest.version, version.digest))
    assert (await push(store, tmp_path / "b", file)).version == 2
    with pytest.raises(RemoteConflict, match="this came from version 1"):
        await push(store, tmp_path / "a", file)
    assert (await push(store, tmp_path / "a", file, force=True)).version == 3


async def test_of_two_at_once_one_wins(tmp_path: Path) -> None:
    store = MemoryStore()
    files = [noise(tmp_path / str(n), 100_000, n) for n in range(4)]
    results = await asyncio.gather(
        *(push(store, tmp_path / f"s{n}", file) for n, file in enumerate(files)),
        return_exceptions=True,
    )
    won = [n for n, each in enumerate(results) if not isinstance(each, BaseException)]
    assert len(won) == 1
    assert all(isinstance(each, RemoteConflict) for n, each in enumerate(results) if n not in won)
    await pull(store, tmp_path / "there", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == files[won[0]].read_bytes()
    forced = await asyncio.gather(
        *(push(store, tmp_path / f"s{n}", file, force=True) for n, file in enumerate(files))
    )
    assert sorted(each.version for each in forced) == [2, 3, 4, 5]


async def test_versions_are_kept_and_dropped(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", tmp_path / "file"
    texts = []
    for number in range(5):
        texts.append(noise(file, 50_000, number).read_bytes())
        await push(store, state, file, keep=3)
    for version in (3, 4, 5):
        target = tmp_path / f"v{version}"
        await pull(store, tmp_path / "there", target, version=version)
        assert target.read_bytes() == texts[version - 1]
    with pytest.raises(RemoteNotFound, match="no version 2") as caught:
        await pull(store, tmp_path / "there", tmp_path / "none", version=2)
    assert caught.value.hint == "it has: 3, 4, 5"


async def test_names_and_kinds_are_told(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", noise(tmp_path / "file", 1000, 1)
    await push(store, state, file, "one", "1")
    here = await opened(store, state)
    assert (await find(here, "sandbox", "", None))[1].name == "one"
    await push(store, state, file, "two", "2")
    with pytest.raises(ConfigError, match="2 things were pushed"):
        await find(here, "sandbox", "", None)
    with pytest.raises(ConfigError, match="is a sandbox, not a volume"):
        await find(here, "volume", "one", None)
    with pytest.raises(RemoteNotFound, match="no volume was pushed"):
        await find(here, "volume", "", None)
    with pytest.raises(ConfigError, match="is a sandbox, not a volume"):
        async with begin_push(here, "volume", "one", "1"):
            pass
    with pytest.raises(ConfigError, match="keep 0"):
        async with begin_push(here, "sandbox", "one", "1", keep=0):
            pass


async def test_a_forgotten_name_stands_for_nothing_and_counts_on(tmp_path: Path) -> None:
    store, state, file = MemoryStore(), tmp_path / "state", noise(tmp_path / "file", 1000, 1)
    await push(store, state, file)
    here = await opened(store, state)
    await forget(here, "web")
    with pytest.raises(RemoteNotFound):
        await forget(here, "web")
    with pytest.raises(RemoteNotFound):
        await pull(store, tmp_path / "there", tmp_path / "target")
    await collect(here)
    assert {key.split("/")[0] for key in store.blobs} == {"keys", "heads"}
    assert (await push(store, state, file)).version == 3


async def test_cut_off_at_every_call_nothing_is_lost(tmp_path: Path) -> None:
    """A push fails at its first call, then at its second, and so on; each time the version before is
    whole, and the next push ends well."""
    store, state, file = MemoryStore(), tmp_path / "state", tmp_path / "file"
    old = noise(file, 300_000, 0).read_bytes()
    await push(store, state, file)
    version, at = 1, 0
    while True:
        at += 1
        new = noise(file, 300_000, at).read_bytes()
        store.calls, store.before = 0, failing(at)
        try:
            done = await push(store, state, file)
            ended = True
        except RemoteUnreachable:
            ended = False
        store.before = lambda *_: None
        for key in [key for key in store.blobs if key.startswith("pending/")]:
            del store.blobs[key]  # its program is dead; told by time otherwise
        target = tmp_path / f"target{at}"
        await pull(store, tmp_path / "there", target)
        assert target.read_bytes() in (old, new)
        if ended:
            break
        # Whether it was named or not, who asks again gets through.
        done = await push(store, state, file, force=True)
        assert done.version > version
        version, old = done.version, new
        await pull(store, tmp_path / "there", tmp_path / f"again{at}")
        assert (tmp_path / f"again{at}").read_bytes() == new
    assert at > 10
    await collect(await opened(store, state))
    await pull(store, tmp_path / "there", tmp_path / "last")
    assert (tmp_path / "last").read_bytes() == file.read_bytes()


async def test_a_pull_that_is_cut_off_at_any_call_ends_in_an_error(tmp_path: Path) -> None:
    store, file = MemoryStore(), noise(tmp_path / "file", 300_000, 0)
    await push(store, tmp_path / "state", file)
    for at in range(1, 100):
        store.calls, store.before = 0, failing(at)
        target = tmp_path / f"target{at}"
        try:
            await pull(store, tmp_path / f"there{at}", target)
        except RemoteError:
            continue
        assert target.read_bytes() == file.read_bytes() and at > 4
        return
    raise AssertionError("it never ended well")
