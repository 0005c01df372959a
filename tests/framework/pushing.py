"""Pushes and pulls of plain files, for tests of what is between stores and sandboxes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyrage

from sandlot.remote.keys import Keys
from sandlot.remote.receiving import Receiver
from sandlot.remote.repository import Repository, open_repository
from sandlot.remote.store import BlobStore
from sandlot.remote.versions import File, Pushed, begin_push, find

KEYS = Keys((str(pyrage.x25519.Identity.generate()),))


def noise(path: Path, size: int, seed: int, *, at: int = 0) -> Path:
    """Random bytes in a file, which is made if there is none."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(at)
        file.write(random.Random(seed).randbytes(size))
    return path


async def opened(store: BlobStore, state: Path, *, create: bool = True) -> Repository:
    """A store as one machine sees it; each machine has a state folder."""
    state.mkdir(exist_ok=True)
    return await open_repository(store, KEYS, state, create=create)


async def push(
    store: BlobStore, state: Path, path: Path, name: str = "web", id: str = "here", **options: Any
) -> Pushed:  # fmt: skip
    """Push one file as something."""
    repository = await opened(store, state)
    async with begin_push(repository, "sandbox", name, id, **options) as begun:
        return await begun.send({"of": name}, [File("disk/0", path)])


async def pull(
    store: BlobStore, state: Path, target: Path, name: str = "web", version: int | None = None
) -> int:
    """Pull it; the bytes that were moved are returned."""
    repository = await opened(store, state, create=False)
    _, manifest = await find(repository, "sandbox", name, version)
    await repository.load_index()
    receiver = Receiver(repository)
    try:
        (part,) = manifest.parts
        await receiver.fill({target: (part, await receiver.entries(part))})
    finally:
        await receiver.close()
    return receiver.moved
