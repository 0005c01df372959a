"""From a record to a running machine. The one place where all the parts meet."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sandlot.errors import ImageError, SandboxError, SandboxNotFound, WrongState
from sandlot.image import Image
from sandlot.sandbox.door import Door, door_path
from sandlot.sandbox.host import Host
from sandlot.sandbox.owned import OwnedMachine
from sandlot.state.lock import FileLock
from sandlot.state.records import SandboxFolder, SandboxRecord
from sandlot.state.sparse import copy_sparse


async def create_folder(host: Host, record: SandboxRecord) -> tuple[SandboxFolder, FileLock]:
    """A new stopped sandbox, which gets its disk when it is first started; the caller holds its
    lock.

    Raises:
        NameTaken, ResourceError, StateError
    """
    with host.sandboxes.creating(record) as (folder, lock):
        keep_image(host.images.get(record.image), record.image_digest, folder.image)
    return folder, lock


def keep_image(image: Image, digest: str, target: Path) -> None:
    """Give the sandbox a name of its own for the image's file.

    The image may be removed, or its name may come to stand for another one: the writable disk fits
    only the image that it was begun on.
    """
    if image.digest != digest:
        raise ImageError(f"image {image.name!r} was replaced at this moment", hint="try again")
    try:
        os.link(image.path, target)
    except FileNotFoundError:
        raise ImageError(f"image {image.name!r} was removed at this moment") from None
    except OSError:  # another file system, or one without hard links
        copy_sparse(image.path, target)


async def start_owned(
    host: Host, folder: SandboxFolder, lock: FileLock | None = None
) -> OwnedMachine:
    """Run a stopped sandbox in this program and open its door.

    Raises:
        WrongState: it runs already.
        BootError, ImageError, EngineUnavailable: it cannot run.
    """
    mine = lock or FileLock.take(folder.lock_path)
    if mine is None:
        if not folder.path.exists():
            raise SandboxNotFound(f"no sandbox is named {folder.path.name!r}")
        raise WrongState(f"sandbox {folder.path.name!r} is running already")
    try:
        record = folder.record()
        owned = await OwnedMachine.restore(host, folder, record, mine)
    except BaseException:
        mine.release()
        raise
    try:
        owned.publish()
        Door(owned, door_path(host.paths.sockets, record.id)).open()
    except BaseException:
        with contextlib.suppress(SandboxError):
            await owned.kill()
        raise
    return owned
