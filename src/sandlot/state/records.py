"""The sandboxes that exist: one folder each, whose name is the lock on the name.

A folder is filled under another name and renamed into place, so a sandbox is there whole or not at
all. Who runs a sandbox holds the flock on its `owner.lock`; when that holder dies, however it
dies, the next reader sees a stopped sandbox. See docs/design/0004-state-without-a-database.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandlot.errors import NameTaken, SandboxNotFound, StateError, WrongState
from sandlot.state.events import EventLog
from sandlot.state.lock import FileLock, is_held


@dataclass(frozen=True, kw_only=True)
class SandboxRecord:
    """What a sandbox was made with. Sizes in bytes, times in seconds, `created` since 1970; 0 is no
    limit. `restart`: `no`, `on-failure[:N]`, `always`, `unless-stopped`.
    """

    id: str
    name: str
    image: str
    image_digest: str
    memory: int
    cpus: int
    disk: int
    hostname: str
    machine_id: str
    env: dict[str, str] = field(default_factory=dict, repr=False)
    workdir: str = ""
    make_workdir: bool = False
    user: str = ""
    command: list[str] = field(default_factory=list)
    tty: bool = False
    stdin: bool = False
    auto_remove: bool = False
    detached: bool = False
    created: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    pids: int = 0
    idle_timeout: float = 0.0
    idle_action: str = "stop"
    max_duration: float = 0.0
    restart: str = "no"
    stop_signal: str = ""
    stop_grace: float = 10.0
    network: dict[str, Any] = field(default_factory=dict)
    ports: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    bandwidth: int = 0
    dns: list[str] = field(default_factory=list)
    upstream_ca: str = ""
    inspect: list[str] = field(default_factory=list)
    secrets: dict[str, Any] = field(default_factory=dict)
    placeholders: dict[str, str] = field(default_factory=dict)
    snapshot: str = ""
    volumes: list[dict[str, Any]] = field(default_factory=list)
    plugins: list[dict[str, Any]] = field(default_factory=list)
    runtime: dict[str, Any] = field(default_factory=dict)
    started_by: str = ""
    read_only: bool = False


@dataclass(frozen=True)
class RunState:
    """Whether a sandbox runs, and how its main command, the job `main`, ended when it has.

    `owner` and `monitor` are process ids; `reason` says why the last run ended. `pooled`: it is
    paused because it stands ready in a pool.
    """

    running: bool
    owner: int = 0
    monitor: int = 0
    started: float = 0.0
    exit_code: int | None = None
    finished: float = 0.0
    main: int = 0
    paused: bool = False
    hibernated: bool = False
    restarts: int = 0
    restarting: bool = False
    oom: bool = False
    reason: str = ""
    ports: list[dict[str, Any]] = field(default_factory=list)
    pooled: bool = False


_STATE = frozenset(RunState.__dataclass_fields__)


def _read(path: str) -> bytes:
    """A small file, with a third of what Path.read_bytes costs: listings read many."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, 65536)
        if len(data) < 65536:
            return data
        with open(descriptor, "rb", closefd=False) as rest:
            return data + rest.read()
    finally:
        os.close(descriptor)


def _remove_tree(path: Path) -> None:
    import shutil  # here: a listing removes nothing

    shutil.rmtree(path, ignore_errors=True)


class SandboxFolder:
    """One sandbox on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lock_path(self) -> Path:
        return self.path / "owner.lock"

    @property
    def disk(self) -> Path:
        """What its machine writes to: a disk, or an overlay over `disk_layers`."""
        return self.disk_files()[1]

    @property
    def disk_layers(self) -> list[Path]:
        """What lies below it, the lowest first: its disk as it was saved in snapshots."""
        return self.disk_files()[0]

    def disk_files(self) -> tuple[list[Path], Path]:
        """The layers, and what is written to."""
        try:
            data = json.loads((self.path / "disk.json").read_text())
            layers = [self.path / "disk" / str(name) for name in data["layers"]]
            return layers, self.path / "disk" / str(data["active"])
        except FileNotFoundError:
            return [], self.path / "disk.img"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"the disk of sandbox {self.path.name!r} is unknown: disk.json: {error}",
                hint=f"`sandlot rm -f {self.path.name}` removes it",
            ) from error

    def write_disk_files(self, layers: list[str], active: str) -> None:
        """Write down what the disk is made of, by the names of files in `disk`."""
        write_json(self.path / "disk.json", {"layers": layers, "active": active})

    @property
    def saved(self) -> Path:
        """A saved machine that goes on at the next start; a folder that may be missing."""
        return self.path / "saved"

    def drop_saved(self) -> None:
        """Forget a saved machine, at once or not at all."""
        going = self.path / f".saved.{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            self.saved.rename(going)
            _remove_tree(going)

    def tidy(self) -> None:
        """Remove what a program left here that died while it saved; its owner alone may."""
        for path in self.path.glob(".*"):
            if path.is_dir():
                _remove_tree(path)
            else:
                path.unlink(missing_ok=True)
        if not (self.path / "disk").exists():
            return
        layers, active = self.disk_files()
        for path in (self.path / "disk").iterdir():
            if path != active and path not in layers:
                path.unlink(missing_ok=True)

    @property
    def memory(self) -> Path:
        """The folder of the memory that its machine was restored from."""
        return self.path / "memory"

    @property
    def image(self) -> Path:
        """Describes the device of the image it was made from; beside it are links to its files."""
        return self.path / "image" / "device.vmdk"

    @property
    def log(self) -> Path:
        return self.path / "output.jsonl"

    @property
    def flows(self) -> Path:
        """What it reached, and what it was refused."""
        return self.path / "flows.jsonl"

    @property
    def console(self) -> Path:
        return self.path / "console.jsonl"

    def record(self) -> SandboxRecord:
        """What it was made with. The folder's name is the sandbox's, whatever the record says.

        Raises:
            SandboxNotFound: it is gone.
            StateError: its record cannot be read.
        """
        try:
            data = json.loads(_read(f"{self.path}/sandbox.json"))
            if not self.path.name.startswith("."):
                data["name"] = self.path.name
            return SandboxRecord(**data)
        except FileNotFoundError:
            raise SandboxNotFound(f"no sandbox is named {self.path.name!r}") from None
        except (OSError, ValueError, TypeError) as error:
            raise StateError(
                f"the record of sandbox {self.path.name!r} cannot be read: {error}",
                hint=f"`sandlot rm -f {self.path.name}` removes it",
            ) from error

    def write_record(self, record: SandboxRecord) -> None:
        """Replace what it was made with; its owner alone may."""
        write_json(self.path / "sandbox.json", asdict(record))

    def run_state(self) -> RunState:
        """As its owner left it; a dead owner means not running."""
        data: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(_read(f"{self.path}/run.json"))
            data = read if isinstance(read, dict) else {}
        data["running"] = is_held(self.lock_path)
        known = {k: v for k, v in data.items() if k in _STATE}
        return RunState(**known)

    def note_exit(self, exit_code: int) -> None:
        """Remember how the main command of this run ended."""
        self.update_run_state(exit_code=exit_code)

    def update_run_state(self, **changes: Any) -> None:
        """Change some of what is known about the current or last run."""
        state = asdict(self.run_state())
        del state["running"]
        self.write_run_state(**{**state, **changes})

    def write_run_state(self, **values: Any) -> None:
        """Replace what is known about the current or last run."""
        write_json(self.path / "run.json", values)


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all.

    Raises:
        StateError: the disk is full or not writable.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        partial.write_text(json.dumps(data))
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StateError(f"cannot write {path}: {error.strerror}") from error


class SandboxFolders:
    """All sandboxes of one state directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def events(self) -> EventLog:
        """What happens to all of them."""
        return EventLog(self._root.parent / "events.jsonl")

    @contextlib.contextmanager
    def _sweeping(self, *, alone: bool) -> Iterator[bool]:
        """Makers share the root's lock until they hold their folder's; who sweeps has it alone.

        So a folder that is half made and not locked is surely a dead program's.
        """
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX | fcntl.LOCK_NB) if alone else fcntl.LOCK_SH)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def creating(self, record: SandboxRecord) -> Iterator[tuple[SandboxFolder, FileLock]]:
        """A new folder to fill, which gets its name when the block ends well.

        Yields the folder and the owner's lock on it, which the caller keeps or releases.

        Raises:
            NameTaken: another sandbox has the name, now or at the end of the block.
        """
        self.refuse_taken(record.name)
        partial = self._root / f".new-{record.id}"
        lock: FileLock | None = None
        try:
            with self._sweeping(alone=False):
                partial.mkdir(mode=0o700)
                lock = FileLock.take(partial / "owner.lock")
        except OSError as error:
            raise StateError(
                f"the state directory {self._root} cannot be written: {error.strerror}",
                hint="make it writable, or set SANDLOT_DATA to a folder that is",
            ) from error
        try:
            assert lock is not None
            folder = SandboxFolder(partial)
            write_json(partial / "sandbox.json", asdict(record))
            yield folder, lock
            try:
                partial.rename(self._root / record.name)
            except OSError:
                self.refuse_taken(record.name)
                raise
            folder.path = self._root / record.name
            self.events.append("created", record.name, record.id, record.image)
        except BaseException:
            if lock is not None:
                lock.release()
            _remove_tree(partial)
            raise

    def refuse_taken(self, name: str) -> None:
        if (self._root / name).exists():
            raise NameTaken(
                f"a sandbox named {name!r} exists already",
                hint=f"choose another name, or remove it with `sandlot rm {name}`",
            )

    def find(self, name_or_id: str) -> SandboxFolder:
        """By name, or by id or its unique beginning.

        Raises:
            SandboxNotFound: there is none.
        """
        if name_or_id and "/" not in name_or_id and not name_or_id.startswith("."):
            path = self._root / name_or_id
            if (path / "sandbox.json").exists():
                return SandboxFolder(path)
            matches = [f for f in self.all() if self._id(f).startswith(name_or_id)]
            if len(matches) == 1 and len(name_or_id) >= 2:
                return matches[0]
        raise SandboxNotFound(
            f"no sandbox is named {name_or_id!r}", hint="`sandlot ps -a` lists them"
        )

    @staticmethod
    def _id(folder: SandboxFolder) -> str:
        with contextlib.suppress(SandboxNotFound, StateError):
            return folder.record().id
        return ""

    def all(self, *, sweep: bool = True) -> list[SandboxFolder]:
        """Every sandbox, by name; with `sweep`, leftovers of dead programs are cleaned away."""
        folders = []
        half_made = []
        with os.scandir(self._root) as scan:
            entries = sorted((each.name, each.is_dir()) for each in scan)
        for name, is_folder in entries:
            if name.startswith("."):
                half_made.append(self._root / name)
            elif is_folder:
                folder = SandboxFolder(self._root / name)
                if not (sweep and self._left_behind(folder)):
                    folders.append(folder)
        if half_made and sweep:
            self._sweep(half_made)
        return folders

    def half_made(self) -> list[Path]:
        """Folders that were never finished, or never quite removed, of makers that are dead."""
        with self._sweeping(alone=True) as alone:
            return [
                path
                for path in self._root.iterdir()
                if alone and path.name.startswith((".new-", ".rm-"))
                and not is_held(path / "owner.lock")
            ]  # fmt: skip

    def _sweep(self, paths: list[Path]) -> None:
        with self._sweeping(alone=True) as alone:
            for path in paths:
                if alone and path.is_dir() and not is_held(path / "owner.lock"):
                    _remove_tree(path)

    def _left_behind(self, folder: SandboxFolder) -> bool:
        """Write down the end of an owner that was killed, and remove a `--rm` sandbox of its."""
        try:
            ran, made = (_read(f"{folder.path}/{each}.json") for each in ("run", "sandbox"))
        except OSError:
            return False
        ended = b'"owner"' not in ran or b'"owner": 0' in ran
        if (ended and b'"auto_remove": true' not in made) or is_held(folder.lock_path):
            return False
        lock = FileLock.take(folder.lock_path)
        if lock is None:
            return not folder.path.exists()
        try:
            record, state = folder.record(), folder.run_state()
            if state.owner:
                # A program may end without stopping what it made: nothing was killed then.
                reason = "its keeper was killed" if record.detached else "its program ended"
                folder.write_run_state(
                    started=state.started, finished=time.time(), exit_code=state.exit_code,
                    reason=reason,
                )  # fmt: skip
                self.events.append("stopped", record.name, record.id, record.image, reason=reason)
            if record.auto_remove:
                self.remove(folder, lock)
            return record.auto_remove
        except (SandboxNotFound, StateError, WrongState):
            return not folder.path.exists()
        finally:
            lock.release()

    def remove(
        self, folder: SandboxFolder, lock: FileLock | None = None, *, anonymous: bool = False
    ) -> None:
        """Remove a stopped sandbox, or one whose owner's `lock` the caller holds.

        The volumes that were made with it, for a path only, go with one that is removed at its
        end, and with `anonymous`.

        Raises:
            WrongState: it runs.
        """
        mine = lock or FileLock.take(folder.lock_path)
        if mine is None:
            if not folder.path.exists():
                raise SandboxNotFound(f"no sandbox is named {folder.path.name!r}")
            raise WrongState(
                f"sandbox {folder.path.name!r} is running",
                hint=f"stop it with `sandlot stop {folder.path.name}`, or use `rm -f`",
            )
        try:
            doomed = self._root / f".rm-{os.urandom(6).hex()}"
            name, id, image = folder.path.name, "", ""
            volumes: list[str] = []
            with contextlib.suppress(SandboxNotFound, StateError):
                record = folder.record()
                id, image = record.id, record.image
                if record.auto_remove or anonymous:
                    volumes = [v["name"] for v in record.volumes if v.get("anonymous")]
            try:
                folder.path.rename(doomed)
            except FileNotFoundError:
                raise SandboxNotFound(f"no sandbox is named {folder.path.name!r}") from None
            self.events.append("removed", name, id, image)
            _remove_tree(doomed)
            if volumes:
                from sandlot.state.removal import remove_volumes

                remove_volumes(self._root.parent / "volumes", volumes, self._root)
        finally:
            mine.release()

    def rename(self, folder: SandboxFolder, name: str) -> SandboxFolder:
        """Give a stopped sandbox another name.

        Raises:
            NameTaken: another sandbox has it.
            WrongState: it runs.
        """
        old = folder.path.name
        lock = FileLock.take(folder.lock_path)
        if lock is None:
            raise WrongState(
                f"sandbox {old!r} is running", hint=f"stop it first with `sandlot stop {old}`"
            )
        try:
            self.refuse_taken(name)
            record = folder.record()
            try:
                folder.path.rename(self._root / name)
            except OSError:
                self.refuse_taken(name)
                raise
            self.events.append("renamed", name, record.id, record.image, before=old)
            return SandboxFolder(self._root / name)
        finally:
            lock.release()
