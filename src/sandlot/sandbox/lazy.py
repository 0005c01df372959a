"""A sandbox that runs before all of its disk is here: the rest is fetched by who owns it.

Which files they are, where they come from and what of them is here lies in the sandbox's folder,
below `lazy`, until all is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandlot.engine.concatenation import pieces_of
from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET
from sandlot.engine.qemu.overlay import CLUSTER
from sandlot.errors import RemoteDamaged, ResourceError, SandboxError, StateError
from sandlot.sandbox.faults import described, rebuilt

if TYPE_CHECKING:
    # A sandbox that is all here pays for nothing of it.
    from sandlot.engine.base import Machine
    from sandlot.engine.serving import Reader
    from sandlot.remote.index import Entry
    from sandlot.remote.manifest import StoredPart
    from sandlot.remote.ondemand import OnDemand
    from sandlot.remote.remote import Remote
    from sandlot.remote.repository import Repository
    from sandlot.sandbox.host import Host
    from sandlot.state.records import SandboxFolder

LAZY = "lazy"


async def begin_lazy(
    repository: Repository, manifest: str, folder: Path, remote: Remote,
    files: Mapping[str, tuple[StoredPart, list[Entry]]],
) -> None:  # fmt: skip
    """Have a folder with these files, by their paths in it, of which only that is here which is
    read before a machine is started, or known to be read first.

    Args:
        manifest: the name of the version's manifest.

    Raises:
        ConfigError: no other program could open the remote.
        RemoteError: it cannot be had.
    """
    from sandlot.remote.hot import hot_chunks
    from sandlot.remote.ondemand import OnDemand
    from sandlot.remote.partial import Partial, keep_list

    record: dict[str, Any] = {"remote": remote.to_record(), "files": []}
    hot = await hot_chunks(repository, manifest)
    record["notice"] = manifest if hot is None else ""
    lazy = folder / LAZY
    lazy.mkdir(mode=0o700)
    parts = []
    for number, (path, (part, entries)) in enumerate(files.items()):
        descriptor = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.truncate(descriptor, part.size)
        finally:
            os.close(descriptor)
        keep_list(lazy, number, entries)
        record["files"].append({"path": path, "size": part.size, "contents": part.contents})
        parts.append((folder / path, Partial(part.size, entries)))
    (lazy / "lazy.json").write_text(json.dumps(record))
    source = OnDemand(repository, parts)
    try:
        heads = [n for n, path in enumerate(files) if path.startswith("disk/")]
        await asyncio.gather(*(source.read(n, DISK_OFFSET, CLUSTER) for n in heads))
        await source.bring(hot or ())
        await asyncio.to_thread(source.keep, lazy)
    finally:
        await source.close()


@dataclass(frozen=True)
class Part:
    """A file that is not whole: its path in the sandbox's folder, and the digest of it all."""

    path: str
    size: int
    contents: str


class Fetching:
    """What is still to be fetched of one sandbox, whose lock the caller holds: mostly nothing."""

    def __init__(self, host: Host, folder: SandboxFolder) -> None:
        self._host = host
        self._folder = folder
        self._files: list[Part] = []
        self._repository: Repository
        self._notice = ""  # the manifest of which nobody knows yet what is read first
        self._source: OnDemand | None = None
        self._opened = contextlib.AsyncExitStack()
        self._work: asyncio.Task[None] | None = None
        self._machine: Machine | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Be ready to fetch. Opening twice is allowed.

        Raises:
            RemoteError, KeyMissing: the remote cannot be used.
            StateError: what is known of the files cannot be read.
        """
        if self._source is not None or self.whole:
            return
        from sandlot.remote.ondemand import OnDemand
        from sandlot.remote.partial import kept
        from sandlot.remote.remote import Remote

        try:
            record = json.loads((self._folder.path / LAZY / "lazy.json").read_text())
            self._files = [Part(**each) for each in record["files"]]
            self._notice = str(record["notice"])
            remote = Remote.from_record(record["remote"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StateError(
                f"what is still to be fetched of sandbox {self._folder.path.name!r} is unknown:"
                f" {error}",
                hint=f"`sandlot rm -f {self._folder.path.name}` removes it; pull it again",
            ) from error
        async with contextlib.AsyncExitStack() as stack:
            repository = await stack.enter_async_context(remote.open())
            await repository.load_index()
            self._repository = repository
            self._source = OnDemand(
                repository,
                [
                    (self._folder.path / each.path, kept(self._folder.path / LAZY, n, each.size))
                    for n, each in enumerate(self._files)
                ],
                tell=self._host.tell,
            )  # fmt: skip
            self._opened = stack.pop_all()

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return not (self._folder.path / LAZY).exists()

    @property
    def waited(self) -> int:
        """How many reads had to wait for the remote."""
        return self._source.waited if self._source is not None else 0

    @property
    def _failed(self) -> Path:
        return self._folder.path / LAZY / "failed.json"

    def refuse_failed(self) -> None:
        """Raise what ended the fetching, if it was given up."""
        with contextlib.suppress(FileNotFoundError):
            raise rebuilt(json.loads(self._failed.read_text()))

    # -- for the machine -------------------------------------------------------------------

    @contextlib.contextmanager
    def serving(self) -> Iterator[dict[Path, int]]:
        """The files that a machine which is started in this block does not read from the disk, with
        descriptors of sockets over which it does."""
        theirs: list[socket.socket] = []
        if self._source is not None:
            from sandlot.engine.serving import serve
        served: dict[Path, int] = {}
        try:
            for path, size, read in self._readers():
                ours, other = socket.socketpair()
                ours.setblocking(False)
                theirs.append(other)
                task = asyncio.create_task(serve(ours, size, read))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
                served[path] = other.fileno()
            yield served
        finally:
            for each in theirs:
                each.close()

    def _readers(self) -> Iterator[tuple[Path, int, Reader]]:
        if self._source is None or self.whole:
            return
        numbers = {each.path: number for number, each in enumerate(self._files)}
        if any(path.startswith("image/") for path in numbers):
            device = self._folder.image
            pieces = pieces_of(device.read_text())
            yield device, DEVICE_SIZE, _Device(self._source, numbers, pieces, device.parent).read
        for path in self._folder.disk_files()[0]:
            number = numbers.get(f"disk/{path.name}")
            if number is not None:
                yield path, self._files[number].size, _reader(self._source, number)

    def begin(self, machine: Machine | None) -> None:
        """The machine is up: fetch the rest too, and then let it read from the disk."""
        if self._source is None or self.whole:
            return
        self._machine = machine
        if self._work is None or self._work.done():
            self._failed.unlink(missing_ok=True)
            self._work = asyncio.create_task(self._run(self._source))
            self._work.add_done_callback(_noticed)

    # -- the rest --------------------------------------------------------------------------

    async def completed(self) -> None:
        """Wait until all of it is here.

        Raises:
            RemoteError: it cannot be had.
        """
        if self.whole:
            return
        await self.open()
        self.begin(self._machine)
        if self._work is not None:
            await asyncio.shield(self._work)

    async def _run(self, source: OnDemand) -> None:
        try:
            try:
                await source.fill(lambda: self._folder.path / LAZY)
                await asyncio.to_thread(self._check)
            except OSError as error:
                raise ResourceError(
                    f"what is fetched cannot be written: {error.strerror or error}",
                    hint="free some (`sandlot df`, `sandlot prune`), and start it again",
                ) from error
        except SandboxError as error:
            self._host.tell(
                f"sandbox {self._folder.path.name!r}: the rest cannot be fetched: {error.message}"
            )
            with contextlib.suppress(OSError):
                self._failed.write_text(json.dumps(described(error)))
            raise
        if self._machine is not None:
            with contextlib.suppress(SandboxError):  # it has ended, or is served on as it was
                await self._machine.read_files()
            if self._notice:
                from sandlot.remote.hot import note_hot

                await note_hot(self._repository, self._notice, source.asked_first())
        lazy = self._folder.path / LAZY
        gone = lazy.with_name(f".{LAZY}")
        lazy.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _check(self) -> None:
        from sandlot.snapshot.integrity import digest_sparse, write_out

        assert self._source is not None
        paths = [self._folder.path / each.path for each in self._files]
        for number, (path, each) in enumerate(zip(paths, self._files, strict=True)):
            if digest_sparse(path) != each.contents:
                raise RemoteDamaged(f"{each.path} is not what its manifest says")
            entries = self._source.parts[number].entries
            self._repository.known.note_chunks(path.stat(), each.contents, entries)
        write_out(paths)

    def close(self) -> None:
        """Begin to end; `closed` waits for it."""
        if self._closing is None and self._source is not None:
            self._closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        work = [*self._serving, *([self._work] if self._work is not None else [])]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        if self._source is not None:
            if not self.whole:
                await asyncio.to_thread(self._source.keep, self._folder.path / LAZY)
            await self._source.close()
        await self._opened.aclose()

    async def closed(self) -> None:
        """Wait until it has ended."""
        self.close()
        if self._closing is not None:
            await asyncio.shield(self._closing)


async def complete(host: Host, folder: SandboxFolder) -> None:
    """Have all of a stopped sandbox here, whose lock the caller holds.

    Raises:
        RemoteError: it cannot be had.
    """
    fetching = Fetching(host, folder)
    if fetching.whole:
        return
    host.tell(f"sandbox {folder.path.name!r} was pulled in part: the rest of it is fetched")
    try:
        await fetching.completed()
    finally:
        await fetching.closed()


def _noticed(task: asyncio.Task[None]) -> None:
    """Its failure was told, also if nobody waits for it."""
    if not task.cancelled():
        task.exception()


def _reader(source: OnDemand, number: int) -> Reader:
    async def read(offset: int, length: int) -> bytes:
        return await source.read(number, offset, length)

    return read


class _Device:
    """The device of an image, made of pieces of files."""

    def __init__(
        self, source: OnDemand, numbers: Mapping[str, int],
        pieces: Sequence[tuple[str, int, int]], folder: Path,
    ) -> None:  # fmt: skip
        self._source = source
        self._pieces: list[tuple[int, int, int, int]] = []
        """Where each begins and ends in the device, which file, where in it."""
        self._files = []
        at = 0
        for name, offset, length in pieces:
            number = numbers.get(f"image/{name}", -1)
            self._pieces.append((at, at + length, number, offset))
            self._files.append(folder / name)
            at += length

    async def read(self, offset: int, length: int) -> bytes:
        """These bytes of the device."""
        found = []
        end = offset + length
        for place, (begin, stop, number, start) in enumerate(self._pieces):
            low, high = max(begin, offset), min(stop, end)
            if low >= high:
                continue
            at = start + low - begin
            if number >= 0:
                found.append(await self._source.read(number, at, high - low))
            else:
                found.append(await asyncio.to_thread(_read, self._files[place], at, high - low))
        return b"".join(found)


def _read(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)
