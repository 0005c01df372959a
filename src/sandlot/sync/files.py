"""Files without `await`; what is a stream there is an iterator here."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path as HostPath

from sandlot.files import files as origin
from sandlot.files import streams, watch
from sandlot.files.extract import Transfer
from sandlot.files.files import MAX_DOWNLOAD, MAX_FILES, MAX_READ
from sandlot.files.info import FileInfo
from sandlot.files.paths import Path
from sandlot.files.streams import Data
from sandlot.files.transfer import Progress
from sandlot.files.watch import FileEvent
from sandlot.sync.portal import drained, run


class FileReader:
    """See `sandlot.FileReader`."""

    def __init__(self, reader: streams.FileReader) -> None:
        self._reader = reader

    @property
    def info(self) -> FileInfo:
        """See `sandlot.FileReader.info`."""
        return self._reader.info

    def read(self, size: int = -1) -> bytes:
        """See `sandlot.FileReader.read`."""
        return run(self._reader.read(size))

    def close(self) -> None:
        """See `sandlot.FileReader.close`."""
        run(self._reader.close())

    def __iter__(self) -> Iterator[bytes]:
        """Pieces as they come."""
        while data := self.read(1 << 20):
            yield data

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watch:
    """See `sandlot.Watch`."""

    def __init__(self, watching: watch.Watch) -> None:
        self._watch = watching

    def next(self) -> FileEvent | None:
        """See `sandlot.Watch.next`."""
        return run(self._watch.next())

    def close(self) -> None:
        """See `sandlot.Watch.close`."""
        run(self._watch.close())

    def __iter__(self) -> Iterator[FileEvent]:
        """Changes as they happen."""
        while (event := self.next()) is not None:
            yield event

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Files:
    """See `sandlot.Files`."""

    def __init__(self, files: origin.Files) -> None:
        self._files = files

    def open(
        self, path: Path, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> FileReader:
        """See `sandlot.Files.open`."""
        return FileReader(run(self._files.open(path, offset=offset, length=length, user=user)))

    def read(
        self,
        path: Path,
        *,
        offset: int = 0,
        length: int | None = None,
        max_size: int = MAX_READ,
        user: str | None = None,
    ) -> bytes:
        """See `sandlot.Files.read`."""
        return run(
            self._files.read(path, offset=offset, length=length, max_size=max_size, user=user)
        )

    def read_text(
        self,
        path: Path,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        max_size: int = MAX_READ,
        user: str | None = None,
    ) -> str:
        """See `sandlot.Files.read_text`."""
        return run(
            self._files.read_text(
                path, encoding=encoding, errors=errors, max_size=max_size, user=user
            )
        )

    def write(
        self,
        path: Path,
        data: Data,
        *,
        mode: int | None = None,
        parents: bool = False,
        exclusive: bool = False,
        in_place: bool = False,
        encoding: str = "utf-8",
        user: str | None = None,
    ) -> None:
        """See `sandlot.Files.write`."""
        run(
            self._files.write(
                path,
                data,
                mode=mode,
                parents=parents,
                exclusive=exclusive,
                in_place=in_place,
                encoding=encoding,
                user=user,
            )
        )

    def append(
        self,
        path: Path,
        data: Data,
        *,
        mode: int | None = None,
        parents: bool = False,
        encoding: str = "utf-8",
        user: str | None = None,
    ) -> None:
        """See `sandlot.Files.append`."""
        run(
            self._files.append(path, data, mode=mode, parents=parents, encoding=encoding, user=user)
        )

    def stat(self, path: Path, *, follow: bool = True, user: str | None = None) -> FileInfo:
        """See `sandlot.Files.stat`."""
        return run(self._files.stat(path, follow=follow, user=user))

    def mkdir(
        self, path: Path, *, parents: bool = False, exist_ok: bool = False,
        mode: int | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """See `sandlot.Files.mkdir`."""
        run(self._files.mkdir(path, parents=parents, exist_ok=exist_ok, mode=mode, user=user))

    def symlink(self, target: Path, path: Path, *, user: str | None = None) -> None:
        """See `sandlot.Files.symlink`."""
        run(self._files.symlink(target, path, user=user))

    def exists(self, path: Path, *, user: str | None = None) -> bool:
        """See `sandlot.Files.exists`."""
        return run(self._files.exists(path, user=user))

    def list(self, path: Path = ".", *, user: str | None = None) -> builtins.list[FileInfo]:
        """See `sandlot.Files.list`."""
        return run(self._files.list(path, user=user))

    def walk(self, path: Path = ".", *, user: str | None = None) -> Iterator[FileInfo]:
        """See `sandlot.Files.walk`."""
        return drained(self._files.walk(path, user=user))

    def remove(
        self,
        path: Path,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        user: str | None = None,
    ) -> None:
        """See `sandlot.Files.remove`."""
        run(self._files.remove(path, recursive=recursive, missing_ok=missing_ok, user=user))

    def rename(
        self, path: Path, target: Path, *, overwrite: bool = True, user: str | None = None
    ) -> None:
        """See `sandlot.Files.rename`."""
        run(self._files.rename(path, target, overwrite=overwrite, user=user))

    def chmod(
        self, path: Path, mode: int, *, recursive: bool = False, user: str | None = None
    ) -> None:
        """See `sandlot.Files.chmod`."""
        run(self._files.chmod(path, mode, recursive=recursive, user=user))

    def chown(
        self,
        path: Path,
        owner: str,
        *,
        recursive: bool = False,
        follow: bool = True,
        user: str | None = None,
    ) -> None:
        """See `sandlot.Files.chown`."""
        run(self._files.chown(path, owner, recursive=recursive, follow=follow, user=user))

    def readlink(self, path: Path, *, user: str | None = None) -> str:
        """See `sandlot.Files.readlink`."""
        return run(self._files.readlink(path, user=user))

    def watch(self, path: Path = ".", *, recursive: bool = False, user: str | None = None) -> Watch:
        """See `sandlot.Files.watch`."""
        return Watch(run(self._files.watch(path, recursive=recursive, user=user)))

    def upload(
        self,
        source: str | HostPath,
        target: Path,
        *,
        owners: bool = False,
        progress: Progress | None = None,
        user: str | None = None,
    ) -> Transfer:
        """See `sandlot.Files.upload`."""
        return run(self._files.upload(source, target, owners=owners, progress=progress, user=user))

    def download(
        self,
        source: Path,
        target: str | HostPath,
        *,
        links: str = "inside",
        owners: bool = False,
        follow: bool = True,
        max_size: int = MAX_DOWNLOAD,
        max_files: int = MAX_FILES,
        progress: Progress | None = None,
        user: str | None = None,
    ) -> Transfer:
        """See `sandlot.Files.download`."""
        return run(
            self._files.download(
                source,
                target,
                links=links,
                owners=owners,
                follow=follow,
                max_size=max_size,
                max_files=max_files,
                progress=progress,
                user=user,
            )
        )

    def put_archive(
        self,
        target: Path,
        data: Data,
        *,
        owners: bool = False,
        parents: bool = False,
        progress: Progress | None = None,
        user: str | None = None,
    ) -> None:
        """See `sandlot.Files.put_archive`."""
        run(
            self._files.put_archive(
                target, data, owners=owners, parents=parents, progress=progress, user=user
            )
        )

    def get_archive(
        self,
        source: Path,
        *,
        name: str | None = None,
        follow: bool = False,
        user: str | None = None,
    ) -> Iterator[bytes]:
        """See `sandlot.Files.get_archive`."""
        return drained(self._files.get_archive(source, name=name, follow=follow, user=user))

    def upper_layer(self) -> Iterator[bytes]:
        """See `sandlot.Files.upper_layer`."""
        return drained(self._files.upper_layer())
