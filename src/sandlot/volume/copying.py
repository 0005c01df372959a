"""Files into a named volume and out of it, while no sandbox that runs has it.

What is in a volume was put there by guests: names are opened below the descriptors of their folders,
and no link is followed. Blocking: made for a thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandlot.errors import ConfigError, FileNotFound, ResourceError, WrongState
from sandlot.files.extract import Extractor, Limits, Transfer
from sandlot.files.pack import Packer
from sandlot.files.paths import shown
from sandlot.volume.ledger import NAME, Ledger, count, room
from sandlot.volume.store import DISK, Hold, VolumeFolder, VolumeRecord

_LARGEST = 1 << 62


def _hold(folder: VolumeFolder, record: VolumeRecord) -> Hold:
    if record.kind == DISK:
        raise ConfigError(
            f"volume {folder.name!r} is a disk, which this machine does not read",
            hint="mount it in a sandbox, and use `sandlot cp`",
        )
    hold = folder.hold(alone=True)
    if hold is None:
        raise WrongState(
            f"volume {folder.name!r} is mounted in a sandbox that runs",
            hint="copy by that sandbox: `sandlot cp SANDBOX:PATH ...`, or stop it",
        )
    return hold


def place(folder: VolumeFolder, path: str) -> Path:
    """Where a path of a volume is on the host.

    Raises:
        ConfigError: it leads through a link, or out of the volume.
    """
    here = folder.data
    for name in path.split("/"):
        if name in ("", "."):
            continue
        if name == ".." or here.is_symlink():
            raise ConfigError(
                f"{shown(path)} in volume {folder.name!r} leads through a link or upwards",
                hint="name the folder itself",
            )
        here = here / name
    return here


def kind_of(folder: VolumeFolder, path: str) -> str | None:
    """`directory`, `file`, `symlink` or `other`; None when it does not exist."""
    try:
        mode = place(folder, path).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "symlink" if stat.S_ISLNK(mode) else "other"


def copy_out(
    folder: VolumeFolder, record: VolumeRecord, source: str, target: str, links: str,
    max_size: int, max_files: int,
) -> Transfer:  # fmt: skip
    """See `Volume.download`."""
    hold = _hold(folder, record)
    try:
        found = place(folder, source)
        if kind_of(folder, source) is None:
            raise FileNotFound(
                f"{shown(source)} in volume {folder.name!r}: no such file or folder",
                path=source, number=2,
            )  # fmt: skip
        limits = Limits(max_size=max_size, max_files=max_files, links=links)
        return _copy(found, target, source, limits)
    finally:
        hold.release()


def copy_in(folder: VolumeFolder, record: VolumeRecord, source: str, target: str) -> Transfer:
    """See `Volume.upload`."""
    hold = _hold(folder, record)
    try:
        into = place(folder, target)
        if into.is_symlink():
            raise ConfigError(f"{shown(target)} in volume {folder.name!r} is a link")
        limits = Limits(max_size=_LARGEST, max_files=_LARGEST, links="all")
        if not record.size:
            return _copy(Path(source), str(into), source, limits)
        ledger = Ledger(folder.usage_path, folder.data, record.size)
        ledger.open()
        try:
            wanted, free = _needed(source), ledger.free
            if wanted > free:
                raise ResourceError(
                    f"no room in volume {folder.name!r}: {wanted} bytes are needed, {free} are left",
                    hint="remove something, or use a volume of a larger size",
                )
            try:
                return _copy(Path(source), str(into), source, limits)
            finally:
                ledger.settle(count(folder.data, by_length=ledger.by_length) - ledger.used)
        finally:
            ledger.close()
    finally:
        hold.release()


def _needed(source: str) -> int:
    st = os.lstat(source)
    if stat.S_ISDIR(st.st_mode):
        return count(Path(source), by_length=True)
    return NAME + room(st, by_length=True)


def _copy(source: Path, target: str, name: str, limits: Limits) -> Transfer:
    packer = Packer(str(source))
    extractor = Extractor(target, name, limits)
    try:
        for piece in packer.pieces():
            extractor.feed(piece)
        extractor.finish()
    finally:
        extractor.close()
    for skipped, why in packer.done.skipped.items():
        extractor.done.skip(skipped, why)
    return extractor.done
