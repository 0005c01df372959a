"""Snapshots without `await`; tests/unit/sync/test_facade.py holds the signatures to the originals."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from sandlot.errors import SnapshotError
from sandlot.network.hooks import Hooks
from sandlot.network.policy import Network
from sandlot.sandbox import pool as pools
from sandlot.sandbox import snapshots as origin
from sandlot.snapshot.record import SnapshotRecord
from sandlot.snapshot.store import SnapshotFolder
from sandlot.snapshot.usage import SnapshotUsage
from sandlot.sync.portal import run

if TYPE_CHECKING:
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed
    from sandlot.sandbox.difference import FileChange
    from sandlot.sync.facade import Sandbox


class Snapshot:
    """See `sandlot.Snapshot`."""

    def __init__(self, snapshot: origin.Snapshot) -> None:
        self._snapshot = snapshot

    def __repr__(self) -> str:
        return repr(self._snapshot)

    @classmethod
    def get(cls, name: str) -> Snapshot:
        """See `sandlot.Snapshot.get`."""
        return cls(run(origin.Snapshot.get(name)))

    @property
    def name(self) -> str:
        """See `sandlot.Snapshot.name`."""
        return self._snapshot.name

    @property
    def id(self) -> str:
        """See `sandlot.Snapshot.id`."""
        return self._snapshot.id

    @property
    def kind(self) -> str:
        """See `sandlot.Snapshot.kind`."""
        return self._snapshot.kind

    @property
    def parent(self) -> str:
        """See `sandlot.Snapshot.parent`."""
        return self._snapshot.parent

    @property
    def tags(self) -> Sequence[str]:
        """See `sandlot.Snapshot.tags`."""
        return self._snapshot.tags

    @property
    def record(self) -> SnapshotRecord:
        """See `sandlot.Snapshot.record`."""
        return self._snapshot.record

    @property
    def folder(self) -> SnapshotFolder:
        """See `sandlot.Snapshot.folder`."""
        return self._snapshot.folder

    def usage(self) -> SnapshotUsage:
        """See `sandlot.Snapshot.usage`."""
        return self._snapshot.usage()

    def inspect(self) -> dict[str, Any]:
        """See `sandlot.Snapshot.inspect`."""
        return self._snapshot.inspect()

    def sandboxes(self) -> Sequence[str]:
        """See `sandlot.Snapshot.sandboxes`."""
        return self._snapshot.sandboxes()

    def restore(
        self, name: str | None = None, *, env: Mapping[str, str] | None = None,
        hostname: str | None = None, network: Network | None = None, ports: object = None,
        secrets: object = None, labels: Mapping[str, str] | None = None,
        disk: int | str | None = None, detached: bool = False, disk_only: bool = False,
        idle_timeout: float | str | None = None, max_duration: float | str | None = None,
        hooks: Hooks | None = None, volumes: Mapping[str, object] | None = None,
        plugins: Sequence[object] | None = None, plugin_processes: Sequence[object] | None = None,
    ) -> Sandbox:  # fmt: skip
        """See `sandlot.Snapshot.restore`."""
        from sandlot.sync.facade import Sandbox

        async def make() -> Any:
            return await self._snapshot.restore(
                name, env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
                labels=labels, disk=disk, detached=detached, disk_only=disk_only,
                idle_timeout=idle_timeout, max_duration=max_duration, hooks=hooks,
                volumes=volumes, plugins=plugins, plugin_processes=plugin_processes,
            )  # fmt: skip

        return Sandbox(run(make()))

    def diff(self, other: Snapshot) -> Sequence[FileChange]:
        """See `sandlot.Snapshot.diff`."""
        return run(self._snapshot.diff(other._snapshot))

    def export(
        self, target: str | os.PathLike[str] | BinaryIO, *, level: int = 3, force: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> None:  # fmt: skip
        """See `sandlot.Snapshot.export`."""
        run(self._snapshot.export(target, level=level, force=force, progress=progress))

    @classmethod
    def import_(
        cls, source: str | os.PathLike[str] | BinaryIO, name: str | None = None, *,
        disk_only: bool = False, progress: Callable[[str, float | None], object] | None = None,
    ) -> Snapshot:  # fmt: skip
        """See `sandlot.Snapshot.import_`."""
        return cls(
            run(origin.Snapshot.import_(source, name, disk_only=disk_only, progress=progress))
        )

    def push(
        self, to: str | Remote | None = None, name: str | None = None, *, keep: int = 10,
        force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """See `sandlot.Snapshot.push`."""
        return run(
            self._snapshot.push(
                to, name, keep=keep, force=force, level=level, progress=progress
            )
        )  # fmt: skip

    @classmethod
    def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        disk_only: bool = False, fallback: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Snapshot:  # fmt: skip
        """See `sandlot.Snapshot.pull`."""
        return cls(
            run(
                origin.Snapshot.pull(
                    source, name, remote=remote, disk_only=disk_only, fallback=fallback,
                    progress=progress,
                )
            )
        )  # fmt: skip

    def remove(self, *, cascade: bool = False) -> None:
        """See `sandlot.Snapshot.remove`."""
        run(self._snapshot.remove(cascade=cascade))

    def rename(self, name: str) -> None:
        """See `sandlot.Snapshot.rename`."""
        run(self._snapshot.rename(name))

    def set_tags(self, tags: Sequence[str]) -> None:
        """See `sandlot.Snapshot.set_tags`."""
        run(self._snapshot.set_tags(tags))

    @classmethod
    def list(cls, *, unreadable: Callable[[SnapshotError], None] | None = None) -> list[Snapshot]:
        """See `sandlot.Snapshot.list`."""
        return [cls(each) for each in run(origin.Snapshot.list(unreadable=unreadable))]


class Pool:
    """See `sandlot.Pool`. It is opened by `with`, or by `start`."""

    def __init__(
        self, source: Snapshot | str, *, size: int = 8, parallel: int = 2,
        keep_free: int | str = "512M", detached: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        """See `sandlot.Pool`."""
        inside = source._snapshot if isinstance(source, Snapshot) else source

        async def make() -> pools.Pool:
            return pools.Pool(
                inside, size=size, parallel=parallel, keep_free=keep_free, detached=detached,
                **options,
            )  # fmt: skip

        self._pool = run(make())

    @property
    def ready(self) -> int:
        """See `sandlot.Pool.ready`."""
        return self._pool.ready

    def start(self, *, wait: bool = True) -> Pool:
        """See `sandlot.Pool.start`."""
        run(self._pool.start(wait=wait))
        return self

    def full(self) -> None:
        """See `sandlot.Pool.full`."""
        run(self._pool.full())

    def take(self, *, env: Mapping[str, str] | None = None) -> Sandbox:
        """See `sandlot.Pool.take`."""
        from sandlot.sync.facade import Sandbox

        return Sandbox(run(self._pool.take(env=env)))

    def close(self) -> None:
        """See `sandlot.Pool.close`."""
        run(self._pool.close())

    def __enter__(self) -> Pool:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
