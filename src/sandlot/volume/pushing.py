"""Named volumes into remotes, and out of them, while no sandbox that runs has them."""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sandlot.errors import RemoteDamaged, ResourceError, WrongState
from sandlot.remote.known import Base
from sandlot.remote.manifest import Manifest, StoredPart
from sandlot.remote.place import checked_push_name
from sandlot.remote.receiving import Receiver
from sandlot.remote.repository import Repository
from sandlot.remote.versions import File, Progress, Pushed, begin_push, find
from sandlot.volume.store import (
    DISK,
    FOLDER,
    VolumeFolder,
    VolumeStore,
    new_record,
)
from sandlot.volume.tree import pack, unpack

VOLUME = "volume"
_DISK, _TREE, _DATA = "disk", "tree", "data"
_SPARE = 64 << 20
_LARGEST = 1 << 45


async def push_volume(
    repository: Repository, folder: VolumeFolder, name: str | None, options: dict[str, Any]
) -> Pushed:
    """As `Volume.push`."""
    record = folder.record()
    chosen = checked_push_name(name or folder.name)
    hold = folder.hold(alone=True)
    if hold is None:
        raise WrongState(
            f"volume {folder.name!r} is mounted in a sandbox that runs",
            hint="stop the sandbox first: what is pushed is of one moment",
        )
    try:
        async with begin_push(repository, VOLUME, chosen, record.id, **options) as push:
            config = {"kind": record.kind, "size": record.size, "labels": record.labels}
            if record.kind == DISK:
                return await push.send(config, [File(_DISK, folder.disk)])
            # Beside the volume, so that what dead programs have left of it is found and removed.
            with tempfile.TemporaryDirectory(prefix=".push-", dir=folder.path) as scratch:
                tree, data = Path(scratch) / _TREE, Path(scratch) / _DATA
                await asyncio.to_thread(_packed, folder, tree, data)
                files = [File(each.name, each, frozen=False) for each in (tree, data)]
                return await push.send(config, files)
    finally:
        hold.release()


def _packed(folder: VolumeFolder, tree: Path, data: Path) -> None:
    for left in folder.path.glob(".push-*"):
        if left != tree.parent:
            shutil.rmtree(left, ignore_errors=True)
    try:
        pack(folder.data, tree, data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                f"no room to push volume {folder.name!r}: its files are copied for it",
                hint="free some (`sandlot df`, `sandlot prune`)",
            ) from error
        raise


async def pull_volume(
    repository: Repository, store: VolumeStore, source: str, version: int | None,
    name: str | None, tell: Progress,
) -> VolumeFolder:  # fmt: skip
    """As `Volume.pull`."""
    picked, manifest = await find(repository, VOLUME, source, version)
    kind, size, labels = _checked(manifest)
    record = new_record(name or manifest.name, kind=kind, size=size, labels=labels)
    await repository.load_index()
    stored = {each.path: each for each in manifest.parts}
    with store.making(record) as folder:
        await _fetched(repository, folder, stored, kind, tell)
    repository.known.note_base(
        VOLUME, record.id, Base(manifest.name, manifest.version, picked.digest)
    )
    return store.find(record.name)


async def _fetched(
    repository: Repository, folder: VolumeFolder, stored: dict[str, StoredPart], kind: str,
    tell: Progress,
) -> None:  # fmt: skip
    total, done = max(1, sum(part.data for part in stored.values())), 0
    # The files of a folder are there twice for a moment.
    need, free = total * (1 if kind == DISK else 2), shutil.disk_usage(folder.path).free
    if need + _SPARE > free:
        raise ResourceError(
            f"not enough disk: the volume needs {need >> 20}M, {free >> 20}M are left",
            hint="free some (`sandlot df`, `sandlot prune`), or set SANDLOT_DATA to another disk",
        )

    def told(count: int) -> None:
        nonlocal done
        done += count
        tell("pull", min(1.0, done / total))

    receiver = Receiver(repository, told=told)
    try:
        if kind == DISK:
            part = stored[_DISK]
            await receiver.fill({folder.disk: (part, await receiver.entries(part))})
            return
        with tempfile.TemporaryDirectory(dir=folder.path) as scratch:
            files = {Path(scratch) / name: stored[name] for name in (_TREE, _DATA)}
            await receiver.fill(
                {path: (part, await receiver.entries(part)) for path, part in files.items()}
            )
            await asyncio.to_thread(
                unpack, folder.data, Path(scratch) / _TREE, Path(scratch) / _DATA
            )
    finally:
        await receiver.close()


def _checked(manifest: Manifest) -> tuple[str, int, dict[str, str]]:
    """Kind, size and labels of a volume.

    Raises:
        RemoteDamaged: it says what no volume can be.
    """
    kind, size, labels = (manifest.config.get(each) for each in ("kind", "size", "labels"))
    paths = {each.path for each in manifest.parts}
    right = (
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _LARGEST
        and isinstance(labels, dict) and len(labels) <= 1000
        and all(isinstance(v, str) and re.fullmatch(r"[^\0]{0,10000}", v) for v in labels.values())
        and ((kind == DISK and paths == {_DISK}) or (kind == FOLDER and paths == {_TREE, _DATA}))
    )  # fmt: skip
    if not right:
        raise RemoteDamaged("what was pushed says what no volume can be")
    assert isinstance(kind, str) and isinstance(size, int) and isinstance(labels, dict)
    return kind, size, labels
