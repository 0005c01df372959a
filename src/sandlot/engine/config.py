"""What a machine is made of. Frozen data, no side effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024 * 1024
GIB = 1024 * MIB
WINDOW_SIZE = 16 * MIB
# Every disk is this large in the template; what a file does not have cannot be reached.
DEVICE_SIZE = 64 * GIB
# Where a writable disk begins in its file: higher than any memory reaches in its own. By that the
# launcher tells the two apart (docs/design/0013-freed-memory-goes-back.md).
DISK_OFFSET = 1024 * GIB


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A raw disk. `size` (bytes) is what the guest may reach; the device may look larger.

    It begins at `offset` of its file, a writable one not below DISK_OFFSET. Without a path it reads
    as zeros, and what is written is lost. With `concatenated`, `path` is the description of a disk
    that is DEVICE_SIZE long and made of files in the same folder, in which there is nothing else
    (concatenation.py). With `layers`, the disk is what lies in these files, the lowest first, which
    are not written to, and `path` an overlay over them; all of them begin at `offset`.
    """

    path: Path | None
    readonly: bool
    size: int = DEVICE_SIZE
    offset: int = 0
    concatenated: bool = False
    layers: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.path is not None and not self.readonly and self.offset < DISK_OFFSET:
            raise ValueError(f"a writable disk begins at {DISK_OFFSET} or later, not {self.offset}")

    @property
    def opened(self) -> Path | None:
        """What the engine must be able to open, besides the layers."""
        return self.path.parent if self.path is not None and self.concatenated else self.path


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Everything an engine needs to make a machine.

    `memory` is in bytes, `ram` the file that holds the guest's memory: shared with the file when a
    template is made, private to the process (copy on write) when one is restored.

    Files in `served` are not read from the disk: their bytes come over a socket, by its descriptor,
    at whose other end somebody serves them (nbd.py). Only what is not written to can be. Of a
    concatenated disk its whole device is.
    """

    memory: int
    cpus: int
    ram: Path
    disks: tuple[Disk, ...]
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    window: int = WINDOW_SIZE
    served: Mapping[Path, int] = field(default_factory=dict)
