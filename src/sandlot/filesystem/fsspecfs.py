"""`FsspecFs`: any store that fsspec knows, as a file system; `ZipFs` and `TarFs` for archives."""

from __future__ import annotations

import errno
import os
import stat as modes
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.filesystem.blocks import Blocks
from sandlot.filesystem.simple import SimpleFileSystem, fail
from sandlot.filesystem.types import Attr, DirEntry, MountPoint
from sandlot.sizes import parse_size

_ARCHIVES = ("zip", "tar", "libarchive")
_MOST_OPEN = 8
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_MOST_LISTED = 1024
_BILLION = 1_000_000_000


class FsspecFs(SimpleFileSystem):
    """A store of fsspec's: `s3://`, `gs://`, `sftp://`, `zip://`, `memory://` and many more.

    Files are read by blocks, which are cached, and written as a whole when they are closed. Stores
    of objects have no empty folders: those that are made here are there as long as this object is.
    Needs the extra `sandlot[fsspec]`, and what fsspec needs for the store.

    Args:
        url: where it is, or a file system object of fsspec's.
        root: the folder in it that is mounted, where `url` is an object.
        readonly: nothing may be changed.
        cache_size: bytes that are kept of what was read.
        listing_timeout: for how many seconds a listing is believed.
        options: for fsspec, as `key=` and `secret=`.

    Raises:
        ConfigError: fsspec is missing, or knows no such store.

    Example:
        >>> volumes = {"/s3": FsspecFs("s3://bucket/folder", anon=True)}
    """

    def __init__(
        self, url: Any, *, root: str = "", readonly: bool = False, cache_size: int | str = "64M",
        listing_timeout: float = 5.0, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(url, str | os.PathLike):
            self.store, found = _opened(os.fspath(url), options)
            root = f"{found}/{root}" if root else found
        else:
            self.store = url
        self.readonly = readonly
        self.operation_timeout = 300.0
        self._top = root.rstrip("/")
        self._blocks = Blocks(parse_size(cache_size, "cache_size"))
        self._lock = threading.Lock()
        """Around what is cached; and around an archive, which is read by one at a time."""
        protocol = getattr(self.store, "protocol", "")
        names = (protocol,) if isinstance(protocol, str) else tuple(protocol)
        self._archive = any(name in _ARCHIVES for name in names)
        self._open: dict[str, Any] = {}
        self._timeout = listing_timeout
        self._listed: dict[str, tuple[float, dict[str, Attr]]] = {}
        self._made: set[str] = set()

    # -- paths -----------------------------------------------------------------------------

    def _there(self, path: str) -> str:
        """The store's name of a path."""
        there = (self._top + path).rstrip("/")
        return there.lstrip("/") if self._archive else there or "/"

    @staticmethod
    def _folder(path: str) -> str:
        return path.rpartition("/")[0] or "/"

    def _writable(self, path: str) -> None:
        if self.readonly:
            raise fail(errno.EROFS, path)

    def _changed(self, path: str) -> None:
        with self._lock:
            self._blocks.drop(path)
            for folder in (path, self._folder(path)):
                self._listed.pop(folder, None)
        if hasattr(self.store, "invalidate_cache"):
            self.store.invalidate_cache(self._there(self._folder(path)))

    async def stop(self, mount: MountPoint) -> None:
        await super().stop(mount)
        if not self.mounts:
            with self._lock:
                for file in self._open.values():
                    file.close()
                self._open.clear()

    # -- reading ---------------------------------------------------------------------------

    def _listing(self, path: str) -> dict[str, Attr]:
        now = time.monotonic()
        with self._lock:
            kept = self._listed.get(path)
            if kept is not None and now - kept[0] < self._timeout:
                return kept[1]
        if hasattr(self.store, "invalidate_cache") and not self._archive:
            self.store.invalidate_cache(self._there(path))
        try:
            found = self.store.ls(self._there(path), detail=True)
        except FileNotFoundError:
            if path not in self._made and path != "/":
                raise
            found = []
        names = {}
        here = self._there(path).strip("/")
        for info in found:
            full = str(info["name"]).strip("/")
            name = full.rpartition("/")[2]
            if name and full != here:
                names[name] = _attr(info)
        for made in list(self._made):
            if made != "/" and self._folder(made) == path:
                names.setdefault(made.rpartition("/")[2], Attr(modes.S_IFDIR | 0o755, nlink=2))
        with self._lock:
            while len(self._listed) >= _MOST_LISTED:
                del self._listed[next(iter(self._listed))]
            self._listed[path] = now, names
        return names

    def list(self, path: str) -> list[DirEntry]:
        return [DirEntry(name, attr.mode) for name, attr in self._listing(path).items()]

    def stat(self, path: str) -> Attr:
        folder, name = self._folder(path), path.rpartition("/")[2]
        with self._lock:
            kept = self._listed.get(folder)
        if kept is not None and time.monotonic() - kept[0] < self._timeout:
            attr = kept[1].get(name)
            if attr is None:
                raise fail(errno.ENOENT, path)
        else:
            try:
                attr = _attr(self.store.info(self._there(path)))
            except FileNotFoundError:
                if path not in self._made:
                    raise
                attr = Attr(modes.S_IFDIR | 0o755, nlink=2)
        if attr.size < 0:
            attr.size = len(self.read_bytes(path))
        with self._lock:
            self._blocks.version(path, (attr.size, attr.mtime_ns))
        return Attr(attr.mode, size=attr.size, nlink=attr.nlink, mtime_ns=attr.mtime_ns,
                    ctime_ns=attr.mtime_ns, atime_ns=attr.mtime_ns, blocks=attr.blocks)  # fmt: skip

    def read_bytes(self, path: str) -> bytes:
        if self._archive:
            with self._lock:
                return bytes(self.store.cat_file(self._there(path)))
        return bytes(self.store.cat_file(self._there(path)))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        most = self.stat(path).size
        size = min(size, most - offset)
        if size <= 0:
            return b""

        def fetch(start: int, end: int) -> bytes:
            if self._archive:
                return self._read_archive(path, start, min(end, most))
            return bytes(self.store.cat_file(self._there(path), start=start, end=min(end, most)))

        if self._archive:
            with self._lock:
                return self._blocks.read(path, offset, size, fetch)
        return self._read_remote(path, offset, size, most, fetch)

    def _read_remote(self, path: str, offset: int, size: int, most: int, fetch: Any) -> bytes:
        """Not under the lock while it is fetched: others go on meanwhile."""
        block = self._blocks.block
        start, end = offset // block * block, min(-(-(offset + size) // block) * block, most)
        wanted: list[tuple[int, int]] = []

        def look(start: int, end: int) -> bytes:
            wanted.append((start, end))
            raise LookupError

        with self._lock:
            try:
                return self._blocks.read(path, offset, size, look)
            except LookupError:
                start, end = wanted[0]
        data = fetch(start, end)

        def given(first: int, last: int) -> bytes:
            if first < start or last > end:  # some of the others went meanwhile
                return bytes(fetch(first, last))
            return bytes(data[first - start : last - start])

        with self._lock:
            return self._blocks.read(path, offset, size, given)

    def _read_archive(self, path: str, start: int, end: int) -> bytes:
        """By an open file: to get to a place in what is packed takes reading all before it."""
        file = self._open.pop(path, None)
        if file is None:
            file = self.store.open(self._there(path), "rb")
        self._open[path] = file
        while len(self._open) > _MOST_OPEN:
            self._open.pop(next(iter(self._open))).close()
        file.seek(start)
        return bytes(file.read(end - start))

    # -- changing --------------------------------------------------------------------------

    def write_bytes(self, path: str, data: bytes) -> None:
        self._writable(path)
        self.store.pipe_file(self._there(path), data)
        self._changed(path)

    def remove(self, path: str) -> None:
        self._writable(path)
        folder = path in self._made or self.store.isdir(self._there(path))
        if folder:
            self._made.discard(path)
            try:
                self.store.rmdir(self._there(path))
            except FileNotFoundError:
                pass  # it was one of those that the store does not have
        else:
            self.store.rm_file(self._there(path))
            if (folder_of := self._folder(path)) != "/":
                self._made.add(folder_of)  # it stays, also where the last object went
        self._changed(path)

    def make_folder(self, path: str) -> None:
        self._writable(path)
        self._made.add(path)
        try:
            self.store.mkdir(self._there(path), create_parents=False)
        except (NotImplementedError, FileNotFoundError, FileExistsError):
            pass  # a store of objects has no folders: it is one as long as we say so
        self._changed(path)

    def move(self, path: str, new: str) -> None:
        self._writable(path)
        if path in self._made or self.store.isdir(self._there(path)):
            inside = {made for made in self._made if made == path or made.startswith(path + "/")}
            if self.store.exists(self._there(path)):
                self.store.mv(self._there(path), self._there(new), recursive=True)
            self._made -= inside
            self._made |= {new, *(new + made[len(path) :] for made in inside)}
            with self._lock:
                self._listed.clear()
        else:
            self.store.mv(self._there(path), self._there(new))
        self._changed(path)
        self._changed(new)


class ZipFs(FsspecFs):
    """A zip archive, to be read.

    Args:
        path: the archive.

    Example:
        >>> volumes = {"/data": ZipFs("data.zip")}
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        _check(path)
        super().__init__(_archive("zip", path), readonly=True, **options)


class TarFs(FsspecFs):
    """A tar archive, also a packed one, to be read.

    Args:
        path: the archive.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        _check(path)
        super().__init__(_archive("tar", path), readonly=True, **options)


def _check(path: str | os.PathLike[str]) -> None:
    if "://" not in os.fspath(path) and not Path(path).is_file():
        raise ConfigError(f"there is no archive {os.fspath(path)}")


def _packed(path: str | os.PathLike[str]) -> str | None:
    """How a local archive is packed, by its first bytes; fsspec goes by its name."""
    if "://" in os.fspath(path):
        return None
    with Path(path).open("rb") as file:
        head = file.read(6)
    return next((how for magic, how in _PACKED.items() if head.startswith(magic)), None)


def _archive(kind: str, path: str | os.PathLike[str]) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise _missing() from error
    options = {"compression": how} if kind == "tar" and (how := _packed(path)) else {}
    return fsspec.filesystem(kind, fo=os.fspath(path), skip_instance_cache=True, **options)


def _missing() -> ConfigError:
    return ConfigError("FsspecFs needs the package fsspec", hint="pip install 'sandlot[fsspec]'")


def _opened(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise _missing() from error
    try:
        store, path = url_to_fs(url, **options)
    except ImportError as error:
        raise ConfigError(
            f"fsspec needs another package for {url.partition('://')[0]}://: {error}",
            hint="install what it names",
        ) from error
    except ValueError as error:
        raise ConfigError(f"fsspec knows no such store: {error}") from error
    return store, str(path)


def _attr(info: dict[str, Any]) -> Attr:
    folder = info.get("type") == "directory"
    mode = info.get("mode")
    size = info.get("size")
    known = isinstance(mode, int) and mode & 0o777
    mode = mode & 0o777 if known and isinstance(mode, int) else 0o755 if folder else 0o644
    when = _moment(info)
    if folder:
        return Attr(modes.S_IFDIR | mode, nlink=2, mtime_ns=when)
    size = -1 if size is None else int(size)
    return Attr(modes.S_IFREG | mode, size=size, mtime_ns=when, blocks=(max(size, 0) + 511) // 512)


def _moment(info: dict[str, Any]) -> int:
    for name in ("mtime", "LastModified", "last_modified", "updated", "date_time", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return int(value.timestamp() * _BILLION)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value * _BILLION)
        if isinstance(value, tuple) and len(value) == 6:
            return int(datetime(*value).timestamp() * _BILLION)
    return 0
