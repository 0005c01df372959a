"""From a record to a running machine. The one place where all the parts meet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sandlot.engine.concatenation import describe
from sandlot.errors import ImageError
from sandlot.image import ImageStore
from sandlot.sandbox.host import Host
from sandlot.sandbox.owner import Owner
from sandlot.state.lock import FileLock
from sandlot.state.records import SandboxFolder, SandboxRecord
from sandlot.state.sparse import copy_sparse

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.network.hooks import Hooks
    from sandlot.network.tls.authority import Authority
    from sandlot.secrets import Secret


async def create_folder(
    host: Host, record: SandboxRecord, *, starts: bool = False
) -> tuple[SandboxFolder, FileLock]:
    """A new stopped sandbox, which gets its disk when it is first started; the caller holds its
    lock.

    `starts` says that it is not for later: if its maker dies, a `--rm` one is removed.

    Raises:
        NameTaken, ResourceError, StateError
    """
    with host.sandboxes.creating(record) as (folder, lock):
        keep_image(host.images, record.image, record.image_digest, folder.image)
        if starts:
            folder.write_run_state()
    return folder, lock


def keep_image(store: ImageStore, name: str, digest: str, target: Path) -> None:
    """Give the sandbox names of its own for the files of its image, and describe its device.

    `target` is where the description goes; its folder is made. The image may be removed, or its
    name may come to stand for another one: the writable disk fits only the image that it was
    begun on.
    """
    image = store.get(name)
    if image.id != digest:
        raise ImageError(f"image {name!r} was replaced at this moment", hint="try again")
    folder = target.parent
    folder.mkdir()
    pieces = []
    for source, offset, length in store.device(image):
        pieces.append((source.name, offset, length))
        if not (folder / source.name).exists():
            _keep(source, folder / source.name, name)
    target.write_text(describe(pieces))


def _keep(source: Path, target: Path, name: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise ImageError(f"image {name!r} was removed at this moment") from None
    except OSError:  # another file system, or one without hard links
        copy_sparse(source, target)


async def start_owned(
    host: Host, folder: SandboxFolder, lock: FileLock | None = None, hooks: Hooks | None = None,
    secrets: Mapping[str, Secret] | None = None, lineage: Authority | None = None,
    volumes: Mapping[str, FileSystem] | None = None, plugins: tuple[object, ...] = (),
) -> Owner:  # fmt: skip
    """Run a stopped sandbox in this program; its door is open from the first moment.

    Raises:
        WrongState: it runs already, or was stopped while it started.
        BootError, ImageError, EngineUnavailable: it cannot run.
    """
    owner = Owner.take(host, folder, lock)
    owner.hooks = hooks
    owner.plugins = plugins
    owner.secrets = secrets or {}
    owner.lineage = lineage
    owner.volumes.given = volumes or {}
    await owner.bring_up()
    return owner
