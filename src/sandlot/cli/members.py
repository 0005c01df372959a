"""Names on the command line that mean members and scripts of the Sandboxfile in this folder.

What Docker means comes first: a sandbox of the name, an image of the name that is here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sandlot.errors import ConfigError, ImageNotFound, SandboxError, SandboxNotFound

if TYPE_CHECKING:
    from sandlot.fleet.spec import FleetSpec

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def sandboxes_of(name: str) -> list[str]:
    """The sandboxes that a name means: the one of the name, or else those of a member; the name
    itself where there is neither, so that who looks for it says so."""
    from sandlot.sandbox.listing import folders

    try:
        folders().find(name)
    except SandboxNotFound:
        fleet = _fleet_here()
        member = fleet.members.get(name) if fleet is not None else None
        if member is not None and member.sandboxes:
            return list(member.sandboxes)
    except SandboxError:
        pass  # it is there, and cannot be read
    return [name]


def all_sandboxes_of(names: Iterable[str]) -> tuple[str, ...]:
    """The same for several."""
    return tuple(dict.fromkeys(each for name in names for each in sandboxes_of(name)))


def has_script(word: str) -> bool:
    """Whether the Sandboxfile in this folder has a script of this name, and no image is called so."""
    fleet = _fleet_here() if _WORD.fullmatch(word) else None
    if fleet is None or not any(word in each.model.scripts for each in fleet.members.values()):
        return False
    from sandlot.sandbox.host import Host

    try:
        Host.current().images.get(word)
    except ImageNotFound:
        return True
    return False


def _fleet_here() -> FleetSpec | None:
    from sandlot.fleet import DEFAULT_FILES

    if not any(Path(each).is_file() for each in DEFAULT_FILES):
        return None
    from sandlot.fleet.reading import default_file, read_fleet

    try:
        return read_fleet(default_file())
    except ConfigError:
        return None  # `sandlot config` tells what is wrong with it
