"""A store in a repository of an OCI registry.

Every blob is an artifact of its own, a manifest with a tag, so that no registry takes it for garbage:

    packsS0aS0a1b2c       packs/0a/0a1b2c: S is for a slash; keys have no upper case
    X5f1c…                a key that is too long for a tag, by its digest; it is in the manifest
    headsSxR              heads/x is replaced conditionally: look for its versions
    headsSxV000000007D…   a version of it, and how it was agreed on (ballots.py)

Registries have no conditional put. That of all who replace a version one succeeds rests on one
promise of theirs: who lists the tags sees all that were pushed before it asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from sandlot.errors import (
    BlobChanged,
    BlobNotFound,
    CertificateRefused,
    ConnectionFailed,
    RegistryError,
    RemoteFull,
    RemoteRefused,
    RemoteUnreachable,
)
from sandlot.image.digest import digest_of
from sandlot.image.registry.artifacts import ArtifactClient
from sandlot.image.registry.certificates import certificate_folders, make_context
from sandlot.image.registry.credentials import AuthFiles
from sandlot.image.registry.keychain import Keychain
from sandlot.image.registry.registries import Registries
from sandlot.image.registry.transport import Transport
from sandlot.remote.artifact import (
    EMPTY,
    EMPTY_KIND,
    KIND,
    Artifact,
    descriptor,
    manifest_of,
    may_begin,
    names_of,
    parse_artifact,
    retagged,
    sorted_out,
    tag_of,
    version_of,
)
from sandlot.remote.ballots import Board, agree, decided_name, is_removal, new_value
from sandlot.remote.patience import Clock
from sandlot.remote.store import Blob, BlobStore, check_blob, check_key, check_span, split_prefix

T = TypeVar("T")

KEPT = 3
"""Decided versions that stay, so that none is missed by who lists while another is decided."""
AT_ONCE = 8
LOOKS = 20
"""How often what a tag names is looked for when it is not there yet."""
_BUSY = (404, 408, 425, 429)


class OciStore(BlobStore):
    """Blobs as artifacts of one repository, which should hold nothing else.

    Registry, mirrors left out, credentials and certificates are found as for `sandlot image pull`.
    """

    def __init__(self, registry: str, repository: str, *, clock: Clock | None = None) -> None:
        self.address = f"oci://{registry}/{repository}"
        self._clock = clock or Clock()
        registries = Registries.read(os.environ, ())
        keychain = Keychain(AuthFiles.read(os.environ))

        def context(host: str) -> ssl.SSLContext:
            return make_context(registries.authorities(host), certificate_folders(os.environ, host))

        self._transport = Transport(context)
        self._client = ArtifactClient(self._transport, registries, keychain, registry, repository)
        self._has_empty = False
        self._emptying = asyncio.Lock()  # the same blob pushed twice at once confuses some

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_span(key, start, length)
        artifact = await self._find(key)
        if artifact is None:
            raise self._missing(key)
        return await self._content(artifact.content, artifact.size, start, length)

    async def go_on(self, key: str, pin: str, *, start: int, length: int | None) -> bytes:
        digest, _, size = pin.partition(" ")
        return await self._content(digest, int(size), start, length)

    async def put(self, key: str, data: bytes) -> None:
        check_blob(key, data)
        tag = tag_of(key)
        with self._telling(f"keep {key}"):
            await self._push(tag, key, data)

    async def has(self, key: str) -> bool:
        check_key(key)
        return await self._find(key) is not None

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        split_prefix(prefix)
        with self._telling(f"list {prefix or 'what is there'}"):
            plain, boards = sorted_out(await self._client.all_tags())
        looks = [partial(self._plain, tag) for tag in plain if may_begin(tag, prefix)]
        looks += [
            partial(self._version, tag, board)
            for tag, board in boards.items() if may_begin(tag, prefix)
        ]  # fmt: skip
        for start in range(0, len(looks), AT_ONCE):
            for artifact in await _all([look() for look in looks[start : start + AT_ONCE]]):
                if artifact is not None and artifact.key.startswith(prefix):
                    yield Blob(artifact.key, artifact.size, artifact.modified)

    async def delete(self, key: str) -> None:
        check_key(key)
        tag = tag_of(key)
        with self._telling(f"remove {key}"):
            artifact = await self._plain(tag)
            if artifact is not None:
                await self._remove(tag, artifact)
            if await self._client.find_manifest(f"{tag}R") is None:
                return
            while True:
                board = await self._board(tag)
                if not board.last or is_removal(board.decided[board.last]):
                    return
                own = new_value(removed=True)
                if await self._agree(key, tag, board.last + 1, own, b"") == own:
                    return

    async def read(self, key: str) -> tuple[bytes, str]:
        check_key(key)
        tag = tag_of(key)
        with self._telling(f"read {key}"):
            board = await self._board(tag)
            artifact = await self._version(tag, board)
        if artifact is None:
            raise self._missing(key)
        data = await self._content(artifact.content, artifact.size, 0, None)
        return data, version_of(board) or ""

    async def replace(self, key: str, data: bytes, expected: str | None) -> str:
        check_blob(key, data)
        tag = tag_of(key)
        with self._telling(f"replace {key}"):
            board = await self._board(tag)
            if version_of(board) != expected:
                raise self._changed(key)
            number, own = board.last + 1, new_value()
            if await self._agree(key, tag, number, own, data) != own:
                raise self._changed(key)
            await self._tidy(tag, board, number)
        return f"{number}.{own}"

    async def close(self) -> None:
        self._transport.close()

    # Section: artifacts

    async def _find(self, key: str) -> Artifact | None:
        """What a key has, whether it was put or replaced."""
        tag = tag_of(key)
        with self._telling(f"read {key}"):
            artifact = await self._plain(tag)
            if artifact is None and await self._client.find_manifest(f"{tag}R") is not None:
                artifact = await self._version(tag, await self._board(tag))
        if artifact is not None and artifact.key != key:
            raise self._strange(tag)
        return artifact

    async def _plain(self, tag: str) -> Artifact | None:
        """What a tag names, None when it is gone."""
        with self._telling(f"read the tag {tag}"):
            manifest = await self._client.find_manifest(tag)
        if manifest is None:
            return None
        artifact = parse_artifact(manifest)
        if artifact is None:
            raise self._strange(tag)
        return None if artifact.removed else artifact

    async def _push(
        self, tag: str, key: str, data: bytes | None, *, removed: bool = False
    ) -> None:  # fmt: skip
        """Tag an artifact with a blob, or with none."""
        async with self._emptying:
            if not self._has_empty:
                digest = digest_of(EMPTY)
                if not await self._client.has_blob(digest):
                    await self._client.push_blob(EMPTY, digest)
                self._has_empty = True
        layer, created = descriptor(EMPTY, EMPTY_KIND), ""
        if data is not None:
            layer, created = await self._push_blob(data)
        try:
            await self._client.push_manifest(tag, manifest_of(tag, key, layer, created, removed))
        except ConnectionFailed:
            self._has_empty = False  # it may be the one that the registry does not know
            raise

    async def _push_blob(self, data: bytes) -> tuple[dict[str, object], str]:
        """What a manifest says of it, and the registry's date."""
        layer = await asyncio.to_thread(descriptor, data, KIND)  # digests of MiB take their time
        return layer, await self._client.push_blob(data, str(layer["digest"]))

    async def _remove(self, tag: str, artifact: Artifact) -> None:
        try:
            await self._client.remove_manifest(artifact.digest)
        except RegistryError as error:
            if error.status not in (400, 405):
                raise
            # Nothing can be removed there: the tag then names nothing of use any more.
            await self._push(tag, artifact.key, None, removed=True)

    async def _content(self, digest: str, size: int, start: int, length: int | None) -> bytes:
        left = max(0, size - start)
        wanted = left if length is None else min(length, left)
        got = bytearray()
        if wanted:
            try:
                with self._telling(f"read blob {digest}"):
                    await self._client.pour_blob(digest, start, wanted, got.extend)
            except RemoteUnreachable as error:
                error.received, error.pin = bytes(got), f"{digest} {size}"
                raise
        if wanted == size and await asyncio.to_thread(digest_of, got) != digest:
            raise RemoteUnreachable(
                f"{self.address} sent another blob than {digest}", address=self.address,
                hint="try again; when that does not help, the registry or a proxy is broken",
            )  # fmt: skip
        return bytes(got)

    # Section: versions

    async def _board(self, tag: str) -> Board:
        begin = f"{tag}V"
        with self._telling(f"list the versions of {tag}"):
            tags = await self._client.all_tags()
        return Board.read(each[len(tag) :] for each in tags if each.startswith(begin))

    async def _version(self, tag: str, board: Board) -> Artifact | None:
        """The last version that is decided. Looks again when it is gone, or not there yet."""
        for attempt in range(LOOKS):
            if not board.last or is_removal(board.decided[board.last]):
                return None
            artifact = await self._value(tag, board, board.last)
            if artifact is not None:
                return artifact
            await self._pause(attempt)
            board = await self._board(tag)
        raise self._strange(f"{tag}{decided_name(board.last, board.decided[board.last])}")

    async def _value(self, tag: str, board: Board, number: int) -> Artifact | None:
        value = board.decided[number]
        names = [decided_name(number, value)]
        names += [
            f"V{number:09d}A{ballot.round:06d}{ballot.who}{value}"
            for ballot, each in board.accepted.get(number, {}).items() if each == value
        ]  # fmt: skip
        for name in names:
            if (artifact := await self._plain(tag + name)) is not None:
                return artifact
        return None

    async def _agree(self, key: str, tag: str, number: int, own: str, data: bytes) -> str | None:
        if number == 1:
            await self._push(f"{tag}R", key, None)
        layer, created = await self._push_blob(data)
        store = self

        class Tags:
            """The names on the board, as tags."""

            async def look(self) -> Board:
                self.board = await store._board(tag)
                return self.board

            async def post(self, name: str, value: str) -> None:
                if value == own:
                    manifest = manifest_of(tag + name, key, layer, created, is_removal(own))
                    await store._client.push_manifest(tag + name, manifest)
                elif value:
                    await self._repeat(name, value)
                else:
                    await store._push(tag + name, key, None)

            async def _repeat(self, name: str, value: str) -> None:
                """Somebody else's value, by the manifest that it has already."""
                for attempt in range(LOOKS):
                    for ballot, each in self.board.accepted.get(number, {}).items():
                        old = f"{tag}V{number:09d}A{ballot.round:06d}{ballot.who}{each}"
                        if each != value:
                            continue
                        found = await store._client.find_manifest(old)
                        if found is not None:
                            manifest = retagged(found, tag + name)
                            await store._client.push_manifest(tag + name, manifest)
                            return
                    await store._pause(attempt)
                raise store._strange(tag + name)

        return await agree(Tags(), number, own, self._pause)

    async def _pause(self, attempt: int) -> None:
        await self._clock.sleep(random.uniform(0.02, 0.1) * 2.0 ** min(attempt, 6))

    async def _tidy(self, tag: str, board: Board, number: int) -> None:
        """Remove versions that nobody needs any more, as they stood on the board before."""
        names = [
            name for old in {*board.promised, *board.accepted, *board.decided}
            if old <= number - KEPT for name in names_of(board, old)
        ]  # fmt: skip

        async def remove(name: str) -> None:
            with contextlib.suppress(RegistryError):
                manifest = await self._client.find_manifest(tag + name)
                if manifest is not None:
                    await self._client.remove_manifest(digest_of(manifest))

        await _all([remove(name) for name in names])

    # Section: what went wrong

    def _missing(self, key: str) -> BlobNotFound:
        return BlobNotFound(f"{self.address} has no blob {key}", address=self.address)

    def _changed(self, key: str) -> BlobChanged:
        return BlobChanged(
            f"{self.address}: {key} was replaced by somebody else", address=self.address,
            hint="look at what is there now, then try again",
        )  # fmt: skip

    def _strange(self, tag: str) -> RemoteRefused:
        return RemoteRefused(
            f"{self.address} has a tag {tag} that is not of Sandlot", address=self.address,
            hint="use a repository of its own for what is pushed",
        )  # fmt: skip

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Errors of registries as those of remotes."""
        try:
            yield
        except CertificateRefused as error:
            raise RemoteRefused(error.message, hint=error.hint, address=self.address) from error
        except RegistryError as error:
            message = f"{self.address} cannot {what}: {error.message}"
            text = error.message.lower()
            if "no space left" in text or "quota" in text or error.status == 507:
                raise RemoteFull(
                    message, address=self.address, hint="make room there, or push to another remote"
                ) from error
            passing = isinstance(error, ConnectionFailed) or error.status in _BUSY
            if (passing and not error.hint.startswith("make")) or (error.status or 0) >= 500:
                raise RemoteUnreachable(
                    message, hint=error.hint, address=self.address, retry_after=error.retry_after
                ) from error
            raise RemoteRefused(message, hint=error.hint, address=self.address) from error


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """All results; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
