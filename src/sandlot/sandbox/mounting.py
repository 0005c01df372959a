"""The volumes of a sandbox, from whatever program: which it has, and changing them while it runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, SandboxError
from sandlot.sandbox.faults import rebuilt
from sandlot.state.lock import FileLock
from sandlot.wire.messages import Failed
from sandlot.wire.volumes import ChangeVolumes

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.owner import Owner
    from sandlot.state.records import SandboxFolder


class SandboxVolumes:
    """The volumes of one sandbox; as `Sandbox.volumes`.

    await sb.volumes.mount("/data", HostFs("./data", readonly=True))
    await sb.volumes.unmount("/data")
    """

    def __init__(
        self, folder: SandboxFolder, owner: Owner | None,
        session: Callable[[], Awaitable[GuestSession]], objects: dict[str, FileSystem],
    ) -> None:  # fmt: skip
        self._folder = folder
        self._owner = owner
        self._session = session
        self._objects = objects

    def list(self) -> list[dict[str, Any]]:
        """What is mounted where: `path`, `kind`, and what the kind has."""
        return list(self._folder.record().volumes)

    async def mount(self, path: str, volume: object) -> None:
        """Mount one more, now and whenever it is started again.

        Args:
            path: where, in the sandbox.
            volume: as in `Sandbox.create(volumes=)`.

        Raises:
            ConfigError: something is mounted there, or it cannot be mounted.
            WrongState: a file system of this program, and another program runs the sandbox.
        """
        from sandlot.volume.declared import GIVEN, declared

        listed, objects = declared({path: volume})
        (record,) = listed
        plain = record["path"]
        if self._owner is not None and self._owner.alive:
            await self._owner.volumes.mount(record, objects.get(plain))
            self._objects.update(objects)
            return
        if record["kind"] == GIVEN:
            raise ConfigError(
                f"{record['what']} is a file system of this program, and another one runs the "
                "sandbox, or none",
                hint="use a host folder or a named volume",
            )
        await self._change({"mount": record})

    async def unmount(self, path: str, *, force: bool = False) -> None:
        """Take one away.

        Args:
            path: where it is mounted.
            force: also while programs use it: what they have open is no more (EIO).

        Raises:
            ConfigError: none is mounted there, or it is in use.
        """
        from sandlot.volume.declared import checked_path

        plain = checked_path(path)
        if self._owner is not None and self._owner.alive:
            await self._owner.volumes.unmount(plain, force=force)
        else:
            await self._change({"unmount": plain, "force": force})
        self._objects.pop(plain, None)

    async def _change(self, change: dict[str, Any]) -> None:
        lock = FileLock.take(self._folder.lock_path)
        if lock is not None:  # nobody runs it
            try:
                record = self._folder.record()
                volumes = changed(record.volumes, change)
                self._folder.write_record(dataclasses.replace(record, volumes=volumes))
            finally:
                lock.release()
            return
        session = await self._session()
        stream = session.channel.open(ChangeVolumes(change=json.dumps(change)))
        answer = await stream.read_message()
        stream.finish()
        if isinstance(answer, Failed):
            raise rebuilt(json.loads(answer.text))
        if answer is None:
            raise session.channel.error or SandboxError("the sandbox has ended")


def changed(volumes: list[dict[str, Any]], change: dict[str, Any]) -> list[dict[str, Any]]:
    """The list of a record after a change.

    Raises:
        ConfigError: it does not fit.
    """
    if "mount" in change:
        path = change["mount"]["path"]
        if any(each["path"] == path for each in volumes):
            raise ConfigError(
                f"a volume is mounted at {path} already",
                hint="unmount it first, or use another path",
            )
        return [*volumes, change["mount"]]
    path = change["unmount"]
    rest = [each for each in volumes if each["path"] != path]
    if len(rest) == len(volumes):
        raise ConfigError(
            f"no volume is mounted at {path}",
            hint=f"mounted are: {', '.join(each['path'] for each in volumes) or 'none'}",
        )
    return rest
