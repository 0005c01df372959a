"""OpenSSH's sshd as a process of the test, for this user, with keys of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60


@dataclass(frozen=True)
class SshServer:
    """One that runs. `home` has the `.ssh` of a user who may log in, and knows the server."""

    port: int
    home: Path
    log: Path
    user: str

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run one on a free port of loopback."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "openssh-server is not installed"
    ssh = folder / "home" / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    for key in (ssh / "id_ed25519", folder / "host"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60
        )
    shutil.copy(ssh / "id_ed25519.pub", folder / "authorized")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "sshd_config"
    settings.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
        "ForceCommand internal-sftp\n"
    )
    kind, key_text = (folder / "host.pub").read_text().split()[:2]
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key_text}\n")
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # ends with the test, even where that is killed
            ["setpriv", "--pdeathsig", "KILL", sshd, "-D", "-e", "-f", str(settings)],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)  # until it listens, which it does not tell
        yield SshServer(port, folder / "home", log, getpass.getuser())
    finally:
        process.terminate()
        process.wait(30)
