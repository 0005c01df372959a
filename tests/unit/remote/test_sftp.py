from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import pwd
import secrets
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from sandlot.errors import BlobChanged, RemoteRefused, RemoteUnreachable
from sandlot.remote.patience import PatientStore
from sandlot.remote.sftp import SftpDisk, SftpStore
from sandlot.remote.tree import TreeStore
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


def store(server: SshServer, path: Path, **options: Any) -> SftpStore:
    return SftpStore("127.0.0.1", str(path), port=server.port, **options)


async def test_a_host_whose_key_is_not_known(
    ssh_environment: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(ssh_environment.home, home)
    monkeypatch.setenv("HOME", str(home))
    known = home / ".ssh" / "known_hosts"
    other = (home / ".ssh" / "id_ed25519.pub").read_text().split()
    for text in ("", f"[127.0.0.1]:{ssh_environment.port} {other[0]} {other[1]}\n"):
        known.write_text(text)
        async with store(ssh_environment, tmp_path / "r") as made:
            with pytest.raises(RemoteRefused, match=r"key of 127\.0\.0\.1 is not in known_hosts") as caught:  # fmt: skip
                await made.put("a", b"")
            assert "`ssh 127.0.0.1`" in caught.value.hint
    assert not (tmp_path / "r").exists()


async def test_a_user_without_a_key(
    ssh_environment: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    shutil.copy(ssh_environment.known_hosts, home / ".ssh")
    monkeypatch.setenv("HOME", str(home))
    async with store(ssh_environment, tmp_path / "r") as made:
        with pytest.raises(RemoteRefused, match="lets nobody in with your keys") as caught:
            await made.get("a")
        assert "ssh -o BatchMode=yes" in caught.value.hint


async def test_the_configuration_of_ssh(
    ssh_environment: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(ssh_environment.home, home)
    monkeypatch.setenv("HOME", str(home))
    (home / ".ssh" / "id_ed25519").rename(home / "key")
    (home / ".ssh" / "config").write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {ssh_environment.port}\n"
        f"  User {ssh_environment.user}\n  IdentityFile {home / 'key'}\n"
    )
    async with SftpStore("box", str(tmp_path / "r")) as made:
        await made.put("a", b"1")
    assert (tmp_path / "r" / "a").read_bytes() == b"1"


async def test_a_folder_below_the_home(ssh_environment: SshServer, tmp_path: Path) -> None:
    name = f"sandlot-test-{secrets.token_hex(6)}"
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    try:
        async with SftpStore("127.0.0.1", f"~/{name}", port=ssh_environment.port) as made:
            assert made.address == f"ssh://127.0.0.1:{ssh_environment.port}/~/{name}"
            await made.put("a", b"1")
        assert (home / name / "a").read_bytes() == b"1"
    finally:
        shutil.rmtree(home / name, ignore_errors=True)


async def test_nobody_listens(ssh_environment: SshServer, tmp_path: Path) -> None:
    async with SftpStore("127.0.0.1", str(tmp_path), port=1) as made:
        with pytest.raises(RemoteUnreachable, match="cannot be reached") as caught:
            await made.get("a")
        assert "try again" in caught.value.hint


async def test_a_folder_that_cannot_be_made(ssh_environment: SshServer, tmp_path: Path) -> None:
    async with store(ssh_environment, tmp_path / "none" / "r") as made:
        with pytest.raises(RemoteRefused, match="No such file"):
            await made.put("a", b"")


async def test_a_full_disk(ssh_environment: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full is a disk without room, but for what the server tells of its size."""
    disk = SftpDisk("127.0.0.1", "/dev", None, ssh_environment.port, "ssh://full")
    client = await disk._connected()
    real = client.open

    def opened(path: str, mode: str) -> Any:
        return real("/dev/full", "wb")

    async def room(path: str) -> SimpleNamespace:
        return SimpleNamespace(bavail=0, frsize=4096)

    monkeypatch.setattr(client, "open", opened)
    monkeypatch.setattr(client, "statvfs", room)
    with pytest.raises(OSError, match="No space left") as caught:
        await disk.write("a", b"data")
    assert caught.value.errno == errno.ENOSPC
    await disk.close()


async def test_links_that_the_server_does_not_make(
    ssh_environment: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename of the protocol, which replaces nothing, does for them."""

    async def link(*_: object) -> None:
        raise asyncssh.SFTPOpUnsupported("no")

    monkeypatch.setattr(asyncssh.SFTPClient, "link", link)
    async with store(ssh_environment, tmp_path / "r") as one, store(ssh_environment, tmp_path / "r") as two:  # fmt: skip
        version = await one.replace("heads/x", b"1", None)
        with pytest.raises(BlobChanged):
            await two.replace("heads/x", b"2", None)
        await two.replace("heads/x", b"2", version)
        assert await one.get("heads/x") == b"2"


@pytest.mark.parametrize("action", ["put", "replace"])
def test_a_writer_that_is_killed_at_any_step_leaves_old_or_new(
    ssh_environment: SshServer, tmp_path: Path, action: str
) -> None:
    """What the program does at each step; the protocol is that of folders, here over the wire."""
    context = multiprocessing.get_context("fork")
    old, new = b"old" * 1000, b"new" * 1000
    key = "packs/one" if action == "put" else "heads/x"

    async def prepare(root: Path) -> None:
        async with store(ssh_environment, root) as made:
            await made.put("packs/one", old)
            await made.replace("heads/x", old, None)

    async def look(root: Path) -> None:
        async with store(ssh_environment, root) as made:
            found, version = await made.read(key)
            assert found in (old, new)
            assert await made.replace(key, b"later", version) != version

    for step in range(1, 30):
        root = tmp_path / str(step)
        asyncio.run(prepare(root))
        process = context.Process(target=killed, args=(ssh_environment.port, root, action, step))
        process.start()
        process.join()
        asyncio.run(look(root))
        if process.exitcode == 0:
            return
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError("it never came to its end")


def killed(port: int, root: Path, action: str, step: int) -> None:
    """Do something, and be killed at a step of it."""

    class Mortal(SftpDisk):
        left = step

        async def _do(self, call: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return await super()._do(call)

    async def work() -> None:
        made = TreeStore(Mortal("127.0.0.1", str(root), None, port, "ssh://"), "ssh://")
        async with made:
            if action == "put":
                await made.put("packs/one", b"new" * 1000)
            else:
                _, version = await made.read("heads/x")
                await made.replace("heads/x", b"new" * 1000, version)

    asyncio.run(work())
