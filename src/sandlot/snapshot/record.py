"""What is known of a snapshot. Frozen data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandlot.engine.config import DISK_OFFSET, Disk, MachineConfig
from sandlot.errors import SnapshotDamaged, SnapshotMismatch, SnapshotNotFound
from sandlot.state.records import SandboxRecord

FORMAT = 1
_MEANING = {
    "version": "the version of QEMU", "accelerator": "the accelerator",
    "architecture": "the architecture", "processor": "the model of the processor",
    "features": "the features of the processor", "devices": "the devices",
    "engine": "the engine",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """How a saved machine comes to life again. Sizes in bytes.

    `token` begins a session with its agent, `place` is that of its writable disk among its devices,
    `staged` the size of the disk of the template, `facts` what the engine must have in common,
    `main` the job that is its main command, `volumes` where its volumes are mounted.
    """

    memory: int
    cpus: int
    token: str
    place: int
    disk: int
    staged: int
    facts: dict[str, str]
    main: int = 0
    volumes: list[str] = field(default_factory=list)

    def config(self, ram: Path, image: Path, layers: tuple[Path, ...], disk: Path) -> MachineConfig:
        """The machine that goes on, with this memory, the description of its image's device and
        its disk."""
        own = Disk(path=disk, readonly=False, size=self.disk, offset=DISK_OFFSET, layers=layers)
        if self.place == 1:
            devices = (own, Disk(path=None, readonly=False))
        else:
            # The disk of the template, which nobody reads or writes.
            devices = (Disk(path=None, readonly=True, size=self.staged), own)
        return MachineConfig(
            memory=self.memory, cpus=self.cpus, ram=ram,
            disks=(Disk(path=image, readonly=True, concatenated=True), *devices),
        )  # fmt: skip

    def check(self, facts: dict[str, str]) -> None:
        """Refuse an engine that the saved state does not fit.

        Raises:
            SnapshotMismatch: with what differs.
        """
        differences = {
            name: (self.facts.get(name, ""), facts.get(name, ""))
            for name in sorted(self.facts.keys() | facts.keys())
            if self.facts.get(name, "") != facts.get(name, "")
        }
        if differences:
            shown = "; ".join(
                f"{_MEANING.get(name, name)} was {saved or 'none'} and is {here or 'none'} here"
                for name, (saved, here) in differences.items()
            )
            raise SnapshotMismatch(
                f"the saved machine cannot go on here: {shown}",
                hint="its disk can be used: restore with disk_only=True (--disk-only)",
                differences=differences,
            )


@dataclass(frozen=True, kw_only=True)
class SnapshotRecord:
    """A snapshot. `created` is in seconds since 1970, sizes are in bytes.

    `machine` is None when only the disk was saved. `parent` is the id of the snapshot that its
    sandbox was restored from, or empty. `origin` is the id that it had where it was exported, if it
    came in a file. `digests` are of all files that make it up, by their paths
    below its folder.
    """

    id: str
    name: str
    created: float
    sandbox: str
    source: dict[str, Any]
    layers: list[str]
    machine: dict[str, Any] | None = None
    parent: str = ""
    tags: list[str] = field(default_factory=list)
    own_memory: int = 0
    own_disk: int = 0
    pause: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
    origin: str = ""
    format: int = FORMAT

    @property
    def sandbox_record(self) -> SandboxRecord:
        """The record of the sandbox that was saved."""
        return SandboxRecord(**self.source)

    @property
    def machine_record(self) -> MachineRecord | None:
        """The saved machine, if there is one."""
        return MachineRecord(**self.machine) if self.machine is not None else None

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(self)


def read_record(folder: Path) -> SnapshotRecord:
    """The record in a snapshot's folder, whose name is the snapshot's.

    Raises:
        SnapshotNotFound: there is none.
        SnapshotDamaged: it cannot be read.
    """
    try:
        data = json.loads((folder / "snapshot.json").read_text())
        if data.get("format") != FORMAT:
            raise ValueError(f"it has format {data.get('format')!r}, this version knows {FORMAT}")
        if not folder.name.startswith("."):
            data["name"] = folder.name
        return SnapshotRecord(**data)
    except FileNotFoundError:
        raise SnapshotNotFound(
            f"no snapshot is named {folder.name!r}", hint="`sandlot snapshot ls` lists them"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SnapshotDamaged(
            f"the record of snapshot {folder.name!r} cannot be read: {error}",
            hint=f"`sandlot snapshot rm {folder.name}` removes it",
        ) from error
