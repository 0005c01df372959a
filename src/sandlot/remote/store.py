"""The seam between what is pushed and where it is kept: a few blobs by their keys.

Pure: nothing here knows of networks or disks.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from sandlot.errors import BlobChanged, ConfigError

MAX_KEY = 200
MAX_BLOB = 64 << 20
_KEY = re.compile(r"[a-z0-9_][a-z0-9._-]*(?:/[a-z0-9_][a-z0-9._-]*)*")
_PREFIX = re.compile(r"[a-z0-9._/-]*")


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of a listing. `modified` counts seconds since the epoch, by the store's clock."""

    key: str
    size: int
    modified: float | None


class BlobStore(ABC):
    """Blobs of up to 64 MiB under keys such as `packs/0a/0a1b2c`.

    A store is opened by `async with`, serves any number of calls at once on one event loop, and is
    closed at the end. What `put` or `replace` returned from survives a crash of this machine. At
    every moment a reader finds a blob whole, the old or the new one.

    Keys are parts of `[a-z0-9_][a-z0-9._-]*` joined by `/`, at most 200 characters. No key may be
    the folder of another one. A key is either `put`, or read and `replace`d: then of all programs
    that replace the same version, one succeeds.

    Attributes:
        address: where it is, as messages name it. Holds no credentials.

    Every call may raise RemoteUnreachable (worth another try), RemoteRefused (rights,
    credentials) and RemoteFull.
    """

    address: str

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The content from byte `start` on, at most `length` bytes of it. Raises BlobNotFound."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Keep a blob, whole or not at all. Replaces what the key had."""

    @abstractmethod
    async def has(self, key: str) -> bool:
        """Whether there is such a blob."""

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        """The blobs whose keys begin with `prefix`, in no order.

        What is there from the beginning to the end of the listing is in it, once.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove a blob. No error when there is none."""

    @abstractmethod
    async def read(self, key: str) -> tuple[bytes, str]:
        """A blob with its version, for `replace`. Raises BlobNotFound."""

    @abstractmethod
    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        """Put, if the version is still `expected`; with None, if there is no such blob.

        No two writers should put the same content, for after a cut it is by its content that one
        knows whether its own was put: have something random in it.

        Returns:
            The new version.

        Raises:
            BlobChanged: it is another one by now, and nothing was put.
        """

    async def go_on(self, key: str, pin: str, *, start: int, length: int | None) -> bytes:
        """`get`, for one that was cut off after the part `pin` named which content it was.

        Raises BlobChanged when it is another one. Stores that give no `pin` have no need of it.
        """
        raise BlobChanged(
            f"{self.address} does not go on with {key}", address=self.address, hint="read it anew"
        )

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections. The store cannot be used afterwards."""


def check_key(key: str) -> str:
    """The key, if it is one. Raises ConfigError."""
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        raise ConfigError(
            f"{key[:MAX_KEY]!r} is not the key of a blob",
            hint="use parts of a-z 0-9 . _ - joined by /, at most 200 characters",
        )
    return key


def check_blob(key: str, data: bytes) -> None:
    """Raise ConfigError unless a blob may be kept under this key."""
    check_key(key)
    if len(data) > MAX_BLOB:
        raise ConfigError(f"blob {key} has {len(data)} bytes, more than {MAX_BLOB >> 20} MiB")


def check_span(key: str, start: int, length: int | None) -> None:
    """Raise ConfigError unless this part of a blob can be asked for."""
    check_key(key)
    if start < 0 or (length is not None and length < 0):
        raise ConfigError(f"blob {key} has no part at {start} of {length} bytes")


def split_prefix(prefix: str) -> str:
    """The folder of a prefix of keys, with its `/`: `packs/0` is in `packs/`. Raises ConfigError."""
    if len(prefix) > MAX_KEY or not _PREFIX.fullmatch(prefix):
        raise ConfigError(f"{prefix[:MAX_KEY]!r} is not how the key of a blob begins")
    folder = prefix[: prefix.rfind("/") + 1]
    if folder:
        check_key(folder[:-1])
    return folder
