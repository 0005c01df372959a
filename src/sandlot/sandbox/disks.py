"""Named volumes that are disks, in a sandbox's machine: given to it, mounted, and let go of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, GuestProtocolError, SandboxDied, SandboxError, WrongState
from sandlot.wire.volumes import MountDisk

if TYPE_CHECKING:
    from sandlot.sandbox.owned import OwnedMachine
    from sandlot.volume.store import Hold, VolumeFolder

MOUNT_PATIENCE = 60.0


class Disks:
    """The disks of one sandbox, each of which it has alone."""

    def __init__(self, disks: Mapping[str, tuple[VolumeFolder, bool]]) -> None:
        """By their paths: the volume, and whether it is only read."""
        self._disks = disks
        self._holds: list[Hold] = []

    def __bool__(self) -> bool:
        return bool(self._disks)

    def check(self) -> None:
        """Refuse those that another sandbox has.

        Raises:
            WrongState
        """
        for folder, _ in self._disks.values():
            if folder.in_use():
                raise _in_use(folder)

    async def attach(self, owned: OwnedMachine) -> None:
        """Give all to a machine that has come up, and mount them.

        Raises:
            WrongState: another sandbox has one.
            ConfigError: one cannot be mounted.
        """
        for path, (folder, readonly) in self._disks.items():
            hold = folder.hold(alone=True)
            if hold is None:
                raise _in_use(folder)
            self._holds.append(hold)
            record = folder.record()
            await owned.machine.add_disk(record.id, folder.disk, record.size)
            flags = MountDisk.READ_ONLY if readonly else 0
            request = MountDisk(path=path.encode(), serial=record.id, flags=flags)
            try:
                await owned.session.call(request, patience=MOUNT_PATIENCE)
            except (SandboxDied, GuestProtocolError):
                raise
            except SandboxError as error:
                raise ConfigError(
                    f"the disk {folder.name!r} cannot be mounted at {path}: {error.message}"
                ) from error

    def refuse_saving(self) -> None:
        """A machine that goes on twice would write to the same disk twice.

        Raises:
            WrongState: there are disks.
        """
        if self._disks:
            raise WrongState(
                f"a sandbox that has a disk for a volume ({next(iter(self._disks))}) cannot be saved",
                hint="snapshot it with --disk-only (disk_only=True), or use a volume of kind folder",
            )

    def release(self) -> None:
        """The machine is no more."""
        holds, self._holds = self._holds, []
        for hold in holds:
            hold.release()


def _in_use(folder: VolumeFolder) -> WrongState:
    return WrongState(
        f"the disk {folder.name!r} is used by another sandbox, and is for one at a time",
        hint="stop that sandbox, or use a volume of kind folder",
    )


def disks_of(listed: list[dict[str, Any]]) -> Disks:
    """The disks in a record's list of volumes."""
    from sandlot.volume.declared import disks

    return Disks(disks(listed))
