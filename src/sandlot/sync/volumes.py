"""Volumes without `await`; tests/unit/sync/test_facade.py holds the signatures to the originals."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.errors import SandboxError
from sandlot.sandbox import mounting
from sandlot.sync.portal import run
from sandlot.volume import volume as origin
from sandlot.volume.declared import Declaration
from sandlot.volume.store import FOLDER, VolumeRecord

if TYPE_CHECKING:
    from sandlot.files.extract import Transfer
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed


class Volume(Declaration):
    """See `sandlot.Volume`."""

    def __init__(self, volume: origin.Volume) -> None:
        self._volume = volume

    def __repr__(self) -> str:
        return repr(self._volume)

    @classmethod
    def create(
        cls, name: str, *, size: int | str | None = None, kind: str = FOLDER,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:  # fmt: skip
        """See `sandlot.Volume.create`."""
        return cls(run(origin.Volume.create(name, size=size, kind=kind, labels=labels)))

    @classmethod
    def get(cls, name: str) -> Volume:
        """See `sandlot.Volume.get`."""
        return cls(run(origin.Volume.get(name)))

    @classmethod
    def list(
        cls, *, unreadable: Callable[[SandboxError], None] | None = None
    ) -> builtins.list[Volume]:
        """See `sandlot.Volume.list`."""
        return [cls(each) for each in run(origin.Volume.list(unreadable=unreadable))]

    @property
    def name(self) -> str:
        """See `sandlot.Volume.name`."""
        return self._volume.name

    @property
    def id(self) -> str:
        """See `sandlot.Volume.id`."""
        return self._volume.id

    @property
    def kind(self) -> str:
        """See `sandlot.Volume.kind`."""
        return self._volume.kind

    @property
    def size(self) -> int:
        """See `sandlot.Volume.size`."""
        return self._volume.size

    @property
    def labels(self) -> dict[str, str]:
        """See `sandlot.Volume.labels`."""
        return self._volume.labels

    @property
    def record(self) -> VolumeRecord:
        """See `sandlot.Volume.record`."""
        return self._volume.record

    @property
    def path(self) -> Path:
        """See `sandlot.Volume.path`."""
        return self._volume.path

    @property
    def mounted(self) -> bool:
        """See `sandlot.Volume.mounted`."""
        return self._volume.mounted

    def declaration(self) -> dict[str, Any]:
        """See `sandlot.Volume.declaration`."""
        return self._volume.declaration()

    def sandboxes(self) -> builtins.list[str]:
        """See `sandlot.Volume.sandboxes`."""
        return self._volume.sandboxes()

    def used(self) -> int:
        """See `sandlot.Volume.used`."""
        return run(self._volume.used())

    def inspect(self) -> dict[str, Any]:
        """See `sandlot.Volume.inspect`."""
        return run(self._volume.inspect())

    def push(
        self, to: str | Remote | None = None, name: str | None = None, *, keep: int = 10,
        force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """See `sandlot.Volume.push`."""
        return run(
            self._volume.push(to, name, keep=keep, force=force, level=level, progress=progress)
        )

    @classmethod
    def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Volume:  # fmt: skip
        """See `sandlot.Volume.pull`."""
        return cls(run(origin.Volume.pull(source, name, remote=remote, progress=progress)))

    def remove(self, *, force: bool = False) -> None:
        """See `sandlot.Volume.remove`."""
        run(self._volume.remove(force=force))

    def upload(self, source: str | os.PathLike[str], target: str = "/") -> Transfer:
        """See `sandlot.Volume.upload`."""
        return run(self._volume.upload(source, target))

    def download(
        self, source: str, target: str | os.PathLike[str], *, links: str = "inside",
        max_size: int | str = "64G", max_files: int = 1_000_000,
    ) -> Transfer:  # fmt: skip
        """See `sandlot.Volume.download`."""
        return run(
            self._volume.download(
                source, target, links=links, max_size=max_size, max_files=max_files
            )
        )


class SandboxVolumes:
    """See `sandlot.sandbox.mounting.SandboxVolumes`."""

    def __init__(self, volumes: mounting.SandboxVolumes) -> None:
        self._volumes = volumes

    def list(self) -> builtins.list[dict[str, Any]]:
        """See `SandboxVolumes.list`."""
        return self._volumes.list()

    def mount(self, path: str, volume: object) -> None:
        """See `SandboxVolumes.mount`."""
        run(self._volumes.mount(path, volume))

    def unmount(self, path: str, *, force: bool = False) -> None:
        """See `SandboxVolumes.unmount`."""
        run(self._volumes.unmount(path, force=force))
