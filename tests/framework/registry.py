"""Debian's docker-registry as a process of the test, and images to fill it with."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandlot.image.config import host_architecture
from tests.framework.fake_registry import CONFIG, INDEX, LAYER, MANIFEST, digest_of, layer


@dataclass(frozen=True)
class RealRegistry:
    """One that runs. `host` is `127.0.0.1:port`; `log` is what it said."""

    host: str
    process: subprocess.Popen[bytes]
    log: Path
    storage: Path

    def copy(self, layout: Path, name: str, *arguments: str) -> str:
        """Push an OCI layout's image by skopeo, which compresses it; returns its digest there."""
        digest = self.storage.parent / "digest"
        done = subprocess.run(
            [
                "skopeo", "copy", "--all", "--dest-tls-verify=false", "--digestfile", str(digest),
                *arguments,
                f"oci:{layout}", f"docker://{self.host}/{name}",
            ],
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return digest.read_text().strip()

    def requests(self, part: str) -> int:
        """How many requests its log tells whose line contains `part`."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum(part in line for line in lines if line.startswith("127.0.0.1 - "))


@contextlib.contextmanager
def real_registry(
    folder: Path, *, tls: tuple[Path, Path] | None = None, auth: str = "", removes: bool = True
) -> Iterator[RealRegistry]:  # fmt: skip
    """Run a registry on a free port of loopback; `auth` is the `auth` section of its settings, and
    `removes` whether manifests can be removed."""
    folder.mkdir(parents=True, exist_ok=True)
    storage, log = folder / "storage", folder / "log"
    for _ in range(5):  # somebody else may take the port before it does
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{free.getsockname()[1]}"
        lines = [
            "version: 0.1", "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: {str(removes).lower()}}}}}",
            f"http: {{addr: {host}" + (f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else "") + "}",
        ]  # fmt: skip
        settings = folder / "config.yml"
        settings.write_text("\n".join([*lines, auth]) + "\n")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(settings)], stdout=out, stderr=out,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            if _answers(process, host, tls is not None):
                yield RealRegistry(host, process, log, storage)
                return
        finally:
            process.terminate()
            process.wait(30)
    raise AssertionError(log.read_text(errors="replace"))


def _answers(process: subprocess.Popen[bytes], host: str, tls: bool) -> bool:
    """Wait until it answers; False when it has ended."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            url = f"http{'s' if tls else ''}://{host}/v2/"
            with urllib.request.urlopen(url, timeout=10, context=context if tls else None):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def make_layout(
    folder: Path, layers: Mapping[str, list[bytes]], *, config: Mapping[str, object] | None = None
) -> Path:  # fmt: skip
    """An OCI layout of one image: for each architecture its layers, which are plain tars."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> dict[str, object]:
        digest = digest_of(data)
        (blobs / digest[7:]).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    manifests = []
    for architecture, contents in layers.items():
        inside = {
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/bin/true"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in contents]},
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **put(json.dumps(inside).encode())},
            "layers": [{"mediaType": LAYER, **put(data)} for data in contents],
        }  # fmt: skip
        platform = {"architecture": architecture, "os": "linux"}
        manifests.append(
            {"mediaType": MANIFEST, **put(json.dumps(manifest).encode()), "platform": platform}
        )
    top = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    if len(manifests) > 1:  # the layout's own index names one thing: the image's index
        top = {
            "schemaVersion": 2,
            "manifests": [{"mediaType": INDEX, **put(json.dumps(top).encode())}],
        }
    (folder / "index.json").write_text(json.dumps(top))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def small_layout(folder: Path, *contents: str) -> Path:
    """A layout for this machine, with one layer of one file for each of `contents`."""
    layers = [layer({f"file{n}": text.encode()}) for n, text in enumerate(contents)]
    return make_layout(folder, {host_architecture(): layers})


def require(*programs: str) -> None:
    """The tools must be there; `scripts/system-packages` installs them."""
    for program in programs:
        assert shutil.which(program), f"{program} is missing: run scripts/system-packages"


def make_authority(folder: Path) -> tuple[Path, Path, Path]:
    """A new authority's certificate, and a certificate with its key for 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=authority of a test", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "extensions")  # fmt: skip
    return folder / "ca.pem", folder / "server.pem", folder / "server.key"
