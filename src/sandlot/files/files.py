"""`Files`: the files of one sandbox, as users hold them in `sb.files`."""

from __future__ import annotations

import errno
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path as HostPath

from sandlot.errors import ConfigError, FileError, FileNotDirectory, FileNotFound
from sandlot.files import requests
from sandlot.files.extract import Limits, Transfer
from sandlot.files.info import FileInfo, from_wire
from sandlot.files.pack import Packer
from sandlot.files.paths import Path, join, shown, to_bytes, to_text
from sandlot.files.requests import ask, begin
from sandlot.files.streams import Data, FileReader, known_size, pieces
from sandlot.files.transfer import Progress, get_archive, get_tree, put_tree, send
from sandlot.files.watch import Watch
from sandlot.guest.session import GuestSession
from sandlot.wire import files as wire
from sandlot.wire.messages import Ok

MAX_READ = 4 << 30
MAX_DOWNLOAD = 64 << 30
MAX_FILES = 1_000_000
_LINKS = ("inside", "all", "none")
_U64 = (1 << 64) - 1


class Files:
    """Read and write the files of a sandbox, without any program in it.

        await sb.files.write("/tmp/a", "hello")
        print(await sb.files.read_text("/tmp/a"))
        await sb.files.upload("./src", "/app")
        await sb.files.download("/app/out", "./out")

    Paths are absolute or relative to the sandbox's workdir. `user` is `name|uid[:group|gid]`, the
    sandbox's own user when None; the sandbox's kernel checks that user's rights. Every call may
    raise the errors of `FileError`, `ConfigError` for a wrong argument or an unknown user,
    `WrongState` when the sandbox does not run, and `SandboxDied` or `GuestProtocolError` when it
    ends meanwhile.
    """

    def __init__(
        self, session: Callable[[], Awaitable[GuestSession]], *, workdir: str = "", user: str = ""
    ) -> None:
        self._session = session
        self._cwd = workdir.encode(errors="surrogateescape")
        self._user = user

    def _who(self, user: str | None) -> str:
        return self._user if user is None else user

    # -- contents ----------------------------------------------------------------------------

    async def open(
        self, path: Path, *, offset: int = 0, length: int | None = None, user: str | None = None
    ) -> FileReader:
        """Begin to read a file, from `offset` on, at most `length` bytes; for files of any size.

        Raises:
            FileNotFound, FileIsDirectory, FileForbidden
        """
        raw = to_bytes(path)
        if offset < 0 or (length is not None and length < 0):
            raise ConfigError("offset and length cannot be negative")
        session = await self._session()
        request = wire.FileRead(
            path=raw, cwd=self._cwd, user=self._who(user), offset=offset, length=length or 0
        )
        stream = begin(session, request, bulk=True)
        stream.finish()
        try:
            found = await requests.answer(session, stream, to_text(raw), (wire.FileInfo,))
        except BaseException:
            stream.reset()
            raise
        assert isinstance(found, wire.FileInfo)
        info = from_wire(found, to_text(raw))
        if length == 0:
            stream.reset()
            return FileReader(None, info)
        return FileReader(stream, info)

    async def read(
        self, path: Path, *, offset: int = 0, length: int | None = None,
        max_size: int = MAX_READ, user: str | None = None,
    ) -> bytes:  # fmt: skip
        """The bytes of a file, from `offset` on, at most `length`.

        More than `max_size` bytes are an error, since a sandbox could make a file without end.
        """
        async with await self.open(path, offset=offset, length=length, user=user) as file:
            parts, size = [], 0
            while data := await file.read(1 << 30):
                size += len(data)
                if size > max_size:
                    raise FileError(
                        f"{shown(file.info.path)} is larger than max_size={max_size} bytes",
                        path=file.info.path, number=errno.EFBIG,
                        hint="raise max_size=, or read it in pieces with open()",
                    )  # fmt: skip
                parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_text(
        self, path: Path, *, encoding: str = "utf-8", errors: str = "strict",
        max_size: int = MAX_READ, user: str | None = None,
    ) -> str:  # fmt: skip
        """The text of a file; line ends stay as they are."""
        return (await self.read(path, max_size=max_size, user=user)).decode(encoding, errors)

    async def write(
        self, path: Path, data: Data, *, mode: int | None = None, parents: bool = False,
        exclusive: bool = False, in_place: bool = False, encoding: str = "utf-8",
        user: str | None = None,
    ) -> None:  # fmt: skip
        """Write a file, whole or not at all.

        The bytes go to a temporary file in the same folder, which takes the file's place at the
        end; mode and owner of a file that was there stay. Where the user may not make files in the
        folder, or with `in_place`, the file itself is written.

        Args:
            data: bytes, text, a file object, an iterable or an asynchronous iterable of bytes.
            mode: permissions, as 0o644; those of the file that was there, or 0o644.
            parents: make missing folders.
            exclusive: fail when the file exists.

        Raises:
            FileNotFound, FileExists, FileIsDirectory, FileForbidden, FileError
        """
        flags = wire.FileWrite.PARENTS if parents else 0
        flags |= wire.FileWrite.NEW if exclusive else 0
        flags |= wire.FileWrite.IN_PLACE if in_place else 0
        await self._write(path, data, flags, mode, encoding, user)

    async def append(
        self, path: Path, data: Data, *, mode: int | None = None, parents: bool = False,
        encoding: str = "utf-8", user: str | None = None,
    ) -> None:  # fmt: skip
        """Add to the end of a file, which is made when it is missing. Arguments as in `write`."""
        flags = wire.FileWrite.APPEND | (wire.FileWrite.PARENTS if parents else 0)
        await self._write(path, data, flags, mode, encoding, user)

    async def _write(
        self, path: Path, data: Data, flags: int, mode: int | None, encoding: str,
        user: str | None, mtime_ns: int | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        raw = to_bytes(path)
        flags |= wire.FileWrite.MODE if mode is not None else 0
        flags |= wire.FileWrite.TIME if mtime_ns is not None else 0
        request = wire.FileWrite(
            path=raw, cwd=self._cwd, user=self._who(user), flags=flags,
            mode=_mode(mode) if mode is not None else 0, mtime_ns=(mtime_ns or 0) & _U64,
            size=known_size(data, encoding) or 0,
        )  # fmt: skip
        await send(await self._session(), request, to_text(raw), pieces(data, encoding), progress)

    # -- names -------------------------------------------------------------------------------

    async def stat(self, path: Path, *, follow: bool = True, user: str | None = None) -> FileInfo:
        """What a file is; a symbolic link itself with `follow=False`."""
        raw = to_bytes(path)
        request = wire.FileStat(
            path=raw, cwd=self._cwd, user=self._who(user),
            flags=0 if follow else wire.FileStat.NO_FOLLOW,
        )  # fmt: skip
        found = await ask(await self._session(), request, to_text(raw), wire.FileInfo)
        assert isinstance(found, wire.FileInfo)
        return from_wire(found, to_text(raw))

    async def exists(self, path: Path, *, user: str | None = None) -> bool:
        """Whether there is such a file or folder; a link counts as what it points to."""
        try:
            await self.stat(path, user=user)
        except (FileNotFound, FileNotDirectory):
            return False
        return True

    async def list(self, path: Path = ".", *, user: str | None = None) -> list[FileInfo]:
        """What is in a folder, by name."""
        found = [info async for info in self._entries(path, 0, user)]
        return sorted(found, key=lambda info: info.path)

    async def walk(
        self, path: Path = ".", *, user: str | None = None
    ) -> AsyncGenerator[FileInfo, None]:
        """Everything below a folder, each folder before what is in it. Links are not followed.

        Raises:
            FileForbidden: a folder cannot be read.
        """
        async for info in self._entries(path, wire.FileList.RECURSIVE, user):
            yield info

    async def _entries(
        self, path: Path, flags: int, user: str | None
    ) -> AsyncGenerator[FileInfo, None]:
        raw = to_bytes(path)
        request = wire.FileList(path=raw, cwd=self._cwd, user=self._who(user), flags=flags)
        top = to_text(raw)
        found = requests.messages(await self._session(), request, top, wire.FileInfo)
        try:
            async for each in found:
                assert isinstance(each, wire.FileInfo)
                yield from_wire(each, join(top, each.path))
        finally:
            await found.aclose()

    async def mkdir(
        self, path: Path, *, parents: bool = False, exist_ok: bool = False,
        mode: int | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """Make a folder; with `parents` also those above it, and then it may exist already."""
        flags = wire.FileMkdir.PARENTS if parents else 0
        flags |= wire.FileMkdir.EXISTS if exist_ok or parents else 0
        flags |= wire.FileMkdir.MODE if mode is not None else 0
        raw = to_bytes(path)
        request = wire.FileMkdir(
            path=raw, cwd=self._cwd, user=self._who(user), flags=flags,
            mode=_mode(mode) if mode is not None else 0,
        )  # fmt: skip
        await ask(await self._session(), request, to_text(raw), Ok)

    async def remove(
        self, path: Path, *, recursive: bool = False, missing_ok: bool = False,
        user: str | None = None,
    ) -> None:  # fmt: skip
        """Remove a file or an empty folder; with `recursive` a folder and all in it."""
        flags = wire.FileRemove.RECURSIVE if recursive else 0
        flags |= wire.FileRemove.MISSING if missing_ok else 0
        raw = to_bytes(path)
        request = wire.FileRemove(path=raw, cwd=self._cwd, user=self._who(user), flags=flags)
        await ask(await self._session(), request, to_text(raw), Ok)

    async def rename(
        self, path: Path, target: Path, *, overwrite: bool = True, user: str | None = None
    ) -> None:
        """Give a file or folder another path on the same file system; at once, or not at all."""
        raw = to_bytes(path)
        request = wire.FileRename(
            path=raw, cwd=self._cwd, user=self._who(user), target=to_bytes(target, "target"),
            flags=0 if overwrite else wire.FileRename.NO_REPLACE,
        )  # fmt: skip
        await ask(await self._session(), request, to_text(raw), Ok)

    async def chmod(
        self, path: Path, mode: int, *, recursive: bool = False, user: str | None = None
    ) -> None:
        """Set permissions, as 0o755."""
        flags = wire.FileChange.MODE
        await self._change(path, flags, recursive, user, mode=_mode(mode))

    async def chown(
        self, path: Path, owner: str, *, recursive: bool = False, follow: bool = True,
        user: str | None = None,
    ) -> None:  # fmt: skip
        """Set the owner, as `name|uid[:group|gid]` or `:group`; names are the sandbox's."""
        flags = wire.FileChange.OWNER | (0 if follow else wire.FileChange.NO_FOLLOW)
        if not owner or owner == ":":
            raise ConfigError("chown needs an owner")
        await self._change(path, flags, recursive, user, owner=owner)

    async def _change(
        self, path: Path, flags: int, recursive: bool, user: str | None, *, mode: int = 0,
        owner: str = "",
    ) -> None:  # fmt: skip
        raw = to_bytes(path)
        request = wire.FileChange(
            path=raw, cwd=self._cwd, user=self._who(user), mode=mode, owner=owner,
            flags=flags | (wire.FileChange.RECURSIVE if recursive else 0),
        )  # fmt: skip
        await ask(await self._session(), request, to_text(raw), Ok)

    async def symlink(self, target: Path, path: Path, *, user: str | None = None) -> None:
        """Make `path` a symbolic link to `target`, as os.symlink does."""
        raw = to_bytes(path)
        request = wire.FileLink(
            path=raw, cwd=self._cwd, user=self._who(user), target=to_bytes(target, "target")
        )
        await ask(await self._session(), request, to_text(raw), Ok)

    async def readlink(self, path: Path, *, user: str | None = None) -> str:
        """Where a symbolic link points.

        Raises:
            FileError: it is no link (EINVAL).
        """
        info = await self.stat(path, follow=False, user=user)
        if not info.is_symlink:
            raise requests.file_error(errno.EINVAL, "", info.path)
        if not info.target:
            raise requests.file_error(errno.EACCES, "", info.path)
        return info.target

    async def watch(
        self, path: Path = ".", *, recursive: bool = False, user: str | None = None
    ) -> Watch:
        """Watch a folder, or a file; with `recursive` all folders below, also new ones."""
        raw = to_bytes(path)
        session = await self._session()
        request = wire.FileWatch(
            path=raw, cwd=self._cwd, user=self._who(user),
            flags=wire.FileWatch.RECURSIVE if recursive else 0,
        )  # fmt: skip
        stream = begin(session, request)
        try:
            await requests.answer(session, stream, to_text(raw), (Ok,))
        except BaseException:
            stream.reset()
            raise
        return Watch(session, stream, to_text(raw))

    # -- host and sandbox --------------------------------------------------------------------

    async def upload(
        self, source: str | HostPath, target: Path, *, owners: bool = False,
        progress: Progress | None = None, user: str | None = None,
    ) -> Transfer:  # fmt: skip
        """Copy a file or folder of the host into the sandbox; modes and times are kept.

        `target` is the copy's own path; a file goes into it when it ends in a slash. Folders above
        it are made, a folder that exists is added to. Links in a folder stay links.

        Args:
            owners: keep user and group numbers; else everything belongs to `user`.
            progress: called with the bytes so far.

        Raises:
            OSError: the host's files cannot be read.
        """
        raw, host = to_bytes(target, "target"), HostPath(source)
        found = host.stat()
        if stat.S_ISDIR(found.st_mode):
            packer = Packer(str(host.resolve()), owners=owners)
            request = wire.TreePut(
                path=raw, cwd=self._cwd, user=self._who(user),
                flags=wire.TreePut.MAKE | (wire.TreePut.OWNERS if owners else 0),
            )  # fmt: skip
            return await put_tree(await self._session(), request, to_text(raw), packer, progress)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{shown(str(host))} is neither a file nor a folder")
        if raw.endswith(b"/"):
            raw += host.name.encode(errors="surrogateescape")
        with host.open("rb") as file:
            await self._write(
                raw, file, wire.FileWrite.PARENTS, stat.S_IMODE(found.st_mode), "utf-8", user,
                found.st_mtime_ns, progress,
            )  # fmt: skip
        if owners:
            await self.chown(raw, f"{found.st_uid}:{found.st_gid}", user=user)
        return Transfer(files=1, size=found.st_size)

    async def download(
        self, source: Path, target: str | HostPath, *, links: str = "inside",
        owners: bool = False, follow: bool = True, max_size: int = MAX_DOWNLOAD,
        max_files: int = MAX_FILES, progress: Progress | None = None, user: str | None = None,
    ) -> Transfer:  # fmt: skip
        """Copy a file or folder of the sandbox to the host; modes and times are kept.

        `target` is the copy's own path; a file goes into it when it is a folder. Nothing is ever
        written outside it, or through a link in it. Devices, pipes and sockets are left out, and so
        are the bits for set-user-id and the like.

        Args:
            links: symbolic links to copy: those that lead nowhere outside the copy ("inside"),
                "all", or "none". The result's `skipped` has what is left out, and why.
            owners: keep user and group numbers; needs the right to.
            follow: when `source` itself is a link, copy what it points to.
            max_size, max_files: more of a sandbox's bytes or files is an error.

        Raises:
            OSError: the host's disk refuses something.
        """
        raw, host = to_bytes(source, "source"), HostPath(target)
        if links not in _LINKS:
            raise ConfigError(f"links={links!r} is not one of {', '.join(_LINKS)}")
        session = await self._session()
        flags = wire.TreeGet.PLAIN | (wire.TreeGet.FOLLOW if follow else 0)
        request = wire.TreeGet(
            path=raw, cwd=self._cwd, user=self._who(user), name=b".", flags=flags
        )
        into = str(host)
        if str(target).endswith("/") or host.is_dir():
            info = await self.stat(raw, follow=follow, user=user)
            if not info.is_dir:
                into = str(host / info.name)
        limits = Limits(max_size=max_size, max_files=max_files, links=links, owners=owners)
        return await get_tree(session, request, to_text(raw), into, limits, progress)

    async def put_archive(
        self, target: Path, data: Data, *, owners: bool = False, parents: bool = False,
        progress: Progress | None = None, user: str | None = None,
    ) -> None:  # fmt: skip
        """Unpack a tar stream, not compressed, into a folder of the sandbox.

        Args:
            data: bytes, a file object, an iterable or an asynchronous iterable of bytes.
            owners: keep the archive's user and group numbers.
            parents: make the folder when it is missing.
            progress: called with the bytes so far.
        """
        raw = to_bytes(target, "target")
        flags = wire.TreePut.OWNERS if owners else 0
        flags |= wire.TreePut.MAKE if parents else 0
        request = wire.TreePut(path=raw, cwd=self._cwd, user=self._who(user), flags=flags)
        await send(await self._session(), request, to_text(raw), pieces(data), progress)

    async def get_archive(
        self, source: Path, *, name: str | None = None, follow: bool = False,
        user: str | None = None,
    ) -> AsyncGenerator[bytes, None]:  # fmt: skip
        """A tar stream of a file or folder, which is called `name` in it.

        The stream is the sandbox's word: unpack it with a tool that you trust, or use `download`.
        """
        raw = to_bytes(source, "source")
        inner = raw.rstrip(b"/").rpartition(b"/")[2] or b"."
        request = wire.TreeGet(
            path=raw, cwd=self._cwd, user=self._who(user),
            name=inner if name is None else to_bytes(name, "name"),
            flags=wire.TreeGet.FOLLOW if follow else 0,
        )  # fmt: skip
        archive = get_archive(await self._session(), request, to_text(raw), wire.FileInfo)
        try:
            async for data in archive:
                yield data
        finally:
            await archive.aclose()

    async def upper_layer(self) -> AsyncGenerator[bytes, None]:
        """Everything that was written over the image, as a layer of an image: a tar stream with the
        whiteouts of the OCI image specification. What the sandbox itself puts there, such as
        `/etc/hostname`, is in it."""
        archive = get_archive(await self._session(), wire.UpperLayer(), "/", Ok)
        try:
            async for data in archive:
                yield data
        finally:
            await archive.aclose()


def _mode(mode: int) -> int:
    if not 0 <= mode <= 0o7777:
        raise ConfigError(f"mode={mode} is not between 0 and 0o7777")
    return mode
