"""What can be done while a machine is saved."""

from __future__ import annotations

import pytest

from sandlot.sandbox.capture import joins_layers


@pytest.mark.parametrize(
    "version, joins",
    [("7.2.22", False), ("8.0.5", False), ("8.1.0", True), ("10.0.2", True), ("", False)],
)
def test_layers_are_joined_by_a_qemu_that_can(version: str, joins: bool) -> None:
    assert joins_layers(version) is joins
