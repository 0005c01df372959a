"""Names for sandboxes that were given none."""

from __future__ import annotations

from sandlot.sandbox.naming import readable_name
from sandlot.sandbox.sizes import check_hostname, check_name


def test_names_are_valid_and_differ() -> None:
    names = {readable_name() for _ in range(200)}
    assert len(names) > 190
    for name in names:
        assert check_name(name) == check_hostname(name) == name
        assert len(name.split("-")) == 3
