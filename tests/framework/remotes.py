"""The servers of remotes as fixtures: one of each kind for a test run (a worker of it)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.framework.registry import RealRegistry, real_registry
from tests.framework.s3_server import S3Server, clean_environment, s3_server
from tests.framework.ssh_server import SshServer, ssh_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server. Who uses it belongs to the group `remotes`, so that there is one."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with its credentials in the environment."""
    use_s3(s3, monkeypatch)
    return s3


def use_s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a server's credentials into the environment, and nothing else of AWS."""
    import os

    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An SSH server."""
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def ssh_environment(ssh: SshServer, monkeypatch: pytest.MonkeyPatch) -> SshServer:
    """The SSH server, with a home in the environment that has a key for it."""
    monkeypatch.setenv("HOME", str(ssh.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return ssh


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry."""
    with real_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server
