"""`Volume`: a named volume, as users hold it."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, SandboxError, StateError
from sandlot.sizes import parse_size
from sandlot.volume.declared import Declaration, NamedVolume
from sandlot.volume.ledger import count
from sandlot.volume.store import (
    DISK,
    FOLDER,
    KINDS,
    VolumeFolder,
    VolumeRecord,
    VolumeStore,
    new_record,
)

if TYPE_CHECKING:
    from sandlot.files.extract import Transfer
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed

SMALLEST = 1 << 20
SMALLEST_DISK, DEFAULT_DISK, LARGEST_DISK = 16 << 20, 10 << 30, 8 << 40


class Volume(Declaration):
    """A named volume of this user: it lives until it is removed, and sandboxes share it.

        data = await Volume.create("data", size="10G")
        async with Sandbox.create(image="demo", volumes={"/data": data}) as sb:
            ...

    Made by `create`, or by the first sandbox that mounts its name; found by `get`.
    """

    def __init__(self, store: VolumeStore, folder: VolumeFolder, record: VolumeRecord) -> None:
        self._store = store
        self._folder = folder
        self._record = record

    def __repr__(self) -> str:
        size = f" size={self.size}" if self.size else ""
        return f"<Volume {self.name!r} {self.kind}{size}>"

    @classmethod
    async def create(
        cls, name: str, *, size: int | str | None = None, kind: str = FOLDER,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:  # fmt: skip
        """Make an empty volume.

        Args:
            name: letters, digits, `_`, `.` and `-`.
            size: bytes, or text such as `"10G"`, that it may hold; what comes above is ENOSPC in
                the sandbox. None for no limit but the host's disk.
            kind: `"folder"`, files in a folder of the host that any number of sandboxes share, or
                `"disk"`, a disk with a file system of its own for one sandbox at a time, as quick
                as the sandbox's own: for databases. It is 10G large unless `size` says otherwise,
                and takes of the host's disk what is written to it.
            labels: names and values of your own, for listings.

        Raises:
            NameTaken: there is one of this name.
            ConfigError: an argument is wrong.
            StateError: the state directory cannot be written.
        """
        if kind not in KINDS:
            raise ConfigError(f"no kind {kind!r} of a volume", hint=f"one of {', '.join(KINDS)}")
        bytes_ = 0 if size is None else parse_size(size, "size")
        if bytes_ and bytes_ < SMALLEST:
            raise ConfigError(
                f"size {size} of a volume is too small: the least is 1M", hint="use for example 10G"
            )
        if kind == DISK:
            bytes_ = bytes_ or DEFAULT_DISK
            if not SMALLEST_DISK <= bytes_ <= LARGEST_DISK:
                raise ConfigError(f"size {size} of a disk is out of range", hint="use 16M to 8192G")
        for key, value in (labels or {}).items():
            if not key or not isinstance(key, str) or not isinstance(value, str):
                raise ConfigError(f"label {key!r} is not a name and a text")
        record = new_record(name, kind=kind, size=bytes_, labels=dict(labels or {}))
        store = VolumeStore.current()
        return cls(store, await asyncio.to_thread(_made, store, record), record)

    @classmethod
    async def get(cls, name: str) -> Volume:
        """A volume that exists, by name or by the unique beginning of its id.

        Raises:
            VolumeNotFound: there is none.
        """
        store = VolumeStore.current()
        folder = store.find(name)
        return cls(store, folder, folder.record())

    @classmethod
    async def list(
        cls, *, unreadable: Callable[[SandboxError], None] | None = None
    ) -> builtins.list[Volume]:
        """Every volume of this user, by name.

        Args:
            unreadable: is told of each whose record cannot be read, which is left out.
        """
        store = VolumeStore.current()
        found = []
        for folder in store.all():
            try:
                found.append(cls(store, folder, folder.record()))
            except LookupError:
                pass  # removed at this moment
            except StateError as error:
                if unreadable is not None:
                    unreadable(error)
        return found

    @property
    def name(self) -> str:
        """Its name."""
        return self._folder.name

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that no other volume has."""
        return self._record.id

    @property
    def kind(self) -> str:
        """`folder` or `disk`."""
        return self._record.kind

    @property
    def size(self) -> int:
        """Bytes it may hold; 0 for no limit."""
        return self._record.size

    @property
    def labels(self) -> dict[str, str]:
        """Names and values of yours."""
        return dict(self._record.labels)

    @property
    def record(self) -> VolumeRecord:
        """All that it was made with."""
        return self._record

    @property
    def path(self) -> Path:
        """Where its files are on the host; its disk, where it is one."""
        return self._folder.disk if self.kind == DISK else self._folder.data

    @property
    def mounted(self) -> bool:
        """Whether a sandbox that runs has it."""
        return self._folder.in_use()

    def declaration(self) -> dict[str, Any]:
        """As it stands in a sandbox's record."""
        return NamedVolume(self.name).declaration()

    def sandboxes(self) -> builtins.list[str]:
        """The sandboxes that have it, running or not."""
        return sorted(self._store.users().get(self.name, []))

    async def used(self) -> int:
        """Bytes that it takes: its files in whole blocks of 4 KiB, and a little for each name."""
        if self.kind == DISK:
            return self._folder.disk.stat().st_blocks * 512
        return await asyncio.to_thread(count, self._folder.data)

    async def inspect(self) -> dict[str, Any]:
        """All that is known of it, ready for JSON."""
        from sandlot.times import iso_time

        record = self._folder.record()
        return {
            "name": self.name, "id": self.id, "kind": self.kind, "size": self.size or None,
            "used": await self.used(), "labels": self.labels, "created": iso_time(record.created),
            "anonymous": record.anonymous, "mounted": self.mounted, "sandboxes": self.sandboxes(),
            "path": str(self.path),
        }  # fmt: skip

    async def remove(self, *, force: bool = False) -> None:
        """Remove it, with all that is in it.

        Args:
            force: also when stopped sandboxes have it; they get an empty one when they start.

        Raises:
            WrongState: a sandbox has it.
            VolumeNotFound: it is gone already.
        """
        await asyncio.to_thread(self._store.remove, self._folder, force=force)

    async def push(
        self, to: str | Remote | None = None, name: str | None = None, *, keep: int = 10,
        force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """Send it to a remote, as `Sandbox.push` does; no sandbox that runs may have it.

            await data.push("s3://bucket/work")

        The files of one that is a folder are copied for it, into its folder.

        Args:
            to: an address, ADDRESS#NAME, the name of a remote, or a `Remote`; the default remote
                when None.
            name: what it is called there; as here when None.
            keep: how many versions of the name to keep.
            force: push over what this did not come from.
            level: of the compression, from 1 to 19.
            progress: called with `push` and the fraction that is done.

        Raises:
            WrongState: a sandbox that runs has it.
            RemoteConflict, KeyMissing, RemoteError, ResourceError
        """
        from sandlot.remote.remote import target
        from sandlot.volume.pushing import push_volume

        remote, chosen = target(to, name)
        options: dict[str, Any] = {"keep": keep, "force": force, "level": level}
        if progress is not None:
            options["tell"] = progress
        async with remote.open(create=True) as repository:
            return await push_volume(repository, self._folder, chosen, options)

    @classmethod
    async def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Volume:  # fmt: skip
        """A volume with what was pushed.

            data = await Volume.pull("data@2")

        Args:
            source: NAME or NAME@VERSION; ADDRESS#NAME; or an address where one volume is.
            name: what it is called here; as it was pushed when None.
            remote: a `Remote`, its name or its address; the default one when None.
            progress: called with `pull` and the fraction that is done.

        Raises:
            NameTaken, ConfigError
            RemoteNotFound: nothing was pushed under the name, or no such version.
            RemoteDamaged: what the remote gives is not what was pushed; nothing is kept.
            ResourceError: there is no room.
        """
        from sandlot.remote.remote import origin
        from sandlot.volume.pushing import pull_volume

        store = VolumeStore.current()
        opened, place = origin(source, remote)
        async with opened.open() as repository:
            folder = await pull_volume(
                repository, store, place.name, place.version, name,
                progress or (lambda stage, fraction: None),
            )  # fmt: skip
        return cls(store, folder, folder.record())

    async def upload(self, source: str | os.PathLike[str], target: str = "/") -> Transfer:
        """Copy a file or a folder of the host into it.

        Args:
            source: a path of the host.
            target: where it goes in the volume: a folder's contents into this folder, a file to
                this path.

        Raises:
            ConfigError: it is a disk, or the target is none.
            ResourceError: there is no room.
            FileError, OSError: something cannot be read or written.
        """
        from sandlot.volume.copying import copy_in

        return await asyncio.to_thread(
            copy_in, self._folder, self._record, os.fspath(source), target
        )

    async def download(
        self, source: str, target: str | os.PathLike[str], *, links: str = "inside",
        max_size: int | str = "64G", max_files: int = 1_000_000,
    ) -> Transfer:  # fmt: skip
        """Copy a file or a folder out of it, never through a link that a sandbox made.

        Args:
            source: a path in the volume.
            target: where it goes on the host: a folder's contents into this folder, a file to this
                path.
            links: `"inside"`, those that lead nowhere outside the copy; `"all"` or `"none"`.
            max_size, max_files: more is an error.

        Raises:
            ConfigError: it is a disk.
            FileError, OSError: something cannot be read or written, or is more than that.
        """
        from sandlot.volume.copying import copy_out

        return await asyncio.to_thread(
            copy_out, self._folder, self._record, source, os.fspath(target), links,
            parse_size(max_size, "max_size"), max_files,
        )  # fmt: skip


def _made(store: VolumeStore, record: VolumeRecord) -> VolumeFolder:
    if record.kind != DISK:
        return store.create(record)
    from sandlot.volume.disk import format_disk

    with store.making(record) as folder:
        format_disk(folder.disk, record.size)
    return store.find(record.name)
