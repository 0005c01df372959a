"""Where the environment says that things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.settings import Settings

NAMES = (
    "SANDLOT_DATA", "SANDLOT_RUNTIME", "SANDLOT_QEMU", "SANDLOT_ACCELERATOR", "SANDLOT_KERNEL",
    "SANDLOT_KERNEL_MODULES", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_defaults_lie_in_the_home_folder(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings.read()
    assert settings.data == tmp_path / ".local/share/sandlot"
    assert settings.runtime == settings.data / "run"
    assert settings.qemu == settings.accelerator == settings.kernel == ""


def test_the_xdg_folders_count(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("XDG_DATA_HOME", "/x/data")
    bare.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    settings = Settings.read()
    assert settings.data == Path("/x/data/sandlot")
    assert settings.runtime == tmp_path / "sandlot"


def test_a_runtime_folder_that_is_not_there_is_not_used(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("SANDLOT_DATA", "/x/own")
    bare.setenv("XDG_RUNTIME_DIR", "/x/not/there")
    assert Settings.read().runtime == Path("/x/own/run")


def test_own_variables_win_and_become_absolute(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.chdir(tmp_path)
    bare.setenv("SANDLOT_DATA", "state")
    bare.setenv("SANDLOT_RUNTIME", "run")
    bare.setenv("SANDLOT_ACCELERATOR", "tcg")
    settings = Settings.read()
    assert (settings.data, settings.runtime) == (tmp_path / "state", tmp_path / "run")
    assert settings.accelerator == "tcg"
