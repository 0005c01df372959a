"""What every message is: a frozen dataclass with a kind, whose fields carry their tag."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


def tag(number: int, default: Any) -> Any:
    """A field with its tag on the wire; at its default it is left out."""
    return dataclasses.field(default=default, metadata={"tag": number})


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of all messages; `kind` is the type octet on the wire."""

    kind: ClassVar[int]
