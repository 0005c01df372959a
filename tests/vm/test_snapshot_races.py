"""A full disk in the middle of a save, and two who do the same at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import Any, NoReturn

import pytest

from sandlot import NameTaken, ResourceError, Sandbox, SandboxError, Snapshot, SnapshotNotFound
from sandlot.sandbox import capture, saving
from sandlot.snapshot import memory, store


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (capture, "copy_sparse"), (capture, "put_pages"), (capture, "write_pages"),
        (saving, "write_out"), (saving, "digest_sparse"), (store, "write_json"),
        (memory, "write_json"), (capture, "link_or_copy"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)  # fmt: skip
async def test_a_full_disk_leaves_nothing_and_the_sandbox_runs_on(
    sb: Sandbox, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await sb.exec("echo kept > /root/file", check=True)
    monkeypatch.setattr(module, name, full)
    with pytest.raises(ResourceError, match="no space left"):
        await sb.snapshot(f"full-{sb.name}")
    monkeypatch.undo()
    assert (await sb.exec(["cat", "/root/file"], check=True)).text == "kept\n"
    with pytest.raises(SnapshotNotFound):
        await Snapshot.get(f"full-{sb.name}")
    snap = await sb.snapshot(f"full-{sb.name}")
    async with snap.restore() as child:
        assert (await child.exec(["cat", "/root/file"], check=True)).text == "kept\n"
    await snap.remove()


async def test_one_of_two_gets_the_name(image: str) -> None:
    sandbox = await Sandbox.create(image=image, memory="256M", detached=True)
    try:
        name = f"both-{sandbox.name}"
        other = await Sandbox.get(sandbox.name)
        made = await asyncio.gather(
            sandbox.snapshot(name), other.snapshot(name), return_exceptions=True
        )
        (taken,) = [each for each in made if isinstance(each, BaseException)]
        (snap,) = [each for each in made if isinstance(each, Snapshot)]
        assert isinstance(taken, NameTaken)
        again = await asyncio.gather(snap.restore(name), snap.restore(name), return_exceptions=True)
        (refused,) = [each for each in again if isinstance(each, BaseException)]
        (child,) = [each for each in again if isinstance(each, Sandbox)]
        assert isinstance(refused, NameTaken)
        await child.remove()
        await snap.remove()
    finally:
        await sandbox.remove()


async def test_a_restore_of_what_is_being_removed(sb: Sandbox) -> None:
    """It works, or says that the snapshot is gone; never something in between."""
    for _ in range(5):
        snap = await sb.snapshot()
        made, removed = await asyncio.gather(snap.restore(), snap.remove(), return_exceptions=True)
        if isinstance(made, Sandbox):
            assert (await made.exec("true")).exit_code == 0
            await made.remove()
        else:
            assert isinstance(made, SnapshotNotFound), made
        if isinstance(removed, BaseException):
            assert isinstance(removed, SandboxError), removed
            with contextlib.suppress(SnapshotNotFound):
                await snap.remove()
