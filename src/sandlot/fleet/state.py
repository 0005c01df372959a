"""What is: the sandboxes of this user that belong to a fleet, by the labels in their records."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping

from sandlot.errors import NameTaken, SandboxError
from sandlot.fleet.planning import Existing, Wanted
from sandlot.fleet.spec import (
    FILE_LABEL,
    FLEET_LABEL,
    MEMBER_LABEL,
    OPTIONS_LABEL,
    SANDBOX_LABEL,
    FleetSpec,
    Member,
)
from sandlot.sandbox.host import Host
from sandlot.sandbox.listing import SandboxInfo, list_sandboxes
from sandlot.sandbox.sandbox import Sandbox
from sandlot.state.records import SandboxRecord


@contextlib.asynccontextmanager
async def reached(name: str) -> AsyncIterator[Sandbox]:
    """A sandbox by name, whose connection is closed at the end.

    Raises:
        SandboxNotFound: there is none.
    """
    sandbox = await Sandbox.get(name)
    try:
        yield sandbox
    finally:
        sandbox._let_go()
        await asyncio.sleep(0)  # the transport closes in the next turn of the loop


def wanted(spec: FleetSpec) -> list[Wanted]:
    """The sandboxes that a file asks for, in its order."""
    awaited = {
        name for member in spec.members.values() for name, condition in member.needs.items()
        if condition == "completed"
    }  # fmt: skip
    return [
        Wanted(sandbox=sandbox, member=member.name, options=member.options(), needs=member.needs,
               peers=member.peers, completes=member.name in awaited)
        for member in spec.members.values() for sandbox in member.sandboxes
    ]  # fmt: skip


def belonging(fleet: str) -> list[SandboxInfo]:
    """The sandboxes of a fleet, by name."""
    return [each for each in list_sandboxes() if fleet_of(each) == fleet]


def fleet_of(info: SandboxInfo) -> str:
    """The fleet that a sandbox belongs to, or nothing.

    Forks and snapshots of a member have its labels, and its name not: they are their makers'.
    """
    marks = info.record.labels
    return marks.get(FLEET_LABEL, "") if marks.get(SANDBOX_LABEL) == info.record.name else ""


def fleets() -> dict[str, list[SandboxInfo]]:
    """All fleets that have sandboxes, by name."""
    found: dict[str, list[SandboxInfo]] = {}
    for each in list_sandboxes():
        if name := fleet_of(each):
            found.setdefault(name, []).append(each)
    return found


def existing(spec: FleetSpec, *, refuse: bool = True) -> list[Existing]:
    """What is there of a fleet.

    Raises:
        NameTaken: with `refuse`, a sandbox that is not the fleet's has the name of one of its.
    """
    mine = belonging(spec.name)
    names = {each.record.name for each in mine}
    asked = {sandbox for member in spec.members.values() for sandbox in member.sandboxes}
    for each in list_sandboxes():
        if refuse and each.record.name in asked - names:
            raise NameTaken(
                f"a sandbox named {each.record.name!r} exists already, and is not of the fleet "
                f"{spec.name!r}",
                hint=f"remove it with `sandlot rm {each.record.name}`, or give the fleet another name",
            )
    return [_existing(each, spec) for each in mine]


def _existing(info: SandboxInfo, spec: FleetSpec) -> Existing:
    record = info.record
    member = record.labels.get(MEMBER_LABEL, record.name)
    options: Mapping[str, str] = {}
    try:
        read = json.loads(record.labels.get(OPTIONS_LABEL, "{}"))
        options = {str(name): str(value) for name, value in read.items()}
    except (ValueError, AttributeError):
        pass  # somebody else wrote it: everything is taken for changed
    asked = spec.members.get(member)
    return Existing(
        sandbox=record.name, member=member, options=options, running=info.state.running,
        exit_code=info.state.exit_code if info.state.started else None,
        replaced=_replaced(asked, record) if asked is not None else "",
        peers={name: tuple(each) for name, each in record.network.get("peers", {}).items()},
    )  # fmt: skip


def _replaced(member: Member, record: SandboxRecord) -> str:
    """Whether the name that it was made from stands for something else by now, on this machine."""
    host = Host.current()
    with contextlib.suppress(SandboxError):
        if member.model.from_snapshot is not None:
            found = host.snapshots.find(member.model.from_snapshot).record()
            return "from_snapshot" if found.id != record.snapshot else ""
        if host.images.get(member.image).id != record.image_digest:
            return "image"
    return ""


def labels(spec: FleetSpec, member: Member, sandbox: str) -> dict[str, str]:
    """The labels by which a sandbox is found again."""
    own = {name: "" if value is None else value for name, value in member.model.labels.items()}
    return {
        **own, FLEET_LABEL: spec.name, MEMBER_LABEL: member.name, FILE_LABEL: str(spec.file),
        SANDBOX_LABEL: sandbox,
        OPTIONS_LABEL: json.dumps(member.options(), separators=(",", ":")),
    }  # fmt: skip
