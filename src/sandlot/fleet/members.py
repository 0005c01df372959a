"""The sandboxes of a fleet, as listings show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandlot.errors import SandboxError
from sandlot.fleet.health import check
from sandlot.fleet.spec import Member
from sandlot.fleet.state import reached

HEALTHY, UNHEALTHY = "healthy", "unhealthy"


@dataclass(frozen=True)
class FleetMember:
    """One sandbox of a fleet, as `Fleet.ps` shows it. `status` is `missing` when it is not there.

    `health` is `healthy`, `unhealthy`, or empty without a check.
    """

    member: str
    sandbox: str
    status: str
    health: str = ""
    image: str = ""
    ports: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "ports": list(self.ports)}


async def health_of(member: Member, sandbox: str, status: str) -> str:
    """What the member's check says now of one that runs; empty without a check."""
    if member.health is None or status != "running":
        return ""
    try:
        async with reached(sandbox) as found:
            return UNHEALTHY if await check(found, member.health) else HEALTHY
    except SandboxError:
        return UNHEALTHY


def ports_of(published: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Published ports, as `127.0.0.1:8000->80/tcp`."""
    return tuple(
        f"{each['address']}:{each['host_port']}->{each['port']}/{each['protocol']}"
        for each in published
    )
