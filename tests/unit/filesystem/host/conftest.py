"""A host folder served to a guest that exists only as calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sandlot.filesystem.host.hostfs import HostFs
from tests.unit.filesystem.host.guest import Guest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder on the host, with Sandlot's own state somewhere else."""
    monkeypatch.setenv("SANDLOT_DATA", str(tmp_path / "state"))
    monkeypatch.setenv("SANDLOT_RUNTIME", str(tmp_path / "runtime"))
    made = tmp_path / "volume"
    made.mkdir()
    return made


Mounted = Callable[..., Awaitable[Guest]]


@pytest.fixture
async def mounted(folder: Path) -> AsyncIterator[Mounted]:
    """Mounts the folder, or another path, any number of times."""
    guests: list[Guest] = []

    async def mount(path: Path | HostFs | None = None, **options: Any) -> Guest:
        guest = await Guest.of(path or folder, **options)
        guests.append(guest)
        return guest

    yield mount
    for guest in guests:
        await guest.close()


@pytest.fixture
async def guest(mounted: Mounted) -> Guest:
    """The folder, mounted and written to."""
    return await mounted()
