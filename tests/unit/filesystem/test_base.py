"""What all file systems have in common."""

from __future__ import annotations

from typing import Any

import pytest

from sandlot.errors import ConfigError
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.filesystem.readonly import ReadOnly


def test_what_is_made_of_file_systems() -> None:
    path: Any = "./src"
    for make in (lambda: OverlayFs(path, MemFs()), lambda: ReadOnly(path)):
        with pytest.raises(ConfigError, match=r"'\./src' is none"):
            make()
