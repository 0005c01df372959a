"""What a hostile guest tries, each with what it has to end with."""

from __future__ import annotations

from tests.vm.escapes import addresses, apart, floods, names, packets, requests
from tests.vm.escapes.escape import Escape

ALL: dict[str, Escape] = {}
for _module in (addresses, names, requests, packets, floods):
    for _escape in _module.ESCAPES:
        assert _escape.name not in ALL, _escape.name
        ALL[_escape.name] = _escape

APART: dict[str, Escape] = {escape.name: escape for escape in apart.ESCAPES}

__all__ = ["ALL", "APART", "Escape"]
