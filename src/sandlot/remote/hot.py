"""What a sandbox reads first, as somebody noticed who started it before all of it was there.

It lies beside the version: `hot/ID`, sealed, the names of chunks one after the other. It may be lost, or
missing: then what is read is only fetched later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice

from sandlot.errors import BlobNotFound, RemoteDamaged, RemoteError
from sandlot.remote.repository import Repository
from sandlot.remote.sealing import ID

HOT = "hot/"
MOST = 2048
"""Chunks that are noted, at most."""
_TITLE = "what is read first"


async def hot_chunks(repository: Repository, manifest: str) -> list[bytes] | None:
    """The names of the chunks that a version reads first; None when nobody has noticed yet.

    Args:
        manifest: the name of its manifest.
    """
    key = f"{HOT}{manifest}"
    try:
        data = repository.sealer.open(_TITLE, key, await repository.store.get(key))
    except BlobNotFound:
        return None
    except RemoteDamaged:
        return []
    return [data[at : at + ID] for at in range(0, min(len(data), MOST * ID) - ID + 1, ID)]


async def note_hot(repository: Repository, manifest: str, ids: Iterable[bytes]) -> None:
    """Note them for who comes next. Who may not write there does not."""
    key = f"{HOT}{manifest}"
    data = b"".join(islice(dict.fromkeys(ids), MOST))
    with contextlib.suppress(RemoteError):
        await repository.store.put(key, repository.sealer.seal(_TITLE, key, data))
