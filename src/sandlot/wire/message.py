"""What every message is: frozen data with a kind, whose fields carry their tag.

Not `dataclasses`: they compile five methods for each class at import, half a millisecond, and
there are fifty messages. Type checkers see the same thing.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, dataclass_transform

_LISTS: dict[str, type] = {"tuple[bytes, ...]": bytes, "tuple[str, ...]": str}
_SCALARS: dict[str, type] = {"int": int, "str": str, "bytes": bytes}


class Field(NamedTuple):
    """A field's tag and default; `type` is that of one value, `many` says that it is a list."""

    tag: int
    default: Any
    type: type = int
    many: bool = False


def tag(number: int, *, default: Any) -> Any:
    """A field with its tag on the wire; at its default it is left out."""
    return Field(number, default)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(tag,))
class Message:
    """Base of all messages; `kind` is the type octet on the wire, `fields` what it carries."""

    kind: ClassVar[int]
    fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls) -> None:
        own = {}
        for name, value in list(vars(cls).items()):
            if isinstance(value, Field):
                hint = cls.__annotations__[name]
                many = hint in _LISTS
                one = _LISTS[hint] if many else _SCALARS[hint]
                own[name] = Field(value.tag, value.default, one, many)
                setattr(cls, name, value.default)
        cls.fields = {**cls.fields, **own}

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.fields:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def values(self) -> dict[str, Any]:
        """Every field with its value."""
        return {name: getattr(self, name) for name in self.fields}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((self.kind, *self.values().values()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({inside})"
