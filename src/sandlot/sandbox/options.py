"""What `Sandbox.create` takes, checked, as a record. Pure but for looking at the host's size."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandlot.engine.config import DEVICE_SIZE, GIB, MIB
from sandlot.errors import ConfigError, ResourceError
from sandlot.sandbox.arguments import mapping
from sandlot.sandbox.naming import readable_name
from sandlot.sandbox.sizes import check_hostname, check_name, check_range, parse_size
from sandlot.state.records import SandboxRecord

SMALLEST_MEMORY = 96 * MIB
LARGEST_MEMORY = 512 * GIB
SMALLEST_DISK = 64 * MIB
SPARE_DISK = 64 * MIB


def check_env(env: Mapping[str, str] | None) -> dict[str, str]:
    """Environment variables that a process can have.

    Raises:
        ConfigError: a name is empty or holds `=` or NUL, or a value holds NUL or is not text.
    """
    given = mapping(env, "env", 'env={"NAME": "value"}')
    for name, value in given.items():
        if not name or "=" in name or "\0" in name:
            raise ConfigError(f"{name!r} is not the name of an environment variable")
        if not isinstance(value, str):
            raise ConfigError(
                f"environment variable {name} is {type(value).__name__}, not text",
                hint=f'use for example env={{"{name}": "value"}}, or leave it out',
            )
        if "\0" in value:
            raise ConfigError(f"environment variable {name} contains a NUL character")
    return dict(given)


def ca_file(path: str | os.PathLike[str], *, used: bool = True) -> str:
    """A file of certificates, by its whole path; `used` when there are hosts that it is for.

    Raises:
        ConfigError: there is no such file, or nothing that it is for.
    """
    if not os.fspath(path):
        return ""
    if not used:
        raise ConfigError(
            "upstream_ca is for hosts that are looked into, and none is",
            hint="name them with secrets= or inspect=; others verify their hosts by themselves",
        )
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        raise ConfigError(f"upstream_ca: there is no file {found}", hint="name a file of PEM")
    return str(found)


def _server(text: str) -> str:
    from sandlot.network.resolver import server

    try:
        server(text)
    except ValueError:
        raise ConfigError(
            f"dns {text!r} is not the address of a name server",
            hint="use for example 9.9.9.9, 127.0.0.1:5353 or [2620:fe::fe]:53",
        ) from None
    return text


def network_options(
    network: object, ports: object, connections: int, bandwidth: int | str,
    dns: Sequence[str] = (), inspect: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The fields of a record about the network.

    Raises:
        ConfigError: one is wrong.
    """
    from sandlot.network.inspected import inspected_rules
    from sandlot.network.policy import Network
    from sandlot.network.published import published_ports

    if network is not None and not isinstance(network, Network):
        raise ConfigError(
            f"network is {type(network).__name__}, not a Network",
            hint='use network=Network(allow=["api.example.com"])',
        )
    if isinstance(connections, bool) or not isinstance(connections, int) or connections < 0:
        raise ConfigError(f"connections {connections!r} is not a number of connections")
    return {
        "network": network.to_json() if network is not None else {},
        "ports": [port.to_json() for port in published_ports(ports)],
        "connections": connections,
        "dns": [_server(each) for each in dns],
        "inspect": [str(rule) for rule in inspected_rules(inspect)],
        "bandwidth": parse_size(bandwidth, "bandwidth") if bandwidth not in (0, "0") else 0,
    }


def host_memory() -> int:
    """The host's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def disk_size(disk: int | str) -> int:
    """The size of a writable disk in bytes.

    Raises:
        ConfigError: it is none, or out of range.
    """
    size = parse_size(disk, "disk") // MIB * MIB
    check_range(disk, size, "disk", SMALLEST_DISK, DEVICE_SIZE)
    return size


def make_record(
    *, name: str | None, image: str, image_digest: str, memory: int | str, cpus: int,
    disk: int | str, env: Mapping[str, str] | None, workdir: str, user: str,
    hostname: str | None, command: Sequence[str], tty: bool, auto_remove: bool, detached: bool,
    data: Path, stdin: bool = False, policy: Mapping[str, Any] | None = None,
) -> SandboxRecord:  # fmt: skip
    """The record of a new sandbox.

    Raises:
        ConfigError: an option is wrong.
        ResourceError: the host is too small for it.
    """
    memory_bytes = parse_size(memory, "memory") // MIB * MIB
    check_range(memory, memory_bytes, "memory", SMALLEST_MEMORY, LARGEST_MEMORY)
    if memory_bytes > host_memory():
        raise ResourceError(
            f"not enough memory: {memory_bytes // MIB}M asked, the host has {host_memory() // MIB}M",
            hint="ask for less with memory= or --memory",
        )
    if isinstance(cpus, bool) or not isinstance(cpus, int) or not 1 <= cpus <= 64:
        raise ConfigError(f"cpus {cpus!r} is out of range", hint="use a whole number from 1 to 64")
    if cpus > (os.cpu_count() or 1):
        raise ResourceError(
            f"not enough processors: {cpus} asked, the host has {os.cpu_count()}",
            hint="ask for fewer with cpus= or --cpus",
        )
    disk_bytes = disk_size(disk)
    import shutil  # here: it imports four compressors

    free = shutil.disk_usage(data).free
    if free < SPARE_DISK:
        raise ResourceError(
            f"not enough disk: {free // MIB}M are left in {data}",
            hint="free some, or set SANDLOT_DATA to a folder on another disk",
        )
    chosen = check_name(name) if name is not None else readable_name()
    for what, text in (("workdir", workdir), ("user", user)):
        if "\0" in text:
            raise ConfigError(f"{what} contains a NUL character")
    return SandboxRecord(
        id=os.urandom(6).hex(), name=chosen, image=image, image_digest=image_digest,
        memory=memory_bytes, cpus=cpus, disk=disk_bytes,
        hostname=check_hostname(hostname) if hostname else chosen.replace("_", "-").strip(".-")[:63],
        machine_id=os.urandom(16).hex(), env=check_env(env), workdir=workdir, user=user,
        command=list(command), tty=tty, stdin=stdin, auto_remove=auto_remove, detached=detached,
        created=time.time(), **(policy or {}),
    )  # fmt: skip
