"""Records that came from somewhere else: of the types that they say they are. Pure."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from sandlot.errors import SnapshotDamaged

T = TypeVar("T")
_LARGEST = 1 << 62
_LONGEST = 1 << 20  # characters of one text


def typed(kind: type[T], data: Mapping[str, Any], what: str) -> T:
    """A record whose fields have the types that its class says, and no others.

    Raises:
        SnapshotDamaged: a field is missing, unknown or of another type.
    """
    hints = typing.get_type_hints(kind)
    assert dataclasses.is_dataclass(kind)
    for name, value in data.items():
        if name not in hints:
            raise SnapshotDamaged(
                f"{what} has the field {name[:40]!r}, which this version does not know",
                hint="import it with the version of Sandlot that made it, or a later one",
            )
        if not fits(value, hints[name]):
            raise SnapshotDamaged(f"{what} has {str(value)[:40]!r} as its {name}")
    try:
        return kind(**data)
    except TypeError as error:
        raise SnapshotDamaged(f"{what} is not whole: {error}") from None


def fits(value: object, hint: Any) -> bool:
    """Whether a value from JSON is of a type.

    >>> fits({"a": 1}, dict[str, int]), fits([True], list[int]), fits(float("nan"), float)
    (True, False, False)
    """
    if hint is Any:
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items()
        )
    if origin is list:
        return isinstance(value, list) and all(fits(each, parts[0]) for each in value)
    if parts:  # X | None
        return any(fits(value, part) for part in parts)
    if hint is float:
        return isinstance(value, int | float) and fits(int(value), int) if _finite(value) else False
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    if hint is str:
        return isinstance(value, str) and len(value) <= _LONGEST and "\0" not in value
    return isinstance(value, hint)


def _finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not isinstance(value, float) or math.isfinite(value)
