from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.remote.patience import PatientStore
from sandlot.remote.sftp import SftpStore
from sandlot.testing import BlobStoreSuite
from tests.framework.remotes import ssh as ssh
from tests.framework.remotes import ssh_environment as ssh_environment
from tests.framework.ssh_server import SshServer

pytestmark = pytest.mark.xdist_group("remotes")


class TestSftp(BlobStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, ssh_environment: SshServer, tmp_path: Path) -> None:
        self.server, self.folder = ssh_environment, tmp_path

    def make(self, place: str) -> PatientStore:
        path = str(self.folder / place)
        return PatientStore(SftpStore("127.0.0.1", path, port=self.server.port))
