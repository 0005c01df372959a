"""Signals by number and name."""

from __future__ import annotations

import signal

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.process import signal_number


@pytest.mark.parametrize("value", [15, "15", "TERM", "SIGTERM", "sigterm", signal.SIGTERM])
def test_spellings(value: int | str) -> None:
    assert signal_number(value) == 15


@pytest.mark.parametrize("value", [0, 65, -1, "", "NOPE", "0"])
def test_no_signal(value: int | str) -> None:
    with pytest.raises(ConfigError):
        signal_number(value)
