"""A short soak: random life operations from several programs, with random SIGKILLs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench.soak import environment, own_state, soak


def test_nothing_is_lost_and_nothing_is_left(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(os.environ["SANDLOT_DATA"])
    for name in ("SANDLOT_DATA", "SANDLOT_RUNTIME"):
        monkeypatch.setenv(name, os.environ[name])  # so that both are put back
    seed = int.from_bytes(os.urandom(3))
    with own_state(source) as state:
        environment(state)
        wrong = soak(operations=20, programs=2, seed=seed, image=image, state=state)
        assert not wrong, (seed, wrong)
