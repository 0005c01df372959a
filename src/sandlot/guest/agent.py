"""The guest agent that the package carries."""

from __future__ import annotations

from pathlib import Path

from sandlot.errors import HostError


def agent_path(machine: str) -> Path:
    """The agent's program for `x86_64` or `aarch64` guests.

    Raises:
        HostError: the package was built without it.
    """
    path = Path(__file__).parent / "bin" / f"agent-{machine}"
    if not path.exists():
        raise HostError(
            f"the package has no guest agent for {machine}",
            hint="install Sandlot with `pip install .`, which builds it",
        )
    return path
