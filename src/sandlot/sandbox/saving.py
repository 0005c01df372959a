"""Making a snapshot of a sandbox that this program runs, or of one that is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from sandlot.engine.config import DISK_OFFSET
from sandlot.engine.qemu.overlay import empty_overlay
from sandlot.errors import (
    ConfigError,
    ResourceError,
    SandboxNotFound,
    SnapshotError,
    StateError,
    WrongState,
)
from sandlot.sandbox.capture import Captured, capture, link_folder, to_the_end
from sandlot.sandbox.lazy import complete
from sandlot.sandbox.marking import unnoticed
from sandlot.sandbox.naming import readable_name
from sandlot.sandbox.sizes import check_name, parse_size
from sandlot.snapshot.cache import bound
from sandlot.snapshot.integrity import digest_sparse, write_out
from sandlot.snapshot.record import SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder, SnapshotStore
from sandlot.state.lock import FileLock
from sandlot.state.sparse import link_or_copy

if TYPE_CHECKING:
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.owner import Owner
    from sandlot.state.records import SandboxFolder, SandboxRecord

DEFAULT_CACHE = "8G"


def checked_name(store: SnapshotStore, name: str | None) -> str:
    """A name for a new snapshot; one that can be read when None was given.

    Raises:
        ConfigError: it cannot be a name.
        NameTaken: another snapshot has it.
    """
    chosen = check_name(name, "snapshot") if name is not None else readable_name()
    store.refuse_taken(chosen)
    return chosen


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Tags of a snapshot, each once.

    Raises:
        ConfigError: one is no text, or empty.
    """
    if isinstance(tags, str):
        raise ConfigError(f"tags is the text {tags!r}", hint=f"use tags=[{tags!r}]")
    return list(dict.fromkeys(check_name(tag, "tag") for tag in tags))


def cache_limit(host: Host) -> int:
    """How much disk the whole memory files of snapshots may take together, in bytes.

    Raises:
        ConfigError: the setting is no size.
    """
    text = host.settings.snapshot_cache or DEFAULT_CACHE
    return 0 if text == "0" else parse_size(text, "SANDLOT_SNAPSHOT_CACHE")


@contextlib.asynccontextmanager
async def _ready(owner: Owner, *, quiet: bool = False) -> AsyncIterator[None]:
    """Awake, and saved by nobody else, until the end of the block."""
    with unnoticed(owner) if quiet else owner.using():
        if not owner.paused:  # which is told apart later
            await owner.session()
        await owner.fetching.completed()
        async with owner.saving:
            yield


async def save_running(
    owner: Owner, name: str | None, *, memory: bool, tags: Sequence[str]
) -> SnapshotRecord:
    """Make a snapshot of a sandbox that this program runs.

    Raises:
        NameTaken, ConfigError: the name.
        WrongState: it does not run, or is paused.
        ResourceError: the host's disk is full.
        SandboxDied: it ended meanwhile.
    """
    store = owner.host.snapshots
    chosen, marked = checked_name(store, name), checked_tags(tags)
    limit = cache_limit(owner.host)
    if owner.plugged is not None:
        await owner.plugged.snapshot("snapshot", name or "", not memory, marked)
    async with _ready(owner):
        if memory:
            owner.volumes.refuse_saving()
        with full_disk(), store.making() as folder:
            captured = await capture(owner, folder, memory=memory)
            found = await to_the_end(
                asyncio.to_thread(_seal, owner.host, folder, owner.record, chosen, marked, captured)
            )
    await asyncio.to_thread(bound, store, limit)
    owner.event("snapshot", snapshot=chosen, snapshot_id=found.id, pause=round(captured.pause, 4))
    return found


async def save_stopped(
    host: Host, sandbox: SandboxFolder, name: str | None, tags: Sequence[str]
) -> SnapshotRecord:
    """Make a snapshot of the disk of a stopped sandbox.

    Raises:
        NameTaken, ConfigError: the name.
        WrongState: it runs, or was never started and has no disk yet.
        ResourceError: the host's disk is full.
    """
    store = host.snapshots
    chosen, marked = checked_name(store, name), checked_tags(tags)
    async with stopped_point(host, sandbox) as (folder, captured, record):
        return await to_the_end(
            asyncio.to_thread(_seal, host, folder, record, chosen, marked, captured)
        )


@contextlib.asynccontextmanager
async def stopped_point(
    host: Host, sandbox: SandboxFolder
) -> AsyncIterator[tuple[SnapshotFolder, Captured, SandboxRecord]]:
    """The disk of a stopped sandbox in a folder, until the end of the block, unless that gives it a
    name.

    Raises:
        as `save_stopped`
    """
    lock = FileLock.take(sandbox.lock_path)
    if lock is None:
        if not sandbox.path.exists():
            raise SandboxNotFound(f"no sandbox is named {sandbox.path.name!r}")
        raise WrongState(f"sandbox {sandbox.path.name!r} is just being started", hint="try again")
    try:
        record = sandbox.record()
        if not sandbox.disk.exists():
            raise WrongState(
                f"sandbox {record.name!r} was never started: its disk is empty",
                hint="start it first, or make another one from its image",
            )
        await complete(host, sandbox)
        with full_disk(), host.snapshots.making() as folder:
            captured = await to_the_end(asyncio.to_thread(_save_disk, sandbox, record, folder))
            lock.release()  # what was saved does not change when the sandbox is started
            yield folder, captured, record
    finally:
        lock.release()


def _save_disk(sandbox: SandboxFolder, record: SandboxRecord, target: SnapshotFolder) -> Captured:
    layers, active = sandbox.disk_files()
    folder = sandbox.path / "disk"
    folder.mkdir(exist_ok=True, mode=0o700)
    name = active.name if active.parent == folder else f"0-{record.id}"
    if active.parent != folder and not (folder / name).exists():
        link_or_copy(active, folder / name)
    overlay = new_overlay(sandbox, record.disk, len(layers) + 1)
    frozen = [*(path.name for path in layers), name]
    sandbox.write_disk_files(frozen, overlay)
    target.disk.mkdir(mode=0o700)
    for each in frozen:
        link_or_copy(folder / each, target.disk / each)
    link_folder(sandbox.image.parent, target.image)
    return Captured(None, frozen, 0.0, 0)


def new_overlay(sandbox: SandboxFolder, size: int, level: int) -> str:
    """An overlay with nothing in it for the disk of a sandbox that does not run; its name."""
    name = f"{level}-{secrets.token_hex(4)}"
    path = sandbox.path / "disk" / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, empty_overlay(size), DISK_OFFSET)
    finally:
        os.close(descriptor)
    return name


def renew_overlay(sandbox: SandboxFolder, size: int) -> None:
    """Throw away what was written over the layers of a disk, with nobody running on it."""
    layers, active = sandbox.disk_files()
    sandbox.write_disk_files(
        [path.name for path in layers], new_overlay(sandbox, size, len(layers))
    )
    active.unlink()


def _seal(
    host: Host, folder: SnapshotFolder, source: SandboxRecord, name: str, tags: list[str],
    captured: Captured,
) -> SnapshotRecord:  # fmt: skip
    """Write down what was saved, once it is on the disk, and give it its name."""
    record = new_record(folder, source, name, tags, captured)
    files = [f"disk/{each}" for each in record.layers]
    if record.machine is not None:
        files += ["state", *(f"memory/{path.name}" for path in folder.memory.chain())]
        if folder.volumes.exists():
            files += [folder.volumes.name, *(path.name for path in folder.contents())]
    write_out(folder.path / each for each in files)
    known = known_digests(host, source, folder)
    digests = {each: known.get(each) or digest_sparse(folder.path / each) for each in files}
    record = dataclasses.replace(record, digests=digests)
    folder.note_verified(record)
    host.snapshots.publish(folder, record)
    return record


def new_record(
    folder: SnapshotFolder, source: SandboxRecord, name: str, tags: list[str], captured: Captured
) -> SnapshotRecord:
    """The record of what was saved, without digests."""
    machine = captured.machine
    return SnapshotRecord(
        id=secrets.token_hex(6), name=name, created=time.time(), sandbox=source.name,
        source=asdict(source), layers=captured.layers, parent=source.snapshot, tags=tags,
        machine=asdict(machine) if machine is not None else None,
        own_memory=captured.own_memory, pause=captured.pause,
        own_disk=(folder.disk / captured.layers[-1]).stat().st_blocks * 512,
    )  # fmt: skip


def known_digests(host: Host, source: SandboxRecord, folder: SnapshotFolder) -> dict[str, str]:
    """The digests of files that others have too, under the same names: the snapshot that the
    sandbox came from, and the last one that was made of it; and the template that it began with."""
    found: dict[str, str] = {}
    relatives = [host.snapshots.newest_of(source.id)]
    with contextlib.suppress(SnapshotError):
        relatives.append(host.snapshots.find(source.snapshot))
    for each in filter(None, relatives):
        with contextlib.suppress(SnapshotError, OSError):
            digests = each.record().digests
            found |= {name: digests[name] for name in digests if _same(each, folder, name)}
    if folder.memory.root.exists() and "memory/root" not in found:
        found["memory/root"] = host.templates.known_digest(folder.memory.root)
    return found


def _same(one: SnapshotFolder, other: SnapshotFolder, name: str) -> bool:
    """Whether both have the same file by this name."""
    path = other.path / name
    return path.exists() and path.samefile(one.path / name)


@contextlib.asynccontextmanager
async def fork_point(
    owner: Owner, *, memory: bool = True, root: bool = True, quiet: bool = False
) -> AsyncIterator[tuple[SnapshotFolder, Captured]]:
    """The machine as it is now, saved for forks or to be pushed, until the end of the block.

    Args:
        memory, root: as `capture` has them.
        quiet: nobody asked for it just now: it is no use of the sandbox.

    Raises:
        as `save_running`
    """
    if owner.plugged is not None:
        await owner.plugged.snapshot("fork" if root else "snapshot", "", not memory, ())
    with full_disk(), owner.host.snapshots.making() as folder:
        async with _ready(owner, quiet=quiet):
            if memory:
                owner.volumes.refuse_saving()
            captured = await capture(owner, folder, memory=memory, root=root and memory)
        yield folder, captured


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Say in one line that the host's disk is full."""
    import errno

    try:
        yield
    except (OSError, StateError) as error:
        cause = error.__cause__ if isinstance(error, StateError) else error
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(
                "no space left on the host for the snapshot; nothing of it was kept",
                hint="free some (`sandlot df`, `sandlot prune`), or set SANDLOT_DATA to another disk",
            ) from error
        raise
