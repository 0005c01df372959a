"""The sandboxes of this user, found with as little as can be imported: listings are asked often."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import SandboxError, SandboxNotFound
from sandlot.sandbox.sizes import iso_time
from sandlot.settings import Settings
from sandlot.state.paths import StatePaths
from sandlot.state.records import RunState, SandboxFolders, SandboxRecord


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as `Sandbox.list` shows it."""

    record: SandboxRecord
    state: RunState

    @property
    def status(self) -> str:
        """`created`, `starting`, `running`, `paused`, `hibernated`, `restarting` or `stopped`."""
        if self.state.running:
            if self.state.restarting:
                return "restarting"
            if self.state.paused:
                return "paused"
            if self.state.hibernated:
                return "hibernated"
            return "running" if self.state.owner else "starting"
        return "stopped" if self.state.started else "created"

    def to_json(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Its record and its state, with times as ISO 8601 and the main command's job as its id."""
        record, state = asdict(self.record), asdict(self.state)
        record["created"] = iso_time(self.record.created)
        state |= {name: iso_time(state[name]) for name in ("started", "finished")}
        state["main"] = f"{self.state.main:012x}" if self.state.main else None
        return record, state


def folders() -> SandboxFolders:
    """The sandboxes of the state directory that the environment names."""
    return SandboxFolders(StatePaths.of(Settings.read()).sandboxes)


def list_sandboxes(
    unreadable: Callable[[SandboxError], None] | None = None,
) -> list[SandboxInfo]:
    """Every sandbox, by name; `unreadable` is told of each whose record cannot be read."""
    infos = []
    for folder in folders().all():
        try:
            infos.append(SandboxInfo(folder.record(), folder.run_state()))
        except SandboxNotFound:
            pass  # removed at this moment
        except SandboxError as error:
            if unreadable is not None:
                unreadable(error)
    sockets = StatePaths.of(Settings.read()).sockets
    sweep_doors(sockets, {info.record.id for info in infos})
    return infos


def sweep_doors(sockets: Path, known: Collection[str]) -> None:
    """Remove the doors of sandboxes that exist no more; their owners were killed."""
    for path in dead_doors(sockets, known):
        path.unlink(missing_ok=True)


def dead_doors(sockets: Path, known: Collection[str]) -> Iterator[Path]:
    """The doors at which nobody listens; those of `known` ids are not looked at."""
    for path in sockets.glob("*.sock"):
        with contextlib.suppress(OSError):
            age = time.time() - path.stat().st_mtime
            # A door that is being made listens within moments, before its sandbox has a name.
            if path.stem not in known and (age > 60 or (age > 1 and _deserted(path))):
                yield path


def _deserted(path: Path) -> bool:
    """Whether nobody listens at a socket."""
    import socket  # here: few listings meet a door that nobody is known to have

    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            pass  # somebody is busy, or the name is too long to be asked
    return False
