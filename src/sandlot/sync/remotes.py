"""Remotes without `await`; tests/unit/sync/test_facade.py holds the signatures to the originals.

Each method overrides a coroutine with what it gives, which no type allows: hence the ignores.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from sandlot.remote import remote as origin
from sandlot.remote.collecting import Collected
from sandlot.remote.remote import PushedName, Readers
from sandlot.sync.portal import run


class Remote(origin.Remote):
    """See `sandlot.Remote`."""

    def list(self) -> builtins.list[PushedName]:  # type: ignore[override]
        """See `sandlot.Remote.list`."""
        return run(super().list())

    def gc(self, *, patience: float = 0.0) -> Collected:  # type: ignore[override]
        """See `sandlot.Remote.gc`."""
        return run(super().gc(patience=patience))

    def forget(self, name: str) -> None:  # type: ignore[override]
        """See `sandlot.Remote.forget`."""
        run(super().forget(name))

    def readers(self) -> Readers:  # type: ignore[override]
        """See `sandlot.Remote.readers`."""
        return run(super().readers())

    def rotate(  # type: ignore[override]
        self, *, add: Sequence[str] = (), remove: Sequence[str] = (),
        passphrase: str | None = None,
    ) -> Readers:  # fmt: skip
        """See `sandlot.Remote.rotate`."""
        return run(super().rotate(add=add, remove=remove, passphrase=passphrase))
