"""Errors on their way between programs of the host."""

from __future__ import annotations

from typing import Any

from sandlot import errors
from sandlot.errors import SandboxError


def described(error: SandboxError) -> dict[str, str]:
    """An error for another program."""
    told = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, errors.Refuse):
        told |= {"plugin": error.plugin, "reason": error.reason}
    return told


def rebuilt(answer: dict[str, Any]) -> SandboxError:
    """Another program's error as one of this program."""
    kind = getattr(errors, str(answer["error"]), SandboxError)
    more: dict[str, str] = {}
    if isinstance(kind, type) and issubclass(kind, errors.Refuse):
        more = {name: str(answer.get(name, "")) for name in ("plugin", "reason")}
    try:
        made = kind(answer["message"], hint=answer["hint"], **more)
        return made if isinstance(made, SandboxError) else SandboxError(answer["message"])
    except TypeError:
        return SandboxError(answer["message"], hint=answer["hint"])
