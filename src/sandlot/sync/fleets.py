"""Fleets without `await`; tests/unit/sync/test_facade.py holds the signatures to the originals."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sandlot.sandbox.log import LogEntry
from sandlot.sandbox.result import ExecResult
from sandlot.sync.facade import Sandbox
from sandlot.sync.portal import drained, run

if TYPE_CHECKING:
    from sandlot.fleet import fleet as origin
    from sandlot.fleet.executing import Tell
    from sandlot.fleet.members import FleetMember
    from sandlot.fleet.planning import Step


class Fleet:
    """See `sandlot.Fleet`."""

    def __init__(self, fleet: origin.Fleet) -> None:
        self._fleet = fleet

    def __repr__(self) -> str:
        return repr(self._fleet)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str] | None = None, *, name: str | None = None,
        profiles: Sequence[str] = (), variables: Mapping[str, str] | None = None,
    ) -> Fleet:  # fmt: skip
        """See `sandlot.Fleet.from_file`."""
        from sandlot.fleet import fleet as origin  # here: it brings the models with it

        made = origin.Fleet.from_file(path, name=name, profiles=profiles, variables=variables)
        return cls(run(made))

    @property
    def name(self) -> str:
        """See `sandlot.Fleet.name`."""
        return self._fleet.name

    @property
    def members(self) -> list[str]:
        """See `sandlot.Fleet.members`."""
        return self._fleet.members

    @property
    def warnings(self) -> list[str]:
        """See `sandlot.Fleet.warnings`."""
        return self._fleet.warnings

    def config(self) -> dict[str, Any]:
        """See `sandlot.Fleet.config`."""
        return self._fleet.config()

    def scripts(self) -> dict[str, list[str]]:
        """See `sandlot.Fleet.scripts`."""
        return self._fleet.scripts()

    def plan(
        self, members: Sequence[str] = (), *, recreate: bool = False, down: bool = False
    ) -> list[Step]:
        """See `sandlot.Fleet.plan`."""
        return run(self._fleet.plan(members, recreate=recreate, down=down))

    def up(
        self, members: Sequence[str] = (), *, build: bool = True, recreate: bool = False,
        tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """See `sandlot.Fleet.up`."""
        return run(self._fleet.up(members, build=build, recreate=recreate, tell=tell))

    def down(
        self, members: Sequence[str] = (), *, volumes: bool = False,
        grace: float | str | None = None, tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """See `sandlot.Fleet.down`."""
        return run(self._fleet.down(members, volumes=volumes, grace=grace, tell=tell))

    def stop(
        self, members: Sequence[str] = (), *, grace: float | str | None = None,
        tell: Tell | None = None,
    ) -> list[Step]:  # fmt: skip
        """See `sandlot.Fleet.stop`."""
        return run(self._fleet.stop(members, grace=grace, tell=tell))

    def restart(
        self, members: Sequence[str] = (), *, grace: float | str | None = None,
        tell: Tell | None = None,
    ) -> None:  # fmt: skip
        """See `sandlot.Fleet.restart`."""
        run(self._fleet.restart(members, grace=grace, tell=tell))

    def ps(self) -> list[FleetMember]:
        """See `sandlot.Fleet.ps`."""
        return run(self._fleet.ps())

    def sandbox(self, member: str) -> Sandbox:
        """See `sandlot.Fleet.sandbox`."""
        return Sandbox(run(self._fleet.sandbox(member)))

    def exec(
        self, member: str, command: str | Sequence[str | bytes], *, timeout: float | str | None = None,
        check: bool = False,
    ) -> ExecResult:  # fmt: skip
        """See `sandlot.Fleet.exec`."""
        return run(self._fleet.exec(member, command, timeout=timeout, check=check))

    def run(
        self, script: str, arguments: Sequence[str] = (), *, member: str | None = None,
        timeout: float | str | None = None, check: bool = False,
    ) -> ExecResult:  # fmt: skip
        """See `sandlot.Fleet.run`."""
        return run(self._fleet.run(script, arguments, member=member, timeout=timeout, check=check))

    def script(
        self, script: str, arguments: Sequence[str] = (), *, member: str | None = None
    ) -> tuple[str, list[str]]:
        """See `sandlot.Fleet.script`."""
        return self._fleet.script(script, arguments, member=member)

    def logs(
        self, members: Sequence[str] = (), *, follow: bool = False, tail: int | None = None,
        since: float = 0.0,
    ) -> Iterator[tuple[str, LogEntry]]:  # fmt: skip
        """See `sandlot.Fleet.logs`."""
        return drained(self._fleet.logs(members, follow=follow, tail=tail, since=since))
