"""The volumes of a sandbox's owner. What serves them is imported when there are any."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError
from sandlot.sandbox.mounting import changed

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.disks import Disks
    from sandlot.sandbox.owned import OwnedMachine
    from sandlot.sandbox.owner import Owner
    from sandlot.sandbox.volumes import Volumes


class Mounted:
    """What is mounted in the machines of an owner, one machine after the other."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._volumes: Volumes | None = None
        self._disks: Disks | None = None
        self._ending: asyncio.Task[None] | None = None
        self.given: Mapping[str, FileSystem] = {}
        """Those that the program gave, by their paths; the record declares the others."""

    @property
    def file_systems(self) -> dict[str, FileSystem]:
        """The file systems by their paths."""
        return self._volumes.mounted if self._volumes is not None else dict(self.given)

    @property
    def served(self) -> list[str]:
        """Where something is mounted and served now, a stream each."""
        return self._volumes.served if self._volumes is not None else []

    def check(self) -> None:
        """Make them ready, before a machine is started for nothing.

        Raises:
            ConfigError: one is not there, or has to be given again.
        """
        if self._owner.record.volumes:
            self._open()
            assert self._disks is not None
            self._disks.check()

    def _open(self) -> Volumes:
        if self._volumes is None:
            from sandlot.sandbox.disks import disks_of
            from sandlot.sandbox.volumes import Volumes
            from sandlot.volume.declared import opened

            record = self._owner.record
            hooks = self._owner.asked
            self._disks = disks_of(record.volumes)
            self._volumes = Volumes(
                record.name, opened(record.volumes, self.given), hooks.on_fs if hooks else None
            )
        return self._volumes

    async def attach(self, owned: OwnedMachine) -> None:
        """Mount all in a machine that has come up.

        Raises:
            ConfigError: one cannot be mounted.
        """
        if self._ending is not None:
            await self._ending  # those of the machine before
        if not self._owner.record.volumes and not owned.had_volumes:
            return
        volumes = self._open()
        if self._disks:
            await self._disks.attach(owned)
        await self._adopt(owned.session, volumes.mounted.values())
        saved = self._owner.folder.saved
        await volumes.attach(owned.session, owned.had_volumes, owned.saved_volumes, saved)
        if self._owner.record.make_workdir:
            await owned.make_workdir()

    async def _adopt(self, session: GuestSession, found: Iterable[FileSystem]) -> None:
        """Tell file systems whose the files are that say nothing of it."""
        if self._owner.record.user:
            from sandlot.sandbox.owning import owner_of_files

            uid, gid = await owner_of_files(session, self._owner.record.user)
            for fs in found:
                fs.adopt(uid, gid)

    async def mount(self, record: dict[str, Any], fs: FileSystem | None) -> None:
        """Mount one more, given or declared.

        Raises:
            ConfigError: something is mounted there, or it cannot be mounted.
        """
        from sandlot.sandbox.disks import disks_of
        from sandlot.volume.declared import opened

        path = record["path"]
        if fs is None and disks_of([record]):
            raise ConfigError(
                "a disk cannot be mounted in a sandbox that runs",
                hint="name it when the sandbox is made",
            )
        async with self._owner.saving:  # a machine that is saved has what its record says
            session = await self._owner.session()
            listed = changed(self._owner.record.volumes, {"mount": record})
            wanted = fs or opened([record], {})[path]
            await self._adopt(session, [wanted])
            await self._open().add(session, path, wanted)
            self._note(listed)

    async def unmount(self, path: str, *, force: bool = False) -> None:
        """Take one away.

        Raises:
            ConfigError: none is mounted there, or it is in use.
        """
        async with self._owner.saving:
            session = await self._owner.session()
            listed = changed(self._owner.record.volumes, {"unmount": path})
            await self._open().remove(session, path, force=force)
            self._note(listed)

    def _note(self, listed: list[dict[str, Any]]) -> None:
        owner = self._owner
        owner.record = dataclasses.replace(owner.folder.record(), volumes=listed)
        owner.folder.write_record(owner.record)

    async def save(self, folder: Path | None = None) -> dict[str, Any]:
        """What the guest knows of them, as JSON, for a machine that is saved now, and into a folder
        the contents of those that it holds itself."""
        return await self._volumes.save(folder) if self._volumes is not None else {}

    def refuse_saving(self) -> None:
        """Refuse to save a machine that has disks for volumes.

        Raises:
            WrongState
        """
        if self._disks is not None:
            self._disks.refuse_saving()

    def machine_ended(self) -> None:
        """Begin to let go of what the machine had open."""
        if self._disks is not None:
            self._disks.release()
        if self._volumes is not None:
            self._ending = asyncio.get_running_loop().create_task(self._volumes.detach())

    async def ended(self) -> None:
        """Wait until all of that is closed."""
        if self._ending is not None:
            await asyncio.shield(self._ending)
