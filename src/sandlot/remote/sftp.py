"""A store in a folder behind SSH, by `asyncssh` and SFTP.

Hosts, users, keys, agents and jumps are found as `ssh` finds them: `~/.ssh/config`, known_hosts,
SSH_AUTH_SOCK, `~/.ssh/id_*`. A host whose key is not known is refused.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from sandlot.errors import ConfigError, RemoteError, RemoteRefused, RemoteUnreachable
from sandlot.remote.tree import Disk, Entry, TreeStore

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")

CONNECT_SECONDS = 15
LOGIN_SECONDS = 30
ALIVE_SECONDS = 15
"""How often a silent server is asked for a sign of life; four times in vain, and it is gone."""


class SftpStore(TreeStore):
    """Blobs as files below a folder of another machine.

    The server must do `posix-rename`, and either hard links or renames that replace nothing, as
    OpenSSH does. It syncs files when asked to; when folders reach its disk is its own affair.

    Args:
        host: a name or address, or a `Host` of `~/.ssh/config`.
        path: the folder; `~/…`, or one without a `/` at its beginning, is below the user's home.
        user: None: what the configuration says, else this user's name.
        port: None: what the configuration says, else 22.

    Raises:
        ConfigError: the extra `ssh` is not installed.
    """

    def __init__(
        self, host: str, path: str, *, user: str | None = None, port: int | None = None
    ) -> None:  # fmt: skip
        try:
            import asyncssh  # noqa: F401, whether it is there
        except ImportError as error:
            raise ConfigError(
                "ssh:// needs the package asyncssh", hint="pip install 'sandlot[ssh]'"
            ) from error
        shown = f"[{host}]" if ":" in host else host
        who, where = f"{user}@" if user else "", f":{port}" if port else ""
        address = f"ssh://{who}{shown}{where}/{path.lstrip('/')}"
        super().__init__(SftpDisk(host, path, user, port, address), address)


class SftpDisk(Disk):
    """The files of a folder, by one connection that is made when it is needed, and again."""

    def __init__(
        self, host: str, path: str, user: str | None, port: int | None, address: str
    ) -> None:
        self._host = host
        self._user = user
        self._port = port
        self._address = address
        self._root = path.removeprefix("~/").rstrip("/") or ("/" if path.startswith("/") else ".")
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        async def begin(client: asyncssh.SFTPClient) -> None:
            await _have_folder(client, self._root, _attributes(0o700))

        await self._do(begin)

    async def read(self, path: str, start: int, length: int | None) -> bytes:
        async def read(client: asyncssh.SFTPClient) -> bytes:
            async with client.open(self._at(path), "rb") as file:
                info = await file.stat()
                if info.permissions is not None and stat.S_ISDIR(info.permissions):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
                left = max(0, (info.size or 0) - start)
                wanted = left if length is None else min(length, left)
                data = await file.read(wanted, start) if wanted else b""
                assert isinstance(data, bytes)
            if len(data) != wanted:
                raise ConnectionResetError(errno.ECONNRESET, f"{path} came cut off")
            return data

        return await self._do(read)

    async def write(self, path: str, data: bytes) -> None:
        import asyncssh

        async def write(client: asyncssh.SFTPClient) -> None:
            try:
                async with client.open(self._at(path), "xb") as file:
                    await file.write(data)
                    try:
                        await file.fsync()
                    except asyncssh.SFTPOpUnsupported:
                        pass
            except asyncssh.SFTPFailure as error:
                await self._explain_write(client, path, data, error)
                raise

        await self._do(write)

    async def _explain_write(
        self, client: asyncssh.SFTPClient, path: str, data: bytes, error: Exception
    ) -> None:
        """The protocol has one code for all that fails; raise what it was, as far as one can tell."""
        import asyncssh

        try:
            room = await client.statvfs(self._root)
        except asyncssh.SFTPError:
            return
        written = await self._size(client, path)
        if room.bavail * room.frsize <= len(data) - written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error

    async def _size(self, client: asyncssh.SFTPClient, path: str) -> int:
        import asyncssh

        try:
            return (await client.stat(self._at(path))).size or 0
        except asyncssh.SFTPError:
            return 0

    async def link(self, source: str, target: str) -> None:
        import asyncssh

        async def link(client: asyncssh.SFTPClient) -> None:
            try:
                try:
                    await client.link(self._at(source), self._at(target))
                except asyncssh.SFTPOpUnsupported:
                    # The rename of the protocol replaces nothing, unlike posix_rename.
                    await client.rename(self._at(source), self._at(target))
            except asyncssh.SFTPFailure:
                if await client.lexists(self._at(target)):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
                raise

        await self._do(link)

    async def rename(self, source: str, target: str) -> None:
        await self._do(lambda client: client.posix_rename(self._at(source), self._at(target)))

    async def remove(self, path: str) -> None:
        await self._do(lambda client: client.remove(self._at(path)))

    async def make(self, path: str) -> None:
        async def make(client: asyncssh.SFTPClient) -> None:
            parts = path.split("/")
            for end in range(1, len(parts) + 1):
                await _have_folder(client, self._at("/".join(parts[:end])), _attributes(0o777))

        await self._do(make)

    async def info(self, path: str) -> Entry | None:
        async def info(client: asyncssh.SFTPClient) -> Entry | None:
            try:
                return _entry(path, await client.stat(self._at(path)))
            except _missing():
                return None

        return await self._do(info)

    async def entries(self, path: str) -> list[Entry]:
        async def entries(client: asyncssh.SFTPClient) -> list[Entry]:
            found = []
            async for each in client.scandir(self._at(path)):
                entry = _entry(_text(each.filename), each.attrs)
                if entry is not None and entry.name not in (".", ".."):
                    found.append(entry)
            return found

        return await self._do(entries)

    async def close(self) -> None:
        async with self._lock:
            client, connection = self._client, self._connection
            self._client = self._connection = None
        if client is not None:
            client.exit()
        if connection is not None:
            connection.close()
            await connection.wait_closed()

    # Section: the connection

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root

    async def _do(self, call: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        """A call on the connection; its failures as the system's."""
        import asyncssh

        client = await self._connected()
        try:
            return await call(client)
        except _missing() as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        except asyncssh.SFTPPermissionDenied as error:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from error
        except _lost() as error:
            if self._client is client:
                self._client = None  # the next call connects anew
                if self._connection is not None:
                    self._connection.abort()
            raise ConnectionResetError(errno.ECONNRESET, "the connection broke off") from error
        except asyncssh.SFTPError as error:
            raise OSError(
                0, error.reason or "the server says no more than that it failed"
            ) from error

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._lock:
            if self._client is None:
                self._connection, self._client = await self._connect()
            return self._client

    async def _connect(self) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
        import asyncssh

        more: dict[str, object] = {}
        if self._user is not None:
            more["username"] = self._user
        if self._port is not None:
            more["port"] = self._port
        try:
            connection = await asyncssh.connect(
                self._host, connect_timeout=CONNECT_SECONDS, login_timeout=LOGIN_SECONDS,
                keepalive_interval=ALIVE_SECONDS, keepalive_count_max=4, **more,
            )  # fmt: skip
        except asyncssh.HostKeyNotVerifiable as error:
            raise self._refused(
                f"the key of {self._host} is not in known_hosts, or is another one",
                f"check it by connecting once with `ssh {self._host}`",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise self._refused(
                f"{self._host} lets nobody in with your keys",
                f"see that `ssh -o BatchMode=yes {self._host}` works",
            ) from error
        except (asyncssh.ConfigParseError, asyncssh.KeyImportError) as error:
            raise self._refused(str(error), "mend ~/.ssh/config, or the key") from error
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise self._unreachable(error) from error
        try:
            return connection, await connection.start_sftp_client()
        except (OSError, asyncssh.Error) as error:
            connection.abort()
            # Where the connection broke off it is an error of channels too, of another code.
            lacks = (
                asyncssh.OPEN_REQUEST_SESSION_FAILED,
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
            )
            if isinstance(error, asyncssh.ChannelOpenError) and error.code in lacks:
                raise self._refused(
                    "the server has no SFTP", "enable it in its sshd_config"
                ) from error
            raise self._unreachable(error) from error

    def _refused(self, reason: str, hint: str) -> RemoteError:
        return RemoteRefused(
            f"{self._address} cannot be used: {reason}", hint=hint, address=self._address
        )

    def _unreachable(self, error: Exception) -> RemoteError:
        reason = getattr(error, "strerror", "") or getattr(error, "reason", "") or str(error)
        return RemoteUnreachable(
            f"{self._address} cannot be reached: {reason or 'no answer in time'}",
            hint="check the address and the network, then try again", address=self._address,
        )  # fmt: skip


def _missing() -> tuple[type[Exception], ...]:
    import asyncssh

    return (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)


def _lost() -> tuple[type[Exception], ...]:
    import asyncssh

    return (
        asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.SFTPBadMessage,
        asyncssh.DisconnectError, asyncssh.ChannelOpenError, ConnectionError, TimeoutError,
    )  # fmt: skip


async def _have_folder(
    client: asyncssh.SFTPClient, path: str, attributes: asyncssh.SFTPAttrs
) -> None:
    """Make a folder unless it is there, or somebody makes it meanwhile."""
    import asyncssh

    if await client.isdir(path):
        return
    try:
        await client.mkdir(path, attributes)
    except asyncssh.SFTPFailure:
        if not await client.isdir(path):
            raise


def _attributes(mode: int) -> asyncssh.SFTPAttrs:
    import asyncssh

    return asyncssh.SFTPAttrs(permissions=mode)


def _entry(name: str, info: asyncssh.SFTPAttrs) -> Entry | None:
    mode = info.permissions or 0
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        return None
    return Entry(name, stat.S_ISDIR(mode), info.size or 0, float(info.mtime or 0))


def _text(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")
