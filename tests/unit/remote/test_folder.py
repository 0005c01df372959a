from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.remote.folder import FolderStore
from sandlot.testing import BlobStoreSuite


class TestFolder(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, place: str) -> FolderStore:
        return FolderStore(self.folder / place)
