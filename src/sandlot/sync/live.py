"""Streaming without `await`; tests/unit/sync/test_facade.py holds the signatures to the originals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from sandlot.errors import SandboxError
from sandlot.remote.versions import Pushed
from sandlot.sandbox import following, live
from sandlot.sync.portal import run

if TYPE_CHECKING:
    from sandlot.sync.facade import Sandbox


class LivePush:
    """See `sandlot.LivePush`."""

    def __init__(self, live: live.LivePush) -> None:
        self._live = live

    def __repr__(self) -> str:
        return repr(self._live)

    @property
    def last(self) -> Pushed | None:
        """See `sandlot.LivePush.last`."""
        return self._live.last

    @property
    def versions(self) -> Sequence[Pushed]:
        """See `sandlot.LivePush.versions`."""
        return self._live.versions

    @property
    def error(self) -> SandboxError | None:
        """See `sandlot.LivePush.error`."""
        return self._live.error

    @property
    def failures(self) -> int:
        """See `sandlot.LivePush.failures`."""
        return self._live.failures

    def flush(self) -> None:
        """See `sandlot.LivePush.flush`."""
        run(self._live.flush())

    def wait(self) -> None:
        """See `sandlot.LivePush.wait`."""
        run(self._live.wait())

    def __enter__(self) -> LivePush:
        run(self._live.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        run(self._live.__aexit__(kind, error, traceback))


class Follow:
    """See `sandlot.Follow`."""

    def __init__(self, follow: following.Follow) -> None:
        self._follow = follow

    def __repr__(self) -> str:
        return repr(self._follow)

    @property
    def sandbox(self) -> Sandbox:
        """See `sandlot.Follow.sandbox`."""
        from sandlot.sync.facade import Sandbox

        return Sandbox(self._follow.sandbox)

    @property
    def version(self) -> int:
        """See `sandlot.Follow.version`."""
        return self._follow.version

    @property
    def created(self) -> float:
        """See `sandlot.Follow.created`."""
        return self._follow.created

    @property
    def error(self) -> SandboxError | None:
        """See `sandlot.Follow.error`."""
        return self._follow.error

    @property
    def failures(self) -> int:
        """See `sandlot.Follow.failures`."""
        return self._follow.failures

    def __enter__(self) -> Follow:
        run(self._follow.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        run(self._follow.__aexit__(kind, error, traceback))

    def __iter__(self) -> Iterator[Sandbox]:
        return self

    def __next__(self) -> Sandbox:
        """See `sandlot.Follow`."""
        from sandlot.sync.facade import Sandbox

        return Sandbox(run(self._follow.__anext__()))
