"""Snapshots into files and out of them, from and for other machines.

What a sandbox was given by its host stays there, and a file opens nothing of the host that it comes
to (foreign.py). The work is done in a thread, which ends when the call is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import io
import os
import secrets
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from sandlot.engine.concatenation import pieces_of
from sandlot.errors import (
    ConfigError,
    ResourceError,
    SandboxError,
    SnapshotDamaged,
    SnapshotError,
    SnapshotNotFound,
    StateError,
)
from sandlot.sandbox.foreign import checked_source, without_host
from sandlot.sandbox.saving import checked_name, checked_tags, full_disk
from sandlot.snapshot.exporting import LEVELS, ArchiveWriter
from sandlot.snapshot.importing import ArchiveReader
from sandlot.snapshot.incoming import (
    DESCRIPTION,
    Incoming,
    check_files,
    incoming,
    write_description,
)
from sandlot.snapshot.integrity import digest_sparse, write_out
from sandlot.snapshot.layout import Part, make_config
from sandlot.snapshot.record import SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder
from sandlot.state.target import target_faults

if TYPE_CHECKING:
    from sandlot.sandbox.host import Host

Progress = Callable[[str, float | None], object]
Target = str | os.PathLike[str] | BinaryIO
T = TypeVar("T")
SPARE = 64 << 20  # bytes that are left on the host's disk


class _GivenUp(Exception):
    pass


class _Work:
    """Work in threads that calls `check` now and then, which ends it when the caller is cancelled."""

    def __init__(self) -> None:
        self._given_up = threading.Event()

    def check(self) -> None:
        """Go on, or not."""
        if self._given_up.is_set():
            raise _GivenUp

    async def run(self, work: Callable[[], T]) -> T:
        """Wait for it; also when this is cancelled."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._given_up.set()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()
            raise


# Section: out


async def export_snapshot(
    host: Host, folder: SnapshotFolder, target: Target, *, level: int, force: bool,
    progress: Progress | None,
) -> None:  # fmt: skip
    """As `Snapshot.export`."""
    if isinstance(level, bool) or level not in LEVELS:
        raise ConfigError(
            f"level {level!r} is out of range",
            hint=f"use a whole number from {LEVELS.start} to {LEVELS.stop - 1}",
        )
    tell = progress or (lambda stage, fraction: None)
    thread = _Work()

    def whole(descriptor: int, path: Path) -> None:
        with target_faults(path), _new_file(path, force) as file:
            _export(descriptor, folder, file, level, tell, thread.check)

    def streamed(descriptor: int, stream: BinaryIO) -> None:
        # A stream cannot be written in two rounds.
        with full_disk(), tempfile.TemporaryFile(dir=host.paths.snapshots) as file:
            _export(descriptor, folder, cast("BinaryIO", file), level, tell, thread.check)
            file.seek(0)
            while data := file.read(1 << 20):
                thread.check()
                _write_all(stream, data)
            stream.flush()

    def work() -> None:
        with _source(folder) as descriptor:
            if not isinstance(target, str | os.PathLike):
                streamed(descriptor, target)
            elif (path := Path(target)).exists() and not (path.is_file() or path.is_dir()):
                with target_faults(path), path.open("wb") as stream:  # a pipe, a device
                    streamed(descriptor, stream)
            else:
                whole(descriptor, path)

    await thread.run(work)


@contextlib.contextmanager
def _source(folder: SnapshotFolder) -> Iterator[int]:
    """The folder of a snapshot, open: whoever renames it meanwhile does not disturb."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SnapshotNotFound(f"no snapshot is named {folder.path.name!r}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _export(
    descriptor: int, folder: SnapshotFolder, file: BinaryIO, level: int, tell: Progress,
    check: Callable[[], None],
) -> None:  # fmt: skip
    record = folder.record()
    try:
        pieces = pieces_of((folder.image / DESCRIPTION).read_text())
    except FileNotFoundError:
        raise SnapshotNotFound(f"snapshot {record.name!r} was removed at this moment") from None
    except ValueError as error:
        raise SnapshotDamaged(f"the image of snapshot {record.name!r}: {error}") from None
    # The parts that many snapshots share come first, so that a look at the beginning tells them.
    paths = [f"image/{name}" for name in dict.fromkeys(name for name, _, _ in pieces)]
    paths += [path for path in folder.files() if path.startswith("memory/")]
    paths += [path for path in folder.files() if not path.startswith("memory/")]
    outgoing = {**record.to_json(), "source": without_host(record.source), "digests": {}}
    writer = ArchiveWriter(
        file, record.name, make_config(outgoing, pieces), level=level, tell=tell, check=check
    )
    writer.write(descriptor, paths, record.digests)


@contextlib.contextmanager
def _new_file(target: Path, force: bool) -> Iterator[BinaryIO]:
    """A file that gets its name when it is whole and on the disk; killed, nothing is left."""
    if target.is_dir():
        raise ConfigError(f"{target} is a folder", hint="name a file in it")
    _refuse_there(target, force)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    named = False
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        descriptor, named = os.open(part, flags | os.O_CREAT | os.O_EXCL, 0o600), True
    try:
        with os.fdopen(descriptor, "w+b", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            if not named:
                # Without a folder's descriptor, Python's link() follows no links.
                opened = f"/proc/self/fd/{descriptor}"
                os.link(opened, part, src_dir_fd=descriptor, follow_symlinks=True)
                named = True
        _refuse_there(target, force)
        part.rename(target)
        named = False
    finally:
        if named:
            part.unlink(missing_ok=True)


def _refuse_there(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise ConfigError(
            f"{target} is there already",
            hint="name another file, or replace it with force=True (--force)",
        )


def _write_all(stream: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


# Section: in


async def import_snapshot(
    host: Host, source: Target, name: str | None, *, disk_only: bool, progress: Progress | None
) -> SnapshotFolder:
    """As `Snapshot.import_`."""
    store = host.snapshots
    if name is not None:
        checked_name(store, name)  # before anything is read
    tell = progress or (lambda stage, fraction: None)
    thread = _Work()
    with _opened(source) as stream:
        reader = ArchiveReader(cast("BinaryIO", stream), tell=tell, check=thread.check)
        stream.check = thread.check

        def begin() -> Incoming:
            reader.open()
            return incoming(reader.config, reader.manifest)

        found = await thread.run(begin)
        record, dropped = adopted(host, found, name, disk_only)
        if found.machine is not None and not disk_only:
            found.machine.check((await host.engine()).facts)
        with store.making() as folder, full_disk():
            filled = await thread.run(lambda: _fill(host, reader, folder, found, record, disk_only))
            made = store.publish(folder, filled)
    tell_dropped(host, dropped, "file")
    return made


def tell_dropped(host: Host, dropped: list[str], source: str) -> None:
    """Tell which rules of a policy from elsewhere do not hold here."""
    for rule in dropped:
        host.tell(
            f"the policy in the {source} opens {rule}, which is not the public internet: left out"
            " (give a policy of yours when you restore)"
        )


def adopted(
    host: Host, found: Incoming, name: str | None, disk_only: bool
) -> tuple[SnapshotRecord, list[str]]:
    """The record that a snapshot from elsewhere will have here, and the rules that were left out of
    its policy."""
    record, machine = found.record, found.machine
    source, dropped = checked_source(record.source)
    if machine is not None and (machine.memory, machine.cpus) != (source.memory, source.cpus):
        raise SnapshotDamaged("the records of sandbox and machine differ")
    try:
        chosen = checked_name(host.snapshots, name if name is not None else record.name)
        tags = checked_tags(record.tags)
    except ConfigError as error:
        if name is not None:
            raise
        raise SnapshotDamaged(
            f"the snapshot's record says what cannot be: {error.message}"
        ) from None
    parent = ""
    for folder in host.snapshots.all():
        with contextlib.suppress(SnapshotError):
            here = folder.record()
            if record.parent and record.parent in (here.id, here.origin):
                parent = here.id
    made = SnapshotRecord(
        id=secrets.token_hex(6), name=chosen, created=min(max(record.created, 1.0), time.time()),
        sandbox=source.name, source=dataclasses.asdict(source), layers=record.layers,
        machine=None if disk_only else record.machine, parent=parent, tags=tags,
        own_memory=0 if disk_only else max(0, record.own_memory), own_disk=max(0, record.own_disk),
        pause=max(0.0, record.pause), origin=record.origin or record.id,
    )  # fmt: skip
    return made, dropped


def _fill(
    host: Host, reader: ArchiveReader, folder: SnapshotFolder, found: Incoming,
    record: SnapshotRecord, disk_only: bool,
) -> SnapshotRecord:  # fmt: skip
    """Unpack into the folder of a snapshot that is being made."""
    wanted, shared = make_room(host, folder, found, disk_only=disk_only)
    reader.unpack(folder.path, wanted, shared)
    return filled(folder, found, record, wanted, disk_only=disk_only)


def make_room(
    host: Host, folder: SnapshotFolder, found: Incoming, *, disk_only: bool,
    known: Callable[[Path], str] = lambda path: "",
) -> tuple[dict[str, Part], dict[str, Path]]:  # fmt: skip
    """Prepare a folder for the files of a snapshot from elsewhere: those that it needs, and the ones
    that are here already. `known` says what it knows of the contents of a file here.

    Raises:
        ResourceError: there is no room.
    """
    wanted = found.wanted(disk_only=disk_only)
    shared = _here(host, wanted, known)
    need = sum(part.data for path, part in wanted.items() if path not in shared)
    free = shutil.disk_usage(folder.path).free
    if need + SPARE > free:
        raise ResourceError(
            f"not enough disk: the snapshot needs {need >> 20}M, {free >> 20}M are left",
            hint="free some (`sandlot df`, `sandlot prune`), or set SANDLOT_DATA to another disk",
        )
    memory = found.machine is not None and not disk_only
    for each in ("disk", "image", *(("memory",) if memory else ())):
        (folder.path / each).mkdir(mode=0o700)
    return wanted, shared


def filled(
    folder: SnapshotFolder, found: Incoming, record: SnapshotRecord, wanted: dict[str, Part], *,
    disk_only: bool,
) -> SnapshotRecord:  # fmt: skip
    """Look into the files that were put into a folder, and write them out; the record with their
    digests is returned.

    Raises:
        SnapshotDamaged: one is not what it has to be.
    """
    check_files(folder.path, found, disk_only=disk_only)
    write_description(folder.path, found)
    write_out([*(folder.path / path for path in wanted), folder.image / DESCRIPTION])
    digests = {p: part.contents for p, part in wanted.items() if not p.startswith("image/")}
    record = dataclasses.replace(record, digests=digests)
    folder.note_verified(record)
    return record


def _here(host: Host, wanted: dict[str, Part], contents: Callable[[Path], str]) -> dict[str, Path]:
    """Files that are on this machine already, by the paths that they will have. They are read:
    what is linked is what was asked for."""
    known: dict[tuple[str, str], Path] = {}
    images: dict[str, list[Path]] = {}
    for snapshot in host.snapshots.all():
        with contextlib.suppress(SnapshotError, OSError):
            for path, digest in snapshot.record().digests.items():
                known[Path(path).parts[0], digest] = snapshot.path / path
            for file in snapshot.image.iterdir():
                images.setdefault(file.name, []).append(file)
    for sandbox in host.sandboxes.all(sweep=False):
        with contextlib.suppress(OSError):
            for file in sandbox.image.parent.iterdir():
                images.setdefault(file.name, []).append(file)
            for file in (sandbox.path / "disk").iterdir():
                if digest := contents(file):
                    known.setdefault(("disk", digest), file)
    for image in host.images.list(steps=True):
        with contextlib.suppress(SandboxError, OSError):
            for file, _, _ in host.images.device(image):
                images.setdefault(file.name, []).append(file)
    found = {}
    for path, part in wanted.items():
        kind, _, name = path.partition("/")
        candidate = known.get((kind, part.contents))
        candidates = [candidate] if candidate is not None else []
        if kind == "image":
            candidates = images.get(name, [])
        for each in _different(candidates):
            with contextlib.suppress(OSError):
                if each.stat().st_size == part.size and part.contents == (
                    contents(each) or digest_sparse(each)
                ):
                    found[path] = each
                    break
    return found


def _different(paths: list[Path]) -> Iterator[Path]:
    """Paths of different files: many are links to one."""
    seen = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield path


class _Stream:
    """A stream that gives as many bytes as were asked for, and can be given up while it waits."""

    def __init__(self, stream: BinaryIO, title: str) -> None:
        self._stream = stream
        self._title = title
        self.check: Callable[[], None] = lambda: None
        self._polled = isinstance(stream, io.RawIOBase) and not stream.seekable()

    def seekable(self) -> bool:
        return self._stream.seekable()

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self._stream.seek(position, whence)

    def read(self, size: int, /) -> bytes:
        pieces = []
        while size:
            self.check()
            if self._polled and not select.select([self._stream], [], [], 0.2)[0]:
                continue
            try:
                data = self._stream.read(size)
            except OSError as error:
                raise _unreadable(self._title, error) from error
            if not data:
                break
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)


@contextlib.contextmanager
def _opened(source: Target) -> Iterator[_Stream]:
    if not isinstance(source, str | os.PathLike):
        yield _Stream(source, "the stream")
        return
    try:
        file = Path(source).open("rb")
    except OSError as error:
        raise _unreadable(os.fspath(source), error) from error
    with file:
        yield _Stream(file, os.fspath(source))


def _unreadable(title: str, error: OSError) -> StateError:
    return StateError(f"{title} cannot be read: {error.strerror or error}")
