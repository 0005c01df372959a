from __future__ import annotations

from pathlib import Path

import pytest
from tests.framework.registry import make_authority

from sandlot.errors import ConfigError
from sandlot.image.registry.certificates import certificate_folders, make_context


def test_folders_of_a_registry(tmp_path: Path) -> None:
    folders = list(certificate_folders({"HOME": str(tmp_path)}, "registry.example.com:5000"))
    assert tmp_path / ".docker/certs.d/registry.example.com:5000" in folders
    assert tmp_path / ".config/containers/certs.d/registry.example.com:5000" in folders
    assert Path("/etc/docker/certs.d/registry.example.com:5000") in folders


def test_what_is_in_a_folder_is_trusted(tmp_path: Path) -> None:
    authority, certificate, key = make_authority(tmp_path / "made")
    folder = tmp_path / "certs.d"
    folder.mkdir()
    before = make_context([], iter([folder])).cert_store_stats()["x509_ca"]
    (folder / "ca.crt").write_bytes(authority.read_bytes())
    (folder / "me.cert").write_bytes(certificate.read_bytes())
    (folder / "me.key").write_bytes(key.read_bytes())
    after = make_context([], iter([folder])).cert_store_stats()["x509_ca"]
    assert after == before + 1
    assert make_context([str(authority)], iter([])).cert_store_stats()["x509_ca"] == before + 1


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        make_context([str(tmp_path / "none.pem")], iter([]))
    (tmp_path / "bad.crt").write_text("nonsense")
    with pytest.raises(ConfigError, match="no certificate is in it"):
        make_context([], iter([tmp_path]))
    (tmp_path / "bad.crt").unlink()
    (tmp_path / "bad.cert").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"bad\.cert cannot be used"):
        make_context([], iter([tmp_path]))
