"""Ceph's S3 server (radosgw) as processes of the test: a monitor, a disk in memory, the gateway."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ACCESS, SECRET, OTHER = "writer", "writersecret", "stranger"
SECONDS = 180

CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}
admin socket =
pid file =
log file = {folder}/$name.log
mon data = {folder}/mon
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
mon max pg per osd = 5000
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
"""


@dataclass(frozen=True)
class S3Server:
    """One that runs. `environment` is what the tools of AWS need to use it."""

    endpoint: str
    bucket: str = "sandboxes"
    environment: Mapping[str, str] = field(
        default_factory=lambda: {
            "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
    )  # fmt: skip

    def make_bucket(self, name: str) -> None:
        date = email.utils.formatdate(usegmt=True)
        signed = hmac.new(SECRET.encode(), f"PUT\n\n\n{date}\n/{name}".encode(), hashlib.sha1)
        signature = base64.b64encode(signed.digest()).decode()
        request = urllib.request.Request(
            f"{self.endpoint}/{name}", method="PUT", data=b"",
            headers={"Date": date, "Content-Type": "", "Authorization": f"AWS {ACCESS}:{signature}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60):
            pass


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run one on free ports of loopback, with a bucket and two users."""
    for part in ("mon", "osd", "rgw"):
        (folder / part).mkdir(parents=True)
    (folder / "keyring").touch()
    monitor, port = _free_ports()
    fsid = str(uuid.uuid4())
    settings = folder / "ceph.conf"
    settings.write_text(CONFIG.format(fsid=fsid, folder=folder, monitor=monitor, port=port))
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> str:
        done = subprocess.run(
            [command[0], "-c", str(settings), *command[1:]], capture_output=True, text=True,
            timeout=SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{_logs(folder)}"
        return done.stdout

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as out:
            started.append(
                subprocess.Popen(  # ends with the test, even where that is killed
                    ["setpriv", "--pdeathsig", "KILL", command[0], "-c", str(settings), "-f", *command[1:]],
                    stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip

    try:
        monmap = str(folder / "monmap")
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{monitor}]", monmap)  # fmt: skip
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        start("ceph-mon", "-i", "a")
        run("ceph-osd", "-i", "0", "--mkfs")
        run("ceph", "osd", "new", (folder / "osd" / "fsid").read_text().strip(), "0")
        # By itself it does this before it knows the monitor well enough, and ends now and then.
        run("ceph", "osd", "crush", "add", "0", "1.0", "root=default")
        start("ceph-osd", "-i", "0")
        start("radosgw", "-n", "client.rgw")
        server = S3Server(f"http://127.0.0.1:{port}")
        _wait_for(server.endpoint, started, folder)
        for user, secret in ((ACCESS, SECRET), (OTHER, SECRET)):
            run("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid", user, "--display-name", user, "--access-key", user, "--secret-key", secret)  # fmt: skip
        server.make_bucket(server.bucket)
        yield server
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(60)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _wait_for(url: str, started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while all(process.poll() is None for process in started) and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.1)  # until it listens, which it does not tell
    raise AssertionError(_logs(folder))


def _logs(folder: Path) -> str:
    names = [path for path in folder.iterdir() if path.suffix in (".out", ".log")]
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in names)


def clean_environment() -> dict[str, str]:
    """This program's variables without those of AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
