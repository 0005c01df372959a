"""Sandboxes and snapshots into remotes, and out of them.

What is pushed is what a snapshot is made of (snapshot/layout.py), and what comes is checked as one
from a file is (exchange.py): no value of a secret is in it, and it opens nothing of the host that it
comes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.engine.concatenation import pieces_of
from sandlot.errors import SnapshotDamaged, SnapshotMismatch, SnapshotNotFound
from sandlot.remote.index import Entry
from sandlot.remote.known import Base
from sandlot.remote.manifest import Manifest as PushedManifest
from sandlot.remote.manifest import StoredPart
from sandlot.remote.place import checked_push_name
from sandlot.remote.receiving import Receiver
from sandlot.remote.remote import Remote, origin
from sandlot.remote.repository import Repository
from sandlot.remote.versions import File, Progress, Pushed, begin_push, find
from sandlot.sandbox.exchange import adopted, filled, make_room, tell_dropped
from sandlot.sandbox.foreign import without_host
from sandlot.sandbox.restoring import Origin
from sandlot.sandbox.saving import full_disk, known_digests, new_record
from sandlot.sandbox.sizes import check_name
from sandlot.snapshot.incoming import DESCRIPTION, Incoming, incoming
from sandlot.snapshot.layout import Manifest, Part, make_config, parse_config
from sandlot.snapshot.record import SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder

if TYPE_CHECKING:
    from sandlot.network.hooks import Hooks
    from sandlot.sandbox.branching import Branching
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.restoring import Changes
    from sandlot.sandbox.sandbox import Sandbox

SANDBOX, SNAPSHOT = "sandbox", "snapshot"
ON_DEMAND = ("image/", "disk/")
"""What a machine can read while it runs, if it is not here yet."""


# Section: out


def parts(
    folder: SnapshotFolder, record: SnapshotRecord, digests: dict[str, str]
) -> tuple[dict[str, Any], list[File]]:
    """What a snapshot is to who pulls it, and its files; those that many share come first.

    Raises:
        SnapshotDamaged: the image's description cannot be read.
    """
    try:
        pieces = pieces_of((folder.image / DESCRIPTION).read_text())
    except (OSError, ValueError) as error:
        raise SnapshotDamaged(f"the image of {record.name!r}: {error}") from None
    names = [f"image/{name}" for name in dict.fromkeys(name for name, _, _ in pieces)]
    own = [f"disk/{name}" for name in record.layers]
    if record.machine is not None:
        names += [f"memory/{path.name}" for path in folder.memory.chain()]
        own.append("state")
    import json

    outgoing = {**record.to_json(), "source": without_host(record.source), "digests": {}}
    config: dict[str, Any] = json.loads(make_config(outgoing, pieces))
    files = [File(name, folder.path / name, digests.get(name, "")) for name in [*names, *own]]
    return config, files


async def push_snapshot(
    repository: Repository, folder: SnapshotFolder, name: str | None, options: dict[str, Any]
) -> Pushed:
    """As `Snapshot.push`."""
    record = folder.record()
    chosen = checked_push_name(name or record.name)
    async with begin_push(repository, SNAPSHOT, chosen, record.id, **options) as push:
        await asyncio.to_thread(folder.verify)
        config, files = parts(folder, record, record.digests)
        try:
            return await push.send(config, files)
        except FileNotFoundError:
            raise SnapshotNotFound(f"snapshot {record.name!r} was removed meanwhile") from None


async def push_sandbox(
    repository: Repository, sandbox: Branching, name: str | None, *, memory: bool,
    options: dict[str, Any], quiet: bool = False,
) -> Pushed:  # fmt: skip
    """As `Sandbox.push`; a `quiet` one is no use of the sandbox, which may become idle."""
    chosen = checked_push_name(name or sandbox.name)
    async with (
        begin_push(repository, SANDBOX, chosen, sandbox.id, **options) as push,
        sandbox._save_point(memory=memory, quiet=quiet) as (folder, captured),
    ):
        source = sandbox._folder.record()
        record = await asyncio.to_thread(new_record, folder, source, source.name, [], captured)
        digests = await asyncio.to_thread(known_digests, sandbox._host, source, folder)
        config, files = parts(folder, record, digests)
        return await push.send(config, files)


# Section: in


@dataclasses.dataclass(frozen=True)
class Found:
    """What is to be pulled, of which nothing was fetched but what it says that it is."""

    repository: Repository
    base: Base
    manifest: PushedManifest
    incoming: Incoming
    stored: str
    """The name of its manifest there."""

    @property
    def has_memory(self) -> bool:
        """Whether programs go on in it."""
        return self.incoming.machine is not None


async def look(repository: Repository, kind: str, name: str, version: int | None) -> Found:
    """What a name stands for.

    Raises:
        RemoteNotFound, RemoteDamaged
        SnapshotDamaged: it says what no sandbox can be.
    """
    import json

    picked, manifest = await find(repository, kind, name, version)
    files = tuple(
        Part(each.path, each.size, each.data, each.contents, f"sha256:{each.contents}", each.data)
        for each in manifest.parts
    )
    config = parse_config(json.dumps(manifest.config).encode())
    # A file of the image may be in it under one name only.
    found = incoming(config, Manifest("", 0, files))
    return Found(
        repository,
        Base(manifest.name, manifest.version, picked.digest),
        manifest,
        found,
        picked.manifest,
    )


async def fits(host: Host, found: Found, *, disk_only: bool, fallback: bool) -> bool:
    """Whether only the disk is to be pulled; told before anything of it is.

    Raises:
        SnapshotMismatch: the saved machine cannot go on here, and neither was asked.
    """
    machine = found.incoming.machine
    if disk_only or machine is None:
        return True
    try:
        machine.check((await host.engine()).facts)
    except SnapshotMismatch as error:
        if not fallback:
            raise SnapshotMismatch(
                error.message, differences=error.differences,
                hint="its disk can be used: pull with disk_only=True (--disk-only), or have that"
                " done where it has to with fallback=True (--fallback)",
            ) from None  # fmt: skip
        host.tell(f"{error.message}: only the disk is pulled, its programs begin anew")
        return True
    return False


@contextlib.asynccontextmanager
async def fetched(
    host: Host, found: Found, name: str | None, *, disk_only: bool, tell: Progress,
    later: Remote | None = None,
) -> AsyncIterator[tuple[SnapshotFolder, SnapshotRecord]]:  # fmt: skip
    """What was pulled, in a folder that is removed at the end of the block unless it gets a name.
    What is not needed at once is left for `later` (lazy.py).

    Raises:
        RemoteDamaged, SnapshotDamaged: it is not what it should be; nothing is kept.
        ResourceError: there is no room.
    """
    repository = found.repository
    record, dropped = adopted(host, found.incoming, name, disk_only)
    await repository.load_index()

    def known(path: Path) -> str:
        chunks = repository.known.chunks(path.stat())
        return chunks[0] if chunks is not None else ""

    with host.snapshots.making() as folder, full_disk():
        wanted, shared = await asyncio.to_thread(
            make_room, host, folder, found.incoming, disk_only=disk_only, known=known
        )
        stored = {each.path: each for each in found.manifest.parts if each.path in wanted}
        await _fill(found, folder, stored, shared, tell, later)
        made = await asyncio.to_thread(
            filled, folder, found.incoming, record, wanted, disk_only=disk_only
        )
        tell_dropped(host, dropped, "pushed sandbox")
        yield folder, made


async def _fill(
    found: Found, folder: SnapshotFolder, stored: dict[str, StoredPart],
    shared: dict[str, Path], tell: Progress, later: Remote | None,
) -> None:  # fmt: skip
    from sandlot.sandbox.lazy import begin_lazy
    from sandlot.state.sparse import link_or_copy

    repository = found.repository
    missing = {path: part for path, part in stored.items() if path not in shared}
    rest = [path for path in missing if later is not None and path.startswith(ON_DEMAND)]
    left = {path: missing.pop(path) for path in rest}
    total, done = max(1, sum(part.data for part in missing.values())), 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        tell("pull", min(1.0, done / total))

    receiver = Receiver(repository, told=told)
    try:
        for path, here in shared.items():
            await asyncio.to_thread(link_or_copy, here, folder.path / path)
        files: dict[Path, tuple[StoredPart, list[Entry]]] = {}
        for path, part in missing.items():
            files[folder.path / path] = (part, await receiver.entries(part))
        if later is not None and left:
            lists = {path: (part, await receiver.entries(part)) for path, part in left.items()}
            await begin_lazy(repository, found.stored, folder.path, later, lists)
        await receiver.fill(files)
        for file, (part, entries) in files.items():
            repository.known.note_chunks(file.stat(), part.contents, entries)
    finally:
        await receiver.close()


async def pull_snapshot(
    host: Host, found: Found, name: str | None, *, disk_only: bool, tell: Progress
) -> SnapshotFolder:
    """As `Snapshot.pull`."""
    async with fetched(host, found, name, disk_only=disk_only, tell=tell) as (folder, record):
        made = host.snapshots.publish(folder, record)
    found.repository.known.note_base(SNAPSHOT, record.id, found.base)
    return made


@contextlib.asynccontextmanager
async def pulled_origin(
    host: Host, found: Found, *, disk_only: bool, tell: Progress, later: Remote | None = None
) -> AsyncIterator[Origin]:
    """Where a sandbox goes on that was pulled. What is not needed for its start is left for `later`,
    if that is a remote."""
    unused = f"pulled-{secrets.token_hex(6)}"
    async with fetched(
        host, found, unused, disk_only=disk_only, tell=tell, later=later
    ) as (folder, record):  # fmt: skip
        machine = record.machine_record
        if machine is not None:
            with full_disk():
                await asyncio.to_thread(folder.memory.make_full)
        yield Origin(folder, record.sandbox_record, record.layers, machine, created=record.created)


async def pull_sandbox(
    source: str, name: str | None, remote: str | Remote | None, changes: Changes,
    hooks: Hooks | None, *, disk_only: bool, fallback: bool, lazy: bool, tell: Progress,
) -> Sandbox:  # fmt: skip
    """As `Sandbox.pull`, not started yet."""
    from sandlot.sandbox.branching import prepare_child
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.secrecy import Grants

    host = Host.current()
    if name is not None:
        check_name(name)  # before anything is fetched
    opened, place = origin(source, remote)
    async with opened.open() as repository:
        found = await look(repository, SANDBOX, place.name, place.version)
        chosen = name or found.incoming.record.sandbox
        host.sandboxes.refuse_taken(chosen)
        only = await fits(host, found, disk_only=disk_only, fallback=fallback)
        later = opened if lazy else None
        async with pulled_origin(host, found, disk_only=only, tell=tell, later=later) as begin:
            made = await prepare_child(host, begin, chosen, changes, Grants(), hooks)
        repository.known.note_base(SANDBOX, made.id, found.base)
    return made
