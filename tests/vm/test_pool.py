"""Sandboxes that stand ready."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from sandlot import (
    ConfigError,
    ImageNotFound,
    Pool,
    ResourceError,
    Sandbox,
    Snapshot,
    WrongState,
    sync,
)

CLI = str(Path(sys.executable).with_name("sandlot"))


@pytest.fixture
async def snap(sb: Sandbox) -> Snapshot:
    await sb.exec("echo ready > /dev/shm/state", check=True)
    return await sb.snapshot()


async def test_what_is_taken_runs_and_is_replaced(snap: Snapshot) -> None:
    try:
        async with Pool(snap, size=2) as pool:
            assert pool.ready == 2
            assert [each.info().state.pooled for each in pool._ready] == [True, True]
            first, second = await asyncio.gather(pool.take(env={"N": "1"}), pool.take())
            async with first, second:
                shown = await first.exec("cat /dev/shm/state; echo $N; hostname", check=True)
                assert shown.text.split() == ["ready", "1", first.name]
                assert '"N": "1"' in await first.files.read_text("/run/sandlot/restored")
                assert (await second.exec("echo =$N=", check=True)).text == "==\n"
                assert not first.info().state.pooled
                await pool.full()
            third = await pool.take()
        async with third:  # the caller's, though the pool is closed
            assert (await third.exec("cat /dev/shm/state")).text == "ready\n"
        with pytest.raises(WrongState, match="closed"):
            await pool.take()
    finally:
        await snap.remove()


async def test_more_are_taken_than_stand_ready(snap: Snapshot) -> None:
    try:
        async with Pool(snap.name, size=1, parallel=2) as pool:
            taken = await asyncio.gather(*(pool.take() for _ in range(4)))
            assert len({each.id for each in taken}) == 4
            await asyncio.gather(*(each.remove() for each in taken))
    finally:
        await snap.remove()


async def test_one_that_died_is_not_handed_out(snap: Snapshot) -> None:
    try:
        async with Pool(snap, size=2) as pool:
            for waiting in list(pool._ready):
                os.kill(waiting.info().state.monitor, signal.SIGKILL)
            async with await pool.take() as sandbox:
                assert (await sandbox.exec("cat /dev/shm/state")).text == "ready\n"
    finally:
        await snap.remove()


async def test_a_pool_of_an_image_that_outlives_its_program(image: str) -> None:
    async with Pool(image, size=1, memory="512M", detached=True) as pool:
        taken = await pool.take(env={"A": "b"})
    try:
        assert (await taken.exec("echo $A", check=True)).text == "b\n"
        assert (await (await Sandbox.get(taken.name)).exec("echo $A")).text == "b\n"
    finally:
        await taken.remove()


async def test_what_is_wrong_is_told_to_who_opens_it(image: str) -> None:
    for wrong in ({"size": 0}, {"parallel": "two"}, {"name": "mine"}, {"keep_free": "much"}):
        with pytest.raises(ConfigError):
            Pool(image, **wrong)
    with pytest.raises(ConfigError):
        Pool("")
    with pytest.raises(ImageNotFound, match="no snapshot named 'no-such-thing', and no image"):
        await Pool("no-such-thing").start()
    with pytest.raises(ConfigError, match="colour="):
        await Pool(image, colour="red").start()
    with pytest.raises(ResourceError, match="left"):
        await Pool(image, keep_free="900T").start()


async def cli(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        CLI, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_from_the_command_line(image: str) -> None:
    status, _, said = await cli("pool", "take", "nothing-here")
    assert status == 125 and "no pool named 'nothing-here'" in said
    keeper = await asyncio.create_subprocess_exec(
        CLI, "pool", "run", "ours", image, "-n", "1", "-m", "256M", stderr=asyncio.subprocess.PIPE
    )
    assert keeper.stderr is not None
    try:
        assert await keeper.stderr.readline() == b"1 of 1 are ready\n"
        _, listed, _ = await cli("pool", "ls", "--json")
        (pool,) = json.loads(listed)
        assert (pool["name"], pool["source"], pool["size"]) == ("ours", image, 1)
        status, _, said = await cli("pool", "run", "ours", image)
        assert status == 125 and "runs already" in said
        status, taken, said = await cli("pool", "take", "ours", "-e", "A=b")
        assert status == 0, said
        sandbox = await Sandbox.get(taken.strip())
        try:
            assert (await sandbox.exec("echo $A")).text == "b\n"
            assert (await cli("pool", "stop", "ours"))[:2] == (0, "ours\n")
            assert await keeper.wait() == 0
            assert (await sandbox.exec("echo $A")).text == "b\n"
        finally:
            await sandbox.remove()
        assert (await cli("pool", "ls", "--json"))[1] == "[]\n"
    finally:
        if keeper.returncode is None:
            keeper.terminate()
            await keeper.wait()


def test_without_await(image: str) -> None:
    with sync.Pool(image, size=1, memory="512M") as pool, pool.take() as sandbox:
        assert sandbox.exec("echo hi").text == "hi\n"
