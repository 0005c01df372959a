"""What a sandbox is and how it fares: the part of `Sandbox` that only looks."""

from __future__ import annotations

from dataclasses import dataclass

from sandlot.engine.base import MachineStats
from sandlot.errors import WrongState
from sandlot.guest.session import GuestSession
from sandlot.sandbox.door import connect, door_path
from sandlot.sandbox.host import Host
from sandlot.sandbox.owned import OwnedMachine
from sandlot.state.records import RunState, SandboxFolder, SandboxRecord


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as `Sandbox.list` shows it."""

    record: SandboxRecord
    state: RunState

    @property
    def status(self) -> str:
        """`created`, `starting`, `running` or `stopped`."""
        if self.state.running:
            return "running" if self.state.owner else "starting"
        return "stopped" if self.state.started else "created"


class Looking:
    """Base of `Sandbox`: its record, and the way to its machine, wherever that runs."""

    def __init__(self, host: Host, folder: SandboxFolder, record: SandboxRecord) -> None:
        self._host = host
        self._folder = folder
        self._record = record
        self._owned: OwnedMachine | None = None
        self._remote: GuestSession | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that no other sandbox has."""
        return self._record.id

    @property
    def image(self) -> str:
        """The image it was made from."""
        return self._record.image

    @property
    def folder(self) -> SandboxFolder:
        """Where it lies on disk."""
        return self._folder

    @property
    def record(self) -> SandboxRecord:
        """All that it was made with."""
        return self._record

    def info(self) -> SandboxInfo:
        """What it was made with, and whether it runs."""
        return SandboxInfo(self._record, self._folder.run_state())

    @property
    def status(self) -> str:
        """`created`, `running` or `stopped`."""
        if self._owned is not None:
            return "running" if self._owned.alive else "stopped"
        return self.info().status

    def stats(self) -> MachineStats:
        """What the machine uses on the host; only where this program runs it.

        Raises:
            WrongState: it does not run here.
        """
        if self._owned is None or not self._owned.alive:
            raise WrongState(f"sandbox {self.name!r} does not run in this program")
        return self._owned.machine.stats()

    async def _session(self) -> GuestSession:
        session = await self._find_session()
        if session is None:
            self._folder.record()  # says so when it is gone altogether
            raise WrongState(
                f"sandbox {self.name!r} is not running",
                hint=f"start it with `sandlot start {self.name}`",
            )
        return session

    async def _find_session(self) -> GuestSession | None:
        if self._owned is not None:
            error = self._owned.session.channel.error
            if error is not None and self._owned.alive:
                raise error
            if error is not None:
                await self._owned.ended()
                raise error
            return self._owned.session
        if self._remote is not None and self._remote.channel.error is None:
            return self._remote
        path = door_path(self._host.paths.sockets, self.id)
        self._remote = await connect(path, self.name)
        return self._remote
