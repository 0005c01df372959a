"""The registries that this machine's own clients are set up for, found when a test runs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


def apt_hosts() -> list[str]:
    """Of the archives that an image of Debian packages is made from."""
    from sandlot.image.apt_sources import choose_sources

    _, sources = choose_sources(None, None)
    found = re.findall(r"https?://([^/\s:]+)", "\n".join(source.deb822() for source in sources))
    return sorted(set(found))


def pip_hosts() -> list[str]:
    """Of the index that pip asks, and of the files that it points to."""
    code = "from pip._internal.models.index import PyPI as p; print(p.url, p.file_storage_domain)"
    index, files = _said(sys.executable, "-c", code).split()
    named = re.findall(
        r"index-url='?(https?://[^'\s]+)", _said(sys.executable, "-m", "pip", "config", "list")
    )
    return sorted({str(urlsplit(url).hostname) for url in named or [index]} | {files})


def npm_registry() -> str:
    """The registry that npm asks."""
    return _said("npm", "config", "get", "registry").strip()


def node_and_npm() -> tuple[Path, Path]:
    """The machine's own node, and the folder of its npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None and npm is not None
    return Path(node).resolve(), Path(npm).resolve().parents[1]


def rules(hosts: list[str]) -> list[str]:
    """An allow list of exactly these hosts, and of their addresses where those are special."""
    from sandlot.network.addresses import special

    found = list(hosts)
    for host in hosts:
        for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM):
            address = str(info[4][0])
            if special(ip_address(address)):
                found.append(f"[{address}]" if ":" in address else address)
    return sorted(set(found))


def bundle() -> Path:
    """What the machine's own clients trust."""
    return Path("/etc/ssl/certs/ca-certificates.crt")


def pip_wheel() -> Path:
    """pip itself, as every Python brings it along."""
    import ensurepip

    return next(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
