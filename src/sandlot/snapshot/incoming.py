"""What an archive says that it holds, checked before anything is copied; and the files, after."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sandlot.engine.concatenation import SECTOR, describe
from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET
from sandlot.engine.memory import PAGE
from sandlot.engine.qemu.overlay import CLUSTER, check_overlay
from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.checking import typed
from sandlot.snapshot.layout import Config, Manifest, Part
from sandlot.snapshot.memory import MemoryFiles
from sandlot.snapshot.pages import read_pages
from sandlot.snapshot.record import MachineRecord, SnapshotRecord

DESCRIPTION = "device.vmdk"
MAX_LAYERS = 500


@dataclass(frozen=True)
class Incoming:
    """A snapshot that may be imported. `pieces` are those of its image's device."""

    record: SnapshotRecord
    machine: MachineRecord | None
    parts: dict[str, Part]
    pieces: tuple[tuple[str, int, int], ...]

    def wanted(self, *, disk_only: bool) -> dict[str, Part]:
        """The files that an import needs, by path."""
        return {
            path: part for path, part in self.parts.items()
            if not disk_only or path.startswith(("disk/", "image/"))
        }  # fmt: skip


def incoming(config: Config, manifest: Manifest) -> Incoming:
    """What an archive holds, if it can be a snapshot.

    Raises:
        SnapshotDamaged: with what cannot be.
    """
    record = typed(SnapshotRecord, config.snapshot, "the snapshot's record")
    machine = None
    if record.machine is not None:
        machine = typed(MachineRecord, record.machine, "the machine's record")
    parts = {part.path: part for part in manifest.parts}
    _check_disk(record, parts)
    _check_image(config.image, parts)
    expected = {f"disk/{each}" for each in record.layers}
    expected |= {f"image/{name}" for name, _, _ in config.image}
    if machine is not None:
        expected |= _check_machine(machine, parts)
    if missing := expected - parts.keys():
        raise SnapshotDamaged(f"{min(missing)} is missing in the archive")
    if more := parts.keys() - expected:
        raise SnapshotDamaged(f"{min(more)} in the archive belongs to nothing")
    return Incoming(record, machine, parts, config.image)


def _check_disk(record: SnapshotRecord, parts: dict[str, Part]) -> None:
    layers = record.layers
    if not 0 < len(layers) <= MAX_LAYERS or len(set(layers)) != len(layers):
        raise SnapshotDamaged(f"the snapshot's disk has {len(layers)} layers")
    for each in layers:
        part = parts.get(f"disk/{each}")
        if part is not None and not DISK_OFFSET < part.size <= DISK_OFFSET + 2 * DEVICE_SIZE:
            raise SnapshotDamaged(f"the layer {each[:80]!r} of the disk has {part.size} bytes")


def _check_image(pieces: tuple[tuple[str, int, int], ...], parts: dict[str, Part]) -> None:
    total = 0
    for name, offset, length in pieces:
        part = parts.get(f"image/{name}")
        if name == DESCRIPTION or offset % SECTOR or length % SECTOR or not length:
            raise SnapshotDamaged(f"the image has a piece {name[:80]!r} that cannot be")
        if part is not None and offset + length > part.size:
            raise SnapshotDamaged(f"the image's file {name[:80]!r} is too short")
        total += length
    if total != DEVICE_SIZE:
        raise SnapshotDamaged(f"the image's device has {total} bytes, not {DEVICE_SIZE}")


def _check_machine(machine: MachineRecord, parts: dict[str, Part]) -> set[str]:
    wrong = (
        machine.place not in (1, 2) or not 1 <= machine.cpus <= 64
        or not 0 < machine.memory < 1 << 43 or machine.memory % PAGE
        or not 0 < machine.disk <= DEVICE_SIZE or not 0 <= machine.staged <= DEVICE_SIZE
        or machine.disk % SECTOR or machine.staged % SECTOR
        or not 0 <= machine.main < 1 << 64
        or not re.fullmatch("(?:[0-9a-f]{2}){1,64}", machine.token)
    )  # fmt: skip
    if wrong:
        raise SnapshotDamaged("the machine's record says what cannot be")
    root = parts.get("memory/root")
    if root is not None and root.size != machine.memory:
        raise SnapshotDamaged(f"the memory has {root.size} bytes, not {machine.memory}")
    expected = {"state", "memory/root"}
    level = 1
    while f"memory/pages-{level}" in parts:
        if parts[f"memory/pages-{level}"].size > 2 * machine.memory + PAGE:
            raise SnapshotDamaged(f"memory/pages-{level} is larger than the memory")
        expected.add(f"memory/pages-{level}")
        level += 1
    return expected


def check_files(folder: Path, found: Incoming, *, disk_only: bool) -> None:
    """Look into the files that were unpacked into a folder, before anything is run from them.

    Raises:
        SnapshotDamaged: one names other files, or does not belong to this machine.
    """
    for each in found.record.layers[1:]:
        with (folder / "disk" / each).open("rb", buffering=0) as file:
            start = os.pread(file.fileno(), CLUSTER, DISK_OFFSET)
        try:
            check_overlay(start, DEVICE_SIZE)
        except ValueError as error:
            raise SnapshotDamaged(f"the layer {each} of the disk is refused: {error}") from None
    if found.machine is None or disk_only:
        return
    for path in MemoryFiles(folder / "memory").chain()[1:]:
        if read_pages(path).memory != found.machine.memory:
            raise SnapshotDamaged(f"{path.name} belongs to a machine of another size")


def write_description(folder: Path, found: Incoming) -> None:
    """Describe the image's device. The text is ours: one from elsewhere could name any file."""
    (folder / "image" / DESCRIPTION).write_text(describe(found.pieces))
