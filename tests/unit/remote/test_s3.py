from __future__ import annotations

import pytest

from sandlot.remote.patience import PatientStore
from sandlot.remote.s3 import S3Store
from sandlot.testing import BlobStoreSuite
from tests.framework.remotes import s3 as s3
from tests.framework.remotes import s3_environment as s3_environment
from tests.framework.s3_server import S3Server

pytestmark = pytest.mark.xdist_group("remotes")


class TestS3(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, s3_environment: S3Server) -> None:
        self.server = s3_environment

    def make(self, place: str) -> PatientStore:
        return PatientStore(
            S3Store(self.server.bucket, f"suite/{place}", endpoint=self.server.endpoint)
        )
