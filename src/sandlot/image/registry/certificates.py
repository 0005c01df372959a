"""Which certificates to trust for a registry, and which to show it.

Sources: containers-certs.d(5), and Docker's description of `certs.d`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sandlot.errors import ConfigError


def certificate_folders(environment: Mapping[str, str], registry: str) -> Iterator[Path]:
    """The folders that may hold certificates of a registry, which is `host` or `host:port`."""
    home = Path(environment.get("HOME") or Path.home())
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    docker = environment.get("DOCKER_CONFIG")
    for root in (
        Path("/etc/docker/certs.d"),
        Path("/etc/containers/certs.d"),
        config / "docker/certs.d",
        config / "containers/certs.d",
        (Path(docker) if docker else home / ".docker") / "certs.d",
    ):
        yield root / registry


def make_context(authorities: Sequence[str], folders: Iterator[Path]) -> ssl.SSLContext:
    """A TLS context that trusts the system's authorities and these besides.

    In a folder `*.crt` are authorities; `NAME.cert` with `NAME.key` is shown to the registry.
    Raises ConfigError when a file is missing or is no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for authority in authorities:
        _load(context, Path(authority))
    for folder in folders:
        for path in sorted(_listed(folder, "*.crt")):
            _load(context, path)
        for path in sorted(_listed(folder, "*.cert")):
            try:
                # A key with a pass phrase would be asked for on the terminal.
                context.load_cert_chain(path, path.with_suffix(".key"), password=lambda: "")
            except OSError as error:
                raise _unusable(path, error) from error
    return context


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern)) if os.access(folder, os.R_OK | os.X_OK) else []
    except OSError:
        return []


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> ConfigError:
    reason = "no certificate is in it" if isinstance(error, ssl.SSLError) else error.strerror
    return ConfigError(
        f"the certificate file {path} cannot be used: {reason}",
        hint="it must be in PEM form; see docs/guides/images-from-registries.md",
    )
