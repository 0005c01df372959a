from __future__ import annotations

import pytest

from sandlot.remote.oci import OciStore
from sandlot.remote.patience import PatientStore
from sandlot.testing import BlobStoreSuite
from tests.framework.registry import RealRegistry
from tests.framework.remotes import registry as registry

pytestmark = pytest.mark.xdist_group("remotes")


class TestOci(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, registry: RealRegistry) -> None:
        self.server = registry

    def make(self, place: str) -> PatientStore:
        return PatientStore(OciStore(self.server.host, f"suite/{place}"))
