"""A machine that this program runs: from template to session, and down again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandlot.engine.base import Engine, Machine
from sandlot.engine.config import DISK_OFFSET, MachineConfig
from sandlot.errors import (
    BootError,
    FileError,
    GuestProtocolError,
    ImageError,
    SandboxDied,
    SandboxError,
    SnapshotInterrupted,
)
from sandlot.files.files import Files
from sandlot.guest.channel import Channel
from sandlot.guest.session import GuestSession
from sandlot.sandbox.disk import begins_at_zero, blank_disk, copy_disk
from sandlot.sandbox.log import CONSOLE_LIMIT, OutputLog
from sandlot.sandbox.process import signal_number
from sandlot.snapshot.memory import MemoryFiles
from sandlot.snapshot.record import MachineRecord
from sandlot.snapshot.store import VOLUMES
from sandlot.state.records import SandboxFolder, SandboxRecord

if TYPE_CHECKING:
    from pathlib import Path

    from sandlot.sandbox.host import Host
    from sandlot.sandbox.lazy import Fetching

RESTORE_PATIENCE = 60.0


class OwnedMachine:
    """The running machine of one sandbox."""

    def __init__(self, folder: SandboxFolder, record: SandboxRecord, machine: Machine) -> None:
        self.folder = folder
        self.record = record
        self.machine = machine
        self._console = OutputLog(folder.console, CONSOLE_LIMIT)
        machine.on_console = lambda data: self._console.write("console", data)
        self.session: GuestSession
        self.on_end: list[Callable[[], None]] = []
        self._ending: asyncio.Task[None] | None = None
        self._stopping = False
        self.why = ""
        """Why it is being ended, when somebody wants it."""
        self.sleeps = False
        """Whether it ends because it was saved and its sandbox sleeps."""
        self.token = b""
        self.disk_place = 1
        """Which of the machine's disks is the one that it writes to."""
        self.staged_size = 0
        self.facts: dict[str, str] = {}
        self.main = 0
        """The job that was the main command of a machine that goes on."""
        self.restored: dict[str, Any] | None = None
        """What a machine that goes on from a snapshot is told of itself, until it was told."""
        self.had_volumes: list[str] = []
        """Where volumes are mounted in a machine that goes on."""
        self.saved_volumes: dict[str, Any] = {}
        """What the guest of a machine that goes on knows of its volumes."""

    @classmethod
    async def restore(
        cls, host: Host, folder: SandboxFolder, record: SandboxRecord,
        fetching: Fetching | None = None,
    ) -> OwnedMachine:  # fmt: skip
        """Bring up a sandbox whose lock the caller holds.

        A template that does not come to life is made anew, once.

        Raises:
            BootError: the guest did not come up.
            ImageError: the guest cannot mount the image.
        """
        folder.tidy()
        if folder.saved.exists() and (owned := await cls._go_on(host, folder, record, fetching)):
            return owned
        engine, template = await host.template(record.memory, record.cpus)
        layers, active = folder.disk_files()
        new = not active.exists()
        if not new and not layers and begins_at_zero(active):
            await asyncio.to_thread(copy_disk, active, active)
        for last in (False, True):
            # A disk of another size than the template's cannot be a copy of it.
            fresh = new and record.disk == template.disk_size
            if new:
                empty = template.disk
                if not fresh:
                    empty = await blank_disk(host.paths.disks, record.disk)
                await asyncio.to_thread(copy_disk, empty, active)
            memory = MemoryFiles.begin(folder.memory, template.ram)
            config = template.config(
                memory.full, folder.image, active, record.disk, fresh=fresh, layers=tuple(layers)
            )
            machine = await _restored(engine, config, template.state, fetching)
            owned = cls(folder, record, machine)
            owned.disk_place = 1 if fresh else 2
            owned.staged_size, owned.facts = template.disk_size, engine.facts
            try:
                await owned._connect(template.token, fresh)
                if layers and layers[0].stat().st_size - DISK_OFFSET < record.disk:
                    await owned.session.grow_disk(record.disk)
                return owned
            except (SandboxDied, GuestProtocolError) as error:
                tail = machine.console_tail()
                await owned._close_machine()
                if last:
                    raise BootError(
                        f"the restored guest did not come up: {error.message}",
                        command=machine.command, console_tail=tail,
                    ) from error  # fmt: skip
                host.templates.discard(template)
                engine, template = await host.template(record.memory, record.cpus)
            except BaseException:
                await owned._close_machine()
                raise
        raise AssertionError("unreachable")

    @classmethod
    async def _go_on(
        cls, host: Host, folder: SandboxFolder, record: SandboxRecord,
        fetching: Fetching | None,
    ) -> OwnedMachine | None:  # fmt: skip
        """Bring up the machine that was saved, which goes on when it is thawed.

        A machine that came up before and was not thawed, since its program was killed, may have
        written to its disk: it must not go on from the same memory over that. A new child gets a
        new overlay; one that slept begins from its disk: None.
        """
        saved = json.loads((folder.saved / "machine.json").read_text())
        begun = folder.saved / "begun"
        if begun.exists():
            if not saved["restored"]:
                folder.drop_saved()
                return None
            from sandlot.sandbox.saving import renew_overlay

            await asyncio.to_thread(renew_overlay, folder, record.disk)
        state = MachineRecord(**saved["machine"])
        engine = await host.engine()
        state.check(engine.facts)
        layers, active = folder.disk_files()
        grown = record.disk > state.disk
        state = dataclasses.replace(state, disk=record.disk)
        config = state.config(folder.memory / "full", folder.image, tuple(layers), active)
        begun.touch()
        machine = await _restored(engine, config, folder.saved / "state", fetching)
        owned = cls(folder, record, machine)
        owned.disk_place, owned.staged_size, owned.facts = state.place, state.staged, engine.facts
        owned.restored, owned.main = saved["restored"], state.main
        owned.had_volumes = list(state.volumes)
        with contextlib.suppress(FileNotFoundError):
            owned.saved_volumes = json.loads((folder.saved / VOLUMES).read_text())
        try:
            await owned._resync(bytes.fromhex(state.token))
            if grown:
                await machine.tell_size(state.place)
                await owned.session.grow_disk(record.disk)
            return owned
        except (SandboxDied, GuestProtocolError) as error:
            tail = machine.console_tail()
            await owned._close_machine()
            raise BootError(
                f"the saved machine did not come to life: {error.message}",
                command=machine.command, console_tail=tail,
            ) from error  # fmt: skip
        except BaseException:
            await owned._close_machine()
            raise

    async def thaw(self) -> None:
        """Let a machine that was saved go on; it cannot go on from there again."""
        if self.restored is None:
            return
        restored, self.restored = self.restored, None
        self.folder.drop_saved()
        if not restored:
            await self.session.thaw()
            return
        env = {**restored.get("env", {}), "SANDLOT_RESTORED": "/run/sandlot/restored"}
        await self.session.thaw(
            restored=json.dumps(restored, indent=1).encode() + b"\n", env=env,
            boot_id=str(uuid.uuid4()),
        )  # fmt: skip

    async def _resync(self, token: bytes) -> None:
        channel, self.token = await Channel.resynced(
            self.machine.channel, self.machine.window, token,
            patience=RESTORE_PATIENCE, died=self.death, broken=self._broken,
        )  # fmt: skip
        self.session = GuestSession(channel)
        await self.session.configure(
            hostname=self.record.hostname, machine_id=self.record.machine_id, pids=self.record.pids
        )

    async def _connect(self, token: bytes, fresh: bool) -> None:
        await self._resync(token)
        try:
            await self.session.mount_root(fresh=fresh, read_only=self.record.read_only)
        except (SandboxDied, GuestProtocolError):
            raise
        except SandboxError as error:
            raise ImageError(
                f"the sandbox cannot mount image {self.record.image!r}: {error.message}"
            ) from error

        if self.record.make_workdir:
            await self.make_workdir()

    async def make_workdir(self) -> None:
        """As Docker does; what stands in its way is told when a program is started there."""

        async def session() -> GuestSession:
            return self.session

        with contextlib.suppress(FileError):
            await Files(session).mkdir(self.record.workdir, parents=True)

    def death(self) -> SandboxError:
        """What those are told who needed the machine."""
        name = self.record.name
        if self.sleeps:
            return SnapshotInterrupted(
                f"sandbox {name!r} was put to sleep while this was under way", hint="try again"
            )
        if self._stopping:
            return SandboxDied(f"sandbox {name!r} was stopped{self._because()}")
        return SandboxDied(
            f"sandbox {name!r} has died", console_tail=self.machine.console_tail(),
            hint=f"`sandlot logs --console {name}` shows its last words",
        )  # fmt: skip

    def _because(self) -> str:
        return f": {self.why}" if self.why.startswith(("idle", "ran")) else ""

    def _broken(self, error: SandboxError) -> None:
        """The session failed: whatever the guest is now, it is ended."""
        self.end_soon()

    def end_soon(self) -> None:
        """Begin to end the machine; `ended` waits for it."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def ended(self) -> None:
        """Wait until the machine is gone and its lock released."""
        self.end_soon()
        assert self._ending is not None
        await asyncio.shield(self._ending)

    async def shutdown(self, grace: float, *, signal: str = "", process: int = 0) -> None:
        """Let the processes end and the disk be written, then end the machine.

        `signal` is what the job `process` gets instead of SIGTERM.
        """
        self._stopping = True
        number = signal_number(signal) if signal else 0
        with contextlib.suppress(SandboxError):  # it is ended below all the same
            await self.session.shutdown(grace, signal=number, process=process)
        await self.ended()

    async def kill(self) -> None:
        """End the machine at once; the disk stays as after a power cut."""
        self._stopping = True
        await self.ended()

    async def _end(self) -> None:
        await self._close_machine()
        for each in self.on_end:
            each()

    async def _close_machine(self) -> None:
        text = self.machine.console_tail()
        if hasattr(self, "session"):
            self.session.channel.close()
        await self.machine.close()
        if not self._stopping and text:  # with what QEMU itself said
            self._console.write("console", b"-- the last lines, and QEMU's own --\n")
            self._console.write("console", text.encode() + b"\n")
        self._console.close()

    @property
    def wanted_end(self) -> bool:
        """Whether somebody asked for the end, rather than the machine dying by itself."""
        return self._stopping

    @property
    def alive(self) -> bool:
        """Whether the machine can still be used."""
        return self._ending is None


async def _restored(
    engine: Engine, config: MachineConfig, state: Path, fetching: Fetching | None
) -> Machine:
    """A machine, which does not read from the disk what is not there yet."""
    if fetching is None:
        return await engine.restore(config, state)
    with fetching.serving() as served:
        return await engine.restore(dataclasses.replace(config, served=served), state)
