"""What lies on disk, and what of it can go: leftovers of dead programs, and caches."""

from __future__ import annotations

import contextlib
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sandlot.errors import SandboxError
from sandlot.image import ImageStore
from sandlot.image.steps import old_steps, untagged
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import dead_doors
from sandlot.snapshot.cache import drop, half_made, whole_memories
from sandlot.snapshot.store import SnapshotFolder
from sandlot.state.lock import FileLock, is_held
from sandlot.state.records import SandboxFolder
from sandlot.state.removal import remove_tree
from sandlot.volume.store import VolumeStore

KEEP_UNUSED = 14 * 24 * 3600.0  # seconds


@dataclass(frozen=True)
class Usage:
    """One kind of thing on disk: how many, the space they take, and what `prune` would give back."""

    kind: str
    count: int
    size: int
    reclaimable: int


@dataclass(frozen=True)
class Leftover:
    """Something that `prune` removes: `kind` and `name` say what, `why` why it can go."""

    kind: str
    name: str
    size: int
    why: str


@dataclass(frozen=True)
class _Item:
    leftover: Leftover
    remove: Callable[[], None]


def disk_usage() -> list[Usage]:
    """What Sandlot has on disk, by kind. Sizes are in bytes as they are allocated.

    A file that two things share is counted with the first of them.
    """
    host = Host.current()
    paths = host.paths
    going: dict[str, int] = {}
    for found in prune(everything=True, stopped=True):
        going[found.kind] = going.get(found.kind, 0) + found.size
    seen: set[tuple[int, int]] = set()
    kinds = (
        ("images", paths.images, len(host.images.list())),
        ("sandboxes", paths.sandboxes, len(host.sandboxes.all(sweep=False))),
        ("templates", paths.templates, sum(1 for p in _folders(paths.templates))),
        ("snapshots", paths.snapshots, len(host.snapshots.all(sweep=False))),
        ("volumes", paths.volumes, len(VolumeStore(paths.volumes).all(sweep=False))),
        ("kernels", paths.kernels, sum(1 for p in _folders(paths.kernels))),
        ("disks", paths.disks, len(list(paths.disks.glob("*.img")))),
        ("cache", paths.cache, len(list(paths.cache.iterdir()))),
    )
    return [
        Usage(kind, count, size(folder, seen), going.get(kind, 0)) for kind, folder, count in kinds
    ]


def prune(
    *, dry_run: bool = True, everything: bool = False, stopped: bool = False,
    volumes: bool = False,
) -> list[Leftover]:  # fmt: skip
    """Remove what dead programs have left and caches that nobody has used for two weeks.

    Args:
        dry_run: only say what would be removed.
        everything: also every template, empty disk, old kernel, step of a build and whole memory
            file of a snapshot that is not used; they are made again when they are needed. And
            every image that was built without a name.
        stopped: also all stopped sandboxes, with their disks.
        volumes: also named volumes that no sandbox has; those that were made with a sandbox that
            is gone, for a path only, are leftovers in any case.

    Returns:
        What was removed, or would be.
    """
    host = Host.current()
    items = _items(host, everything=everything, stopped=stopped, volumes=volumes)
    gone = _removed(items, dry_run)
    older = 0.0 if everything else KEEP_UNUSED
    freed = host.images.unused(older=older) if dry_run else host.images.clean(older=older)
    if freed:
        gone.append(Leftover("images", "parts of images", freed, "no image needs them"))
    return gone


def prune_volumes(*, dry_run: bool = True, named: bool = False) -> list[Leftover]:
    """Remove volumes that were made with sandboxes that are gone, for a path only.

    Args:
        dry_run: only say what would be removed.
        named: also those that were given a name, and no sandbox has.
    """
    return _removed(_volumes(Host.current(), named), dry_run)


def _removed(items: Iterator[_Item], dry_run: bool) -> list[Leftover]:
    gone = []
    for item in items:
        if not dry_run:
            try:
                item.remove()
            except (SandboxError, OSError):
                continue  # somebody uses it at this moment
        gone.append(item.leftover)
    return gone


def size(path: Path, seen: set[tuple[int, int]] | None = None, *, alone: bool = False) -> int:
    """The space that a file or a folder takes, in bytes; each file once.

    With `alone` only what its removal gives back: files that have no name elsewhere.
    """
    seen = set() if seen is None else seen
    total = 0
    stack = [path]
    linked: dict[tuple[int, int], int] = {}  # names that are elsewhere, or were not met yet
    while stack:
        one = stack.pop()
        with contextlib.suppress(OSError):
            status = one.lstat()
            file = (status.st_dev, status.st_ino)
            if alone and status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                linked[file] = linked.get(file, status.st_nlink) - 1
                if linked[file]:
                    continue
            if file in seen:
                continue
            seen.add(file)
            total += status.st_blocks * 512
            if one.is_dir() and not one.is_symlink():
                stack += one.iterdir()
            elif one == path and one.is_symlink():
                stack.append(one.resolve())
    return total


def _folders(path: Path) -> Iterator[Path]:
    return (p for p in path.iterdir() if p.is_dir())


def _items(host: Host, *, everything: bool, stopped: bool, volumes: bool) -> Iterator[_Item]:
    yield from _sandboxes(host, stopped)
    yield from _volumes(host, volumes)
    yield from _doors(host)
    yield from _templates(host, everything)
    yield from _snapshots(host, everything)
    yield from _disks(host, everything)
    yield from _kernels(host, everything)
    yield from _steps(host, everything)


def _tree(kind: str, path: Path, why: str) -> _Item:
    def remove() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return _Item(Leftover(kind, path.name, size(path, alone=True), why), remove)


def _sandboxes(host: Host, stopped: bool) -> Iterator[_Item]:
    for path in host.sandboxes.half_made():
        yield _tree("sandboxes", path, "half made or half removed by a program that died")
    for folder in host.sandboxes.all(sweep=False):
        if not stopped:
            yield from _memory_left(folder)
        elif not is_held(folder.lock_path):
            taken = size(folder.path, alone=True)
            found = Leftover("sandboxes", folder.path.name, taken, "stopped")
            yield _Item(found, partial(host.sandboxes.remove, folder))


def _memory_left(folder: SandboxFolder) -> Iterator[_Item]:
    """The memory that the machine of a killed owner began with."""
    if folder.memory.exists() and not folder.saved.exists() and not is_held(folder.lock_path):
        taken = size(folder.memory, alone=True)
        name = f"{folder.path.name}/memory"
        found = Leftover("sandboxes", name, taken, "of a machine whose program died")
        yield _locked(_Item(found, partial(shutil.rmtree, folder.memory)), folder.lock_path)


def _snapshots(host: Host, everything: bool) -> Iterator[_Item]:
    """Half made ones, and memory files that are made again; a snapshot itself is never a leftover."""
    for path in host.snapshots.half_made():
        why = "half made or half removed by a program that died"
        found = Leftover("snapshots", path.name, size(path, alone=True), why)
        yield _Item(found, partial(shutil.rmtree, path))
    for folder, path in half_made(host.snapshots):
        found = Leftover(
            "snapshots", f"{folder.path.name}/memory/{path.name}", size(path),
            "half made by a program that died",
        )  # fmt: skip
        yield _locked(_Item(found, path.unlink), folder.lock_path)
    for each in whole_memories(host.snapshots):
        old = time.time() - each.used > KEEP_UNUSED
        if not each.needed and (old or everything):
            why = "unused for two weeks" if old else "made again when needed"
            name = f"{each.folder.path.name}/memory/full"
            yield _Item(Leftover("snapshots", name, each.size, why), partial(_drop, each.folder))


def _volumes(host: Host, named: bool) -> Iterator[_Item]:
    """Half made ones, those of sandboxes that are gone, and with `named` all that nobody has."""
    store = VolumeStore(host.paths.volumes)
    for path in store.half_made():
        why = "half made or half removed by a program that died"
        yield _Item(Leftover("volumes", path.name, size(path), why), partial(remove_tree, path))
    users = store.users()
    for folder, record in store.records():
        if folder.name in users or folder.in_use() or not (named or record.anonymous):
            continue
        why = "made with a sandbox that is gone" if record.anonymous else "no sandbox has it"
        found = Leftover("volumes", folder.name, size(folder.path), why)
        yield _Item(found, partial(store.remove, folder))


def _drop(folder: SnapshotFolder) -> None:
    if not drop(folder):
        raise BlockingIOError(f"{folder.path} is used")


def _doors(host: Host) -> Iterator[_Item]:
    running = set()
    for folder in host.sandboxes.all(sweep=False):
        with contextlib.suppress(SandboxError):
            if is_held(folder.lock_path):
                running.add(folder.record().id)
    for path in dead_doors(host.paths.sockets, running):
        yield _tree("sockets", path, "its sandbox does not run")


def _templates(host: Host, everything: bool) -> Iterator[_Item]:
    for path in _folders(host.paths.templates):
        key = path.name.partition(".new")[0]
        lock = path.with_name(f"{key}.lock")
        half = ".new" in path.name
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > KEEP_UNUSED
            if is_held(lock) or not (half or old or everything):
                continue
            why = "half made by a program that died" if half else "made again when needed"
            yield _locked(_tree("templates", path, "unused for two weeks" if old else why), lock)


def _locked(item: _Item, lock: Path) -> _Item:
    def remove() -> None:
        mine = FileLock.take(lock)
        if mine is None:
            raise BlockingIOError(f"{lock} is held")
        try:
            item.remove()
        finally:
            mine.release()

    return _Item(item.leftover, remove)


def _disks(host: Host, everything: bool) -> Iterator[_Item]:
    folder = host.paths.disks
    lock = folder / "lock"
    for path in folder.iterdir():
        half = path.name.startswith((".new-", ".tree-"))
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > KEEP_UNUSED
            if path == lock or is_held(lock) or not (half or old or everything):
                continue
            why = "half made by a program that died" if half else "made again when needed"
            yield _locked(_tree("disks", path, why), lock)


def _kernels(host: Host, everything: bool) -> Iterator[_Item]:
    folder = host.paths.kernels
    lock = folder / "lock"
    current = {p.read_text().strip() for p in folder.glob("current-*")}
    for path in _folders(folder):
        half = path.name.startswith(".new-")
        if is_held(lock) or not (half or (everything and path.name not in current)):
            continue
        why = "half made by a program that died" if half else "a newer one is used"
        yield _locked(_tree("kernels", path, why), lock)
    for path in folder.glob(".current-*"):
        with contextlib.suppress(ValueError, OSError):
            if not Path(f"/proc/{int(path.name.rpartition('-')[2])}").exists():
                yield _tree("kernels", path, "half made by a program that died")


def _steps(host: Host, everything: bool) -> Iterator[_Item]:
    """Steps of builds, and images that were built without a name.

    Of the size of a step, its own layer's contents are most; an image has the layers of its steps.
    """
    store, older = host.images, 0.0 if everything else KEEP_UNUSED
    for image in untagged(store, older):
        found = Leftover("images", image.title, 0, "built without a name")
        yield _Item(found, partial(_forget, store, image.name))
    for image in old_steps(store, older):
        taken = size(store.layers.data(image.diff_ids[-1])) if image.diff_ids else 0
        found = Leftover("images", image.name, taken, "a step of a build, done again when needed")
        yield _Item(found, partial(_forget, store, image.name))


def _forget(store: ImageStore, name: str) -> None:
    store.remove(name)


def total(leftovers: list[Leftover]) -> int:
    """The space of all of them, in bytes."""
    return sum(leftover.size for leftover in leftovers)
