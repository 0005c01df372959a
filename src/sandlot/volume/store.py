"""The named volumes of one state directory: a folder each, whose name is the lock on the name.

    NAME/volume.json    what it was made with
    NAME/data/          what is in it; or, of kind `disk`,
    NAME/disk.img       an ext4 file system
    NAME/lock           held, shared, by every program that has it mounted; alone by who may not share
    NAME/usage          how much of it is used, where it has a size (ledger.py)

A folder is filled under another name and renamed into place: a volume is there whole or not at all.
Who removes one renames it first. What dead programs have left is found and removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError, NameTaken, StateError, VolumeNotFound, WrongState
from sandlot.settings import Settings
from sandlot.state.lock import FileLock, is_held
from sandlot.state.paths import StatePaths
from sandlot.state.records import SandboxFolders, write_json
from sandlot.state.removal import remove_tree

FOLDER, DISK = "folder", "disk"
KINDS = (FOLDER, DISK)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def checked_name(name: object) -> str:
    """A name for a volume, if it is one.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a name for a volume",
            hint="use letters, digits, `_`, `.` and `-`, at most 63, beginning with a letter or "
            "digit; write a folder of the host as ./PATH",
        )
    return name


@dataclass(frozen=True, kw_only=True)
class VolumeRecord:
    """What a volume was made with. `size` in bytes, 0 for no limit; `created` since 1970.

    An `anonymous` one was made with a sandbox, for a path only, and is named by a number.
    """

    id: str
    name: str
    kind: str = FOLDER
    size: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    created: float = 0.0
    anonymous: bool = False


def new_record(
    name: str, *, kind: str = FOLDER, size: int = 0, labels: dict[str, str] | None = None,
    anonymous: bool = False,
) -> VolumeRecord:  # fmt: skip
    """The record of a volume that is made now."""
    return VolumeRecord(
        id=secrets.token_hex(6), name=checked_name(name), kind=kind, size=size,
        labels=labels or {}, created=time.time(), anonymous=anonymous,
    )  # fmt: skip


class Hold:
    """A lock on a volume that is in use. Shared, unless it was asked for alone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        """Of the open lock file."""
        return self._descriptor

    def release(self) -> None:
        """Let go of it. Releasing twice is allowed."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True)
class VolumeFolder:
    """One volume on disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def data(self) -> Path:
        """What is in it."""
        return self.path / "data"

    @property
    def disk(self) -> Path:
        """The file of one of kind `disk`."""
        return self.path / "disk.img"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    @property
    def usage_path(self) -> Path:
        """How much of it is used."""
        return self.path / "usage"

    def record(self) -> VolumeRecord:
        """What it was made with. The folder's name is the volume's, whatever the record says.

        Raises:
            VolumeNotFound: it is gone.
            StateError: its record cannot be read.
        """
        try:
            data = json.loads((self.path / "volume.json").read_text())
            return VolumeRecord(**{**data, "name": self.name})
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(self.name) from None
        except (OSError, ValueError, TypeError) as error:
            raise StateError(
                f"the record of volume {self.name!r} cannot be read: {error}",
                hint=f"`sandlot volume rm -f {self.name}` removes it",
            ) from error

    def hold(self, *, alone: bool = False) -> Hold | None:
        """Keep it from being removed, and with `alone` from being used by anybody else; None when
        somebody else has it.

        Raises:
            VolumeNotFound: it is gone.
        """
        try:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _missing(self.name) from None
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        for _ in range(20):
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)  # it may only be somebody who looks whether it is held
        else:
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):
            if self.lock_path.stat().st_ino == os.fstat(descriptor).st_ino:
                return Hold(descriptor)
        os.close(descriptor)
        raise _missing(self.name)

    def in_use(self) -> bool:
        """Whether some program has it mounted."""
        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def _missing(name: str) -> VolumeNotFound:
    return VolumeNotFound(f"no volume is named {name!r}", hint="`sandlot volume ls` lists them")


class VolumeStore:
    """The volumes below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def current(cls) -> VolumeStore:
        """Those of the state directory that the environment names."""
        return cls(StatePaths.of(Settings.read()).volumes)

    @contextlib.contextmanager
    def making(self, record: VolumeRecord) -> Iterator[VolumeFolder]:
        """A folder to fill, which gets its name when the block ends well.

        Raises:
            NameTaken: another volume has the name, now or at the end of the block.
        """
        self._refuse_taken(record.name)
        path = self._root / f".new-{secrets.token_hex(6)}"
        lock: FileLock | None = None
        try:
            path.mkdir(mode=0o700)
            folder = VolumeFolder(path)
            lock = FileLock.take(folder.lock_path)
            write_json(path / "volume.json", asdict(record))
            if record.kind == FOLDER:
                folder.data.mkdir(mode=0o755)
            yield folder
            try:
                path.rename(self._root / record.name)
            except OSError:
                self._refuse_taken(record.name)
                raise
        except OSError as error:
            raise StateError(
                f"the volume {record.name!r} cannot be made: {error.strerror}",
                hint="make the state directory writable, or set SANDLOT_DATA to another",
            ) from error
        finally:
            if lock is not None:
                lock.release()
            if path.exists():
                remove_tree(path)

    def create(self, record: VolumeRecord) -> VolumeFolder:
        """Make an empty one.

        Raises:
            NameTaken: another has the name.
        """
        with self.making(record):
            pass
        return VolumeFolder(self._root / record.name)

    def for_use(self, name: str, *, anonymous: bool = False) -> VolumeFolder:
        """One that is to be mounted; it is made when there is none."""
        folder = VolumeFolder(self._root / checked_name(name))
        if not (folder.path / "volume.json").exists():
            with contextlib.suppress(NameTaken):
                return self.create(new_record(name, anonymous=anonymous))
        return folder

    def anonymous(self) -> VolumeFolder:
        """A new one, named by a number."""
        return self.create(new_record(secrets.token_hex(16), anonymous=True))

    def _refuse_taken(self, name: str) -> None:
        if (self._root / name).exists():
            raise NameTaken(
                f"a volume named {name!r} exists already",
                hint=f"choose another name, or remove it with `sandlot volume rm {name}`",
            )

    def find(self, name: str) -> VolumeFolder:
        """By name, or by the unique beginning of the id.

        Raises:
            VolumeNotFound: there is none.
        """
        if name and "/" not in name and not name.startswith("."):
            folder = VolumeFolder(self._root / name)
            if (folder.path / "volume.json").exists():
                return folder
            if len(name) >= 4:
                matches = [f for f, r in self.records() if r.id.startswith(name)]
                if len(matches) == 1:
                    return matches[0]
        raise _missing(name)

    def all(self, *, sweep: bool = True) -> list[VolumeFolder]:
        """Every volume, by name; with `sweep`, what dead programs have left is cleaned away."""
        found = []
        for path in sorted(self._root.iterdir()):
            if path.name.startswith("."):
                if sweep and self._dead(path):
                    remove_tree(path)
            elif path.is_dir():
                found.append(VolumeFolder(path))
        return found

    def records(self) -> Iterator[tuple[VolumeFolder, VolumeRecord]]:
        """Every volume whose record can be read."""
        for folder in self.all(sweep=False):
            with contextlib.suppress(VolumeNotFound, StateError):
                yield folder, folder.record()

    def half_made(self) -> list[Path]:
        """What dead programs have left."""
        return [path for path in self._root.iterdir() if self._dead(path)]

    @staticmethod
    def _dead(path: Path) -> bool:
        if path.name.startswith(".rm-"):
            return True
        if not path.name.startswith(".new-"):
            return False
        lock = path / "lock"
        # A maker has made its folder a moment before it holds the lock.
        if not lock.exists():
            with contextlib.suppress(OSError):
                return time.time() - path.stat().st_mtime > 60
            return False
        with contextlib.suppress(OSError):
            return not is_held(lock)
        return False

    # -- who uses them ---------------------------------------------------------------------

    def users(self) -> dict[str, list[str]]:
        """The sandboxes that exist, running or not, by the names of the volumes they have."""
        found: dict[str, list[str]] = {}
        sandboxes = self._root.parent / "sandboxes"
        if not sandboxes.exists():
            return found
        for folder in SandboxFolders(sandboxes).all(sweep=False):
            with contextlib.suppress(LookupError, StateError):
                for name in named(folder.record().volumes):
                    found.setdefault(name, []).append(folder.path.name)
        return found

    def remove(self, folder: VolumeFolder, *, force: bool = False) -> None:
        """Remove a volume, with all that is in it.

        Args:
            force: also when stopped sandboxes have it; they get an empty one at their next start.

        Raises:
            WrongState: it is in use; a running sandbox's cannot be removed at all.
            VolumeNotFound: it is gone already.
        """
        name = folder.name
        users = self.users().get(name, [])
        if users and not force:
            raise WrongState(
                f"volume {name!r} is used by {_listed(users)}",
                hint="remove what uses it first; -f (force) takes it away from stopped sandboxes",
            )
        with contextlib.suppress(FileNotFoundError):
            folder.path.lstat()
            if not folder.lock_path.exists():  # damaged: nobody can have it
                folder.lock_path.touch()
        hold = folder.hold(alone=True)
        if hold is None:
            by = f" by {_listed(users)}" if users else ""
            raise WrongState(f"volume {name!r} is mounted{by}", hint="stop what has it mounted")
        try:
            doomed = self._root / f".rm-{secrets.token_hex(6)}"
            try:
                folder.path.rename(doomed)
            except FileNotFoundError:
                raise _missing(name) from None
            remove_tree(doomed)
        finally:
            hold.release()


def _listed(names: list[str]) -> str:
    return ("sandbox " if len(names) == 1 else "sandboxes ") + ", ".join(sorted(names)[:10])


def named(volumes: list[dict[str, Any]], *, anonymous: bool = False) -> list[str]:
    """The names of the volumes in a sandbox's list; only those made with it, with `anonymous`."""
    return [
        each["name"] for each in volumes
        if each.get("kind") == "named" and (each.get("anonymous") or not anonymous)
    ]  # fmt: skip
