"""Where everything lies. Folders are made when they are first asked for, open to their user only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandlot.errors import StateError
from sandlot.settings import Settings


@dataclass(frozen=True)
class StatePaths:
    """The folders of one state directory."""

    data: Path
    runtime: Path

    @classmethod
    def of(cls, settings: Settings) -> StatePaths:
        """The folders that the settings name."""
        return cls(settings.data, settings.runtime)

    def _folder(self, path: Path) -> Path:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(
                f"the state directory {path} cannot be used: {error.strerror}",
                hint="make it writable, or set SANDLOT_DATA to a folder that is",
            ) from error
        return path

    @property
    def images(self) -> Path:
        """Images and their blobs."""
        return self._folder(self.data / "images")

    @property
    def templates(self) -> Path:
        """Machines saved just after their agent came up."""
        return self._folder(self.data / "templates")

    @property
    def sandboxes(self) -> Path:
        """One folder per sandbox."""
        return self._folder(self.data / "sandboxes")

    @property
    def snapshots(self) -> Path:
        """One folder per snapshot."""
        return self._folder(self.data / "snapshots")

    @property
    def volumes(self) -> Path:
        """One folder per named volume."""
        return self._folder(self.data / "volumes")

    @property
    def remotes(self) -> Path:
        """What this machine has seen of remotes."""
        return self._folder(self.data / "remotes")

    @property
    def fleets(self) -> Path:
        """The locks of fleets that are being changed."""
        return self._folder(self.data / "fleets")

    @property
    def kernels(self) -> Path:
        """Unpacked guest kernels and initial file systems."""
        return self._folder(self.data / "kernels")

    @property
    def disks(self) -> Path:
        """Empty file systems that new disks are copied from."""
        return self._folder(self.data / "disks")

    @property
    def cache(self) -> Path:
        """What can be lost: verdicts, downloads."""
        return self._folder(self.data / "cache")

    @property
    def sockets(self) -> Path:
        """The sockets of running sandboxes."""
        return self._folder(self.runtime)
