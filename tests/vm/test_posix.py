"""File systems in a real machine behave as POSIX and Linux say: a table of checks, random
operations against a model, and processes that append and count at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import Sandbox
from sandlot.sandbox.sandbox import SandboxCreation
from sandlot.volume.store import VolumeStore
from tests.framework import posix
from tests.framework.posix import (
    FILE_SYSTEMS,
    VOLUMES,
    Difference,
    FileSystem,
    Misbehaved,
    Verdict,
)

EACH = pytest.mark.parametrize("fs", [*FILE_SYSTEMS, *VOLUMES], ids=lambda fs: fs.name)
pytestmark = pytest.mark.timeout(900)
# Not every file system can do these; the others' operations must all have been done.
OPTIONAL = {"zero", "zero-keep"}


@pytest.fixture
def creation(image: str, fs: FileSystem, tmp_path: Path) -> Iterator[SandboxCreation]:
    """A sandbox with the file system; a named volume is removed after the test."""
    arguments = fs.arguments(tmp_path)
    yield Sandbox.create(image=image, memory="512M", **arguments)
    for name in arguments.get("volumes", {}).values():
        if isinstance(name, str):
            store = VolumeStore.current()
            store.remove(store.find(name))


@EACH
async def test_all_checks_pass_but_for_the_stated_differences(
    creation: SandboxCreation, fs: FileSystem
) -> None:
    async with creation as sb:
        await fs.prepare(sb)
        # The kernel resolves paths the same way on each: a third of the table is about that.
        verdicts = await posix.check(sb, fs.path, only="^([^p]|p[^a])" if fs in VOLUMES else "")
        left = (await sb.exec(["ls", "-A", fs.path], check=True)).text
    assert len(verdicts) >= 400
    assert len({each.name for each in verdicts}) == len(verdicts)
    assert posix.unexplained(verdicts, fs.differences) == []
    assert left == ""


@EACH
async def test_random_operations_agree_with_a_model(
    creation: SandboxCreation, fs: FileSystem
) -> None:
    few = fs in VOLUMES  # which take longer for each
    async with creation as sb:
        await fs.prepare(sb)
        for seed, size in ((1, 20_000), (2, 256 << 10)):
            done = await posix.exercise(
                sb, fs.path, seed=seed, operations=500 if few else 1500, size=size
            )
            assert set(done["unsupported"]) <= OPTIONAL
            assert len(done["kinds"]) + len(done["unsupported"]) == 22
        done = await posix.exercise(sb, fs.path, seed=3, operations=4000, size=20_000, brisk=True)
        assert set(done["unsupported"]) <= OPTIONAL
        assert len(done["kinds"]) + len(done["unsupported"]) == 22
        for seed in (1, 2):
            done = await posix.exercise_names(
                sb, fs.path, seed=seed, operations=700 if few else 3000
            )
            assert len(done["kinds"]) == 14
        assert (await sb.exec(["ls", "-A", fs.path], check=True)).text == ""


@EACH
async def test_processes_append_and_count_at_once(
    creation: SandboxCreation, fs: FileSystem
) -> None:
    async with creation as sb:
        await fs.prepare(sb)
        await asyncio.gather(
            *(posix.torture(sb, fs.path, name=name, processes=3) for name in ("one", "two"))
        )
        await posix.judge(sb, fs.path, names=["one", "two"], processes=3)


async def test_what_is_wrong_is_found(sb: Sandbox) -> None:
    await posix.install(sb)
    # The tmpfs of Linux 6.1 has neither attributes of users' nor these ranges of zeros.
    verdicts = await posix.check(
        sb, "/dev/shm", only="^(xattr/a-value|mkdir/a-folder|fallocate/zero-a-page)$"
    )
    assert {each.name: each.why for each in verdicts} == {
        "mkdir/a-folder": "",
        "xattr/a-value": "setxattr: EOPNOTSUPP",
        "fallocate/zero-a-page": "fallocate: EOPNOTSUPP",
    }
    with pytest.raises(Misbehaved, match=r"seed 7, operation 5\d\d: .*(?s:.)*1 bytes differ"):
        await posix.exercise(sb, "/root", seed=7, operations=1000, spoil=500)
    with pytest.raises(Misbehaved, match="spoilt"):
        await posix.exercise_names(sb, "/root", seed=7, operations=1000, spoil=500)
    await posix.torture(sb, "/root", name="one", processes=1, records=10)
    with pytest.raises(Misbehaved, match="records of 20"):
        await posix.judge(sb, "/root", names=["one", "two"], processes=1, records=10)
    await sb.exec("printf X | dd of=/root/records bs=1 seek=700 conv=notrunc", check=True)
    with pytest.raises(Misbehaved, match="a torn record at 640"):
        await posix.judge(sb, "/root", names=["one"], processes=1, records=10)


def test_a_difference_must_be_stated_and_true() -> None:
    verdicts = [Verdict("a/one", "", 1), Verdict("a/two", "EPERM, not success", 1)]
    assert posix.unexplained(verdicts, []) == ["a/two: EPERM, not success"]
    assert posix.unexplained(verdicts, [Difference("a/two", "EPERM*", "")]) == []
    assert posix.unexplained(verdicts, [Difference("a/two", "EIO*", "")]) == [
        "a/two: EPERM, not success"
    ]
    assert posix.unexplained(verdicts, [Difference("a/*", "EPERM*", "")]) == [
        "a/one passes: it is no difference"
    ]
    assert posix.unexplained(verdicts[:1], [Difference("b/*", "*", "")]) == [
        "no check is called b/*"
    ]
