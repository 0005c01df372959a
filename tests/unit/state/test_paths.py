"""The folders of a state directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sandlot.errors import StateError
from sandlot.settings import Settings
from sandlot.state.paths import StatePaths

NAMES = ("images", "templates", "sandboxes", "kernels", "disks", "cache", "sockets")


@pytest.mark.parametrize("name", NAMES)
def test_folders_are_made_when_asked_for_and_are_the_users_own(tmp_path: Path, name: str) -> None:
    paths = StatePaths.of(Settings(tmp_path / "data", tmp_path / "run"))
    assert not (tmp_path / "data").exists()
    folder = getattr(paths, name)
    assert folder.is_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert getattr(paths, name) == folder


@pytest.mark.parametrize("name", NAMES)
def test_a_place_that_cannot_be_used_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    paths = StatePaths(tmp_path / "file" / "data", tmp_path / "file" / "run")
    with pytest.raises(StateError, match="cannot be used") as caught:
        getattr(paths, name)
    assert "SANDLOT_DATA" in caught.value.hint
