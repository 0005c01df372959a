"""One push: a new version of something. And which version to pull."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import BlobNotFound, ConfigError, RemoteConflict, RemoteNotFound
from sandlot.remote.known import Base
from sandlot.remote.leases import pushing
from sandlot.remote.manifest import Head, Manifest, StoredPart, Version
from sandlot.remote.repository import Repository
from sandlot.remote.sealing import LEVEL
from sandlot.remote.sending import Sender

KEEP = 10
"""Versions that are kept of a name unless it is said otherwise."""
MOST_KEPT = 1000
TRIES = 20
Progress = Callable[[str, float | None], object]


@dataclass(frozen=True)
class File:
    """A file to push, as the part `name`. `contents` is the digest of its contents, where it is
    known; a `frozen` file is never written to again."""

    name: str
    path: Path
    contents: str = ""
    frozen: bool = True


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did. Sizes in bytes: `size` is what there is to pull, `added` what was not there
    before, compressed, and `moved` all that was sent."""

    name: str
    kind: str
    version: int
    remote: str
    size: int
    added: int
    moved: int
    seconds: float


class Push:
    """A push that has begun: nobody collects garbage, and nobody else had pushed before."""

    def __init__(
        self, repository: Repository, head: Head, tag: str | None, id: str, keep: int, force: bool,
        level: int, tell: Progress, named: Callable[[], Any],
    ) -> None:  # fmt: skip
        self._repository = repository
        self._head = head
        self._tag = tag
        self._id = id
        self._keep = keep
        self._force = force
        self._level = level
        self._tell = tell
        self._may_name = named
        self._began = time.monotonic()

    async def send(self, config: Mapping[str, Any], files: Sequence[File]) -> Pushed:
        """Send what it is, and name it.

        Raises:
            RemoteConflict: somebody else pushed meanwhile.
            RemoteError: it could not be sent; the version before stands.
        """
        total = max(1, sum(_taken(file.path) for file in files))
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self._tell("push", min(0.99, done / total))

        sender = Sender(self._repository, level=self._level, told=told)
        try:
            await sender.adopt()
            parts = [
                await sender.file(f.name, f.path, contents=f.contents, frozen=f.frozen)
                for f in files
            ]
            await sender.finish()
        finally:
            await sender.abandon()
        version = await self._name(dict(config), tuple(parts), sender.added)
        self._tell("push", 1.0)
        return Pushed(
            name=self._head.name, kind=self._head.kind, version=version.version,
            remote=self._repository.address, size=version.size, added=version.added,
            moved=sender.moved, seconds=time.monotonic() - self._began,
        )  # fmt: skip

    async def _name(
        self, config: dict[str, Any], parts: tuple[StoredPart, ...], added: int
    ) -> Version:
        repository = self._repository
        for last in [*[False] * TRIES, True]:
            before = self._head.pick(None)
            manifest = Manifest(
                self._head.kind, self._head.name, self._head.counter + 1, time.time(), config,
                parts, before.digest if before is not None else "",
            )  # fmt: skip
            name, digest = await repository.put_manifest(manifest)
            version = Version(
                manifest.version, name, digest, manifest.created,
                sum(part.data for part in parts), added,
            )  # fmt: skip
            await self._may_name()
            try:
                await repository.put_head(self._head.plus(version, self._keep), self._tag)
            except RemoteConflict:
                if not self._force or last:
                    raise
                head, self._tag = await repository.head(self._head.name, older=True)
                self._head = head if head is not None else self._head
                continue
            base = Base(self._head.name, version.version, version.digest)
            repository.known.note_base(self._head.kind, self._id, base)
            return version
        raise AssertionError("unreachable")


@contextlib.asynccontextmanager
async def begin_push(
    repository: Repository, kind: str, name: str, id: str, *, keep: int = KEEP,
    force: bool = False, level: int = LEVEL, tell: Progress = lambda stage, fraction: None,
) -> AsyncIterator[Push]:  # fmt: skip
    """Begin a push of what has this id here, under that name.

    Raises:
        RemoteConflict: the remote has something that this did not come from.
        ConfigError: the name stands for something of another kind.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or not 1 <= keep <= MOST_KEPT:
        raise ConfigError(f"keep {keep!r} is not a number from 1 to {MOST_KEPT}")
    if isinstance(level, bool) or level not in range(1, 20):
        raise ConfigError(f"level {level!r} is out of range", hint="use a number from 1 to 19")
    head, tag = await repository.head(name, older=force)
    seen = repository.known.seen(repository.sealer.name_id(name))
    if head is None:
        head = Head(name, kind, 0)
    elif head.kind != kind and not force and head.versions:
        raise ConfigError(
            f"{name!r} in {repository.address} is a {head.kind}, not a {kind}",
            hint="push under another name, or over it with --force (force=True)",
        )
    elif not force:
        refuse_diverged(repository, head, repository.known.base(kind, id, name))
    counter = max(head.counter, seen[0] if seen is not None else 0)
    head = Head(name, kind, counter, head.versions if head.kind == kind else ())
    async with pushing(repository.store) as may_name:
        await repository.load_index()
        yield Push(repository, head, tag, id, keep, force, level, tell, may_name)
    await asyncio.to_thread(repository.known.tidy)


def refuse_diverged(repository: Repository, head: Head, base: Base | None) -> None:
    """Refuse to push over what is not the version that something came from.

    Raises:
        RemoteConflict
    """
    last = head.pick(None)
    if last is None or (base is not None and base.name == head.name and (
        (base.version, base.digest) == (last.version, last.digest)
    )):  # fmt: skip
        return
    came = (
        f"this came from version {base.version}" if base is not None and base.name == head.name
        else "this did not come from it"
    )  # fmt: skip
    raise RemoteConflict(
        f"{repository.address} has version {last.version} of {head.name!r}, and {came}",
        hint="push under another name (--as), pull what is there, or push over it with --force"
        " (force=True)",
        address=repository.address,
    )


async def find(
    repository: Repository, kind: str, name: str, version: int | None
) -> tuple[Version, Manifest]:
    """The version to pull. Without a name it is the only thing of its kind that is there.

    Raises:
        RemoteNotFound: there is no such thing.
        ConfigError: there are several, or it is of another kind.
    """
    if not name:
        heads = [head for head in await repository.heads() if head.kind == kind and head.versions]
        if len(heads) != 1:
            names = ", ".join(head.name for head in heads[:10])
            if not heads:
                raise RemoteNotFound(
                    f"no {kind} was pushed to {repository.address}",
                    hint=f"`sandlot remote ls {repository.address}` lists what was",
                    address=repository.address,
                )
            raise ConfigError(
                f"{len(heads)} things were pushed to {repository.address}: {names}",
                hint=f"name one: {repository.address}#{heads[0].name}",
            )
        name = heads[0].name
    head, _ = await repository.head(name)
    picked = head.pick(version) if head is not None else None
    if head is None or picked is None:
        what = f"{name!r}" if version is None else f"version {version} of {name!r}"
        there = [str(each.version) for each in head.versions] if head is not None else []
        raise RemoteNotFound(
            f"there is no {what} in {repository.address}",
            hint=f"it has: {', '.join(there)}" if there
            else f"`sandlot remote ls {repository.address}` lists what was pushed",
            address=repository.address,
        )  # fmt: skip
    if head.kind != kind:
        raise ConfigError(
            f"{name!r} in {repository.address} is a {head.kind}, not a {kind}",
            hint=f"pull it as a {head.kind}: `sandlot pull --kind {head.kind} {name}`",
        )
    try:
        return picked, await repository.manifest(head, picked)
    except BlobNotFound:
        raise RemoteNotFound(
            f"version {picked.version} of {name!r} was removed from {repository.address} at this"
            " moment", hint="try again", address=repository.address,
        ) from None  # fmt: skip


async def forget(repository: Repository, name: str) -> None:
    """Let a name stand for nothing. The head stays, so that nothing old can take its place.

    Raises:
        RemoteNotFound, RemoteConflict
    """
    head, tag = await repository.head(name)
    if head is None or not head.versions:
        raise RemoteNotFound(
            f"there is no {name!r} in {repository.address}", address=repository.address
        )
    await repository.put_head(Head(head.name, head.kind, head.counter + 1), tag)


def _taken(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_blocks * 512
    return 0
