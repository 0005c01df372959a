"""Saving a running machine: memory, devices and disk of one moment (docs/design/0017-snapshots.md).

The guest's programs are frozen before the processors stop, so that a machine that is restored from
this runs nothing of the user's before it has an identity of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sandlot.engine.memory import PAGE, GuestMemory, Run, buffer, prepare
from sandlot.errors import SandboxError, StateError, WrongState
from sandlot.snapshot.memory import DEEPEST, MemoryFiles
from sandlot.snapshot.pages import put_pages, write_joined, write_pages
from sandlot.snapshot.record import MachineRecord
from sandlot.snapshot.store import VOLUMES, SnapshotFolder
from sandlot.state.records import write_json
from sandlot.state.sparse import copy_sparse, link_or_copy

if TYPE_CHECKING:
    import mmap
    import os
    from pathlib import Path

    from sandlot.sandbox.owned import OwnedMachine
    from sandlot.sandbox.owner import Owner

T = TypeVar("T")


@dataclass(frozen=True)
class Captured:
    """What was saved. `pause` is how long the guest's programs stood still, in seconds;
    `own_memory` the bytes of pages that are not its parent's."""

    machine: MachineRecord | None
    layers: list[str]
    pause: float
    own_memory: int


async def capture(
    owner: Owner, target: SnapshotFolder, *, memory: bool = True, root: bool = False
) -> Captured:
    """Save the machine of a sandbox into a folder. It runs on.

    Args:
        memory: memory and devices too, not only the disk.
        root: the memory becomes one whole file, for machines that begin here, rather than the
            pages that differ.

    Raises:
        WrongState: it does not run, or is paused.
        SandboxDied: it ended meanwhile.
    """
    if owner.paused:
        name = owner.record.name
        raise WrongState(
            f"sandbox {name!r} is paused", hint=f"let it go on first with `sandlot unpause {name}`"
        )
    await owner.session()
    owned = owner.owned
    assert owned is not None
    try:
        return await _Capture(owner, owned, target, memory, root).run()
    except FileNotFoundError:
        if owned.alive:
            raise
        # Its end took the files of its memory away while they were being linked.
        raise owned.death() from None


class _Capture:
    def __init__(
        self, owner: Owner, owned: OwnedMachine, target: SnapshotFolder, memory: bool, root: bool
    ) -> None:
        self._owner = owner
        self._owned = owned
        self._machine = owned.machine
        self._folder = owner.folder
        self._target = target
        self._memory = memory
        self._root = root
        self._base = MemoryFiles(self._folder.memory)
        self._volumes: dict[str, Any] = {}

    async def run(self) -> Captured:
        place = self._owned.disk_place
        await to_the_end(self._owner.joining.give_way())
        layers, active = self._folder.disk_files()
        (self._folder.path / "disk").mkdir(exist_ok=True, mode=0o700)
        overlay = self._folder.path / "disk" / f"{len(layers) + 1}-{secrets.token_hex(4)}"
        guest: GuestMemory | None = None
        room: mmap.mmap | None = None
        copying: asyncio.Task[None] | None = None
        try:
            if self._memory:
                guest = self._machine.memory()
                self._target.memory.folder.mkdir(mode=0o700)
                copying = asyncio.create_task(
                    asyncio.to_thread(copy_sparse, self._base.full, self._target.memory.full)
                )
                room = buffer(guest.size)
                await asyncio.to_thread(prepare, room, guest.own())
            await self._machine.prepare_overlay(place, overlay)
            if copying is not None:
                await copying
            runs, pause = await to_the_end(self._still(guest, room, layers, active, overlay))
        except BaseException:
            if copying is not None:
                with contextlib.suppress(BaseException):
                    await copying
            with contextlib.suppress(SandboxError):
                await self._machine.drop_overlay(place)
            if self._folder.disk != overlay:
                overlay.unlink(missing_ok=True)
            raise
        frozen = [*(path.name for path in layers), self._layer_name(layers, active)]
        own = 0
        if room is not None:
            own = await to_the_end(asyncio.to_thread(self._put_down, room, runs))
            room.close()
        await to_the_end(asyncio.to_thread(self._link, frozen))
        if self._volumes:
            await asyncio.to_thread(write_json, self._target.volumes, self._volumes)
        self._owner.joining.soon()
        record = machine_record(self._owner, self._owned) if guest is not None else None
        return Captured(record, frozen, pause, own)

    async def _still(
        self, guest: GuestMemory | None, room: mmap.mmap | None, layers: list[Path], active: Path,
        overlay: Path,
    ) -> tuple[list[Run], float]:  # fmt: skip
        """The part during which the guest stands still."""
        session = self._owned.session
        frozen = [*(path.name for path in layers), self._layer_name(layers, active)]
        if active.parent != overlay.parent:
            _name_too(active, overlay.with_name(frozen[-1]))
        runs: list[Run] = []
        began = time.monotonic()
        try:
            await session.freeze(sync=guest is None)
            session.channel.hold(True)
            await self._machine.pause()
            try:
                # Before the machine does it: an overlay with nothing in it changes nothing.
                self._folder.write_disk_files(frozen, overlay.name)
                try:
                    await self._machine.switch_disk(self._owned.disk_place)
                except BaseException:
                    self._back(layers, active)
                    raise
                if guest is not None and room is not None:
                    await self._machine.save_devices(self._target.state)
                    self._volumes = await self._owner.volumes.save(self._target.path)
                    runs = await asyncio.to_thread(_copied, guest, room)
            finally:
                await self._machine.resume()
                session.channel.hold(False)
                session.set_clock()
        finally:
            await session.thaw()
        return runs, time.monotonic() - began

    def _back(self, layers: list[Path], active: Path) -> None:
        """The disk is what it was."""
        if active.parent == self._folder.path:
            (self._folder.path / "disk.json").unlink()
        else:
            self._folder.write_disk_files([path.name for path in layers], active.name)

    def _layer_name(self, layers: list[Path], active: Path) -> str:
        """What a file is called as a layer."""
        return active.name if active.parent.name == "disk" else f"0-{self._owner.record.id}"

    def _put_down(self, room: mmap.mmap, runs: list[Run]) -> int:
        """Write the pages that were copied."""
        memory = self._target.memory
        with memory.full.open("r+b") as file:
            put_pages(file.fileno(), room, runs)
        if self._root:
            link_or_copy(memory.full, memory.root)
            memory.seal_full()
            return sum(count for _, count in runs) * PAGE
        return put_changes(self._base, memory, room, runs)

    def _link(self, frozen: list[str]) -> None:
        self._target.disk.mkdir(mode=0o700)
        for name in frozen:
            link_or_copy(self._folder.path / "disk" / name, self._target.disk / name)
        link_folder(self._folder.image.parent, self._target.image)


async def put_aside(owner: Owner, owned: OwnedMachine, idle: Callable[[], bool]) -> None:
    """Save the machine of a sandbox into its own folder, to go on from there later. It stands still
    at the end, and has to be ended; when that fails it runs on.

    Args:
        idle: whether nobody uses it, asked when its programs stand still.

    Raises:
        WrongState: somebody uses it.
        SandboxDied: it ended meanwhile.
    """
    owner.volumes.refuse_saving()
    folder, machine, session = owner.folder, owned.machine, owned.session
    part = folder.path / ".saved.new"
    clear(part)
    part.mkdir(mode=0o700)
    try:
        guest = machine.memory()
        base, memory = MemoryFiles(folder.memory), MemoryFiles(part / "memory")
        memory.folder.mkdir(mode=0o700)
        await asyncio.to_thread(copy_sparse, base.full, memory.full)
        room = buffer(guest.size)
        await asyncio.to_thread(prepare, room, guest.own())
        try:
            await session.freeze()
            session.channel.hold(True)
            if not idle():
                raise WrongState("somebody uses it")
            await machine.pause()
            await machine.save_devices(part / "state")
            runs = await asyncio.to_thread(_copied, guest, room)
            await asyncio.to_thread(_put_aside, base, memory, room, runs)
            record = machine_record(owner, owned)
            if volumes := await owner.volumes.save():
                write_json(part / VOLUMES, volumes)
            write_json(part / "machine.json", {"machine": asdict(record), "restored": {}})
            clear(folder.memory)
            memory.folder.rename(folder.memory)
            folder.drop_saved()
            part.rename(folder.saved)
        except BaseException:
            with contextlib.suppress(SandboxError):
                await machine.resume()
                session.channel.hold(False)
                session.set_clock()
                await session.thaw()
            raise
    finally:
        clear(part)


def put_changes(base: MemoryFiles, memory: MemoryFiles, room: mmap.mmap, runs: list[Run]) -> int:
    """Write the pages that were changed beside a whole memory which has them, over the files that
    `base` is made of; the bytes that they take are returned."""
    memory.seal_full()
    if base.depth < DEEPEST:
        base.link_to(memory.folder, full=False)
        return write_pages(memory.pages(memory.depth + 1), room, runs).size
    link_or_copy(base.root, memory.root)
    return write_joined(memory.pages(1), memory.full, [*base.chain()[1:]], runs).size


def _name_too(active: Path, layer: Path) -> None:
    """Another name for a disk that is written to: a copy would not be of one moment.

    Raises:
        StateError: the file system has no hard links.
    """
    layer.unlink(missing_ok=True)  # of one that failed
    try:
        layer.hardlink_to(active)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StateError(
            f"a running sandbox cannot be saved on this file system: {error.strerror}",
            hint="set SANDLOT_DATA to a folder on one with hard links, such as ext4, xfs or btrfs",
        ) from error


def _put_aside(base: MemoryFiles, memory: MemoryFiles, room: mmap.mmap, runs: list[Run]) -> None:
    with memory.full.open("r+b") as file:
        put_pages(file.fileno(), room, runs)
    put_changes(base, memory, room, runs)
    room.close()


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work that must not be left in its middle; a cancellation comes after its end."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        with contextlib.suppress(BaseException):
            task.result()
        raise asyncio.CancelledError
    return task.result()


def _copied(guest: GuestMemory, room: mmap.mmap) -> list[Run]:
    runs = guest.own()
    guest.copy(runs, room)
    return runs


def machine_record(owner: Owner, owned: OwnedMachine) -> MachineRecord:
    """How a machine that is saved now comes to life again."""
    record = owner.record
    return MachineRecord(
        memory=record.memory, cpus=record.cpus, token=owned.token.hex(), place=owned.disk_place,
        disk=record.disk, staged=owned.staged_size, facts=owned.facts, main=owner.main,
        volumes=owner.volumes.served,
    )  # fmt: skip


def link_folder(source: Path, target: Path) -> None:
    """The files of a folder under names in another, which is made."""
    target.mkdir(mode=0o700)
    for path in source.iterdir():
        link_or_copy(path, target / path.name)


def clear(path: Path | os.PathLike[str]) -> None:
    """Remove a folder, if there is one."""
    shutil.rmtree(path, ignore_errors=True)
