"""What an image says about running it, with the names of the OCI image configuration."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sandlot.errors import ImageError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}


def host_architecture() -> str:
    """This machine's architecture as OCI and Debian call it: `amd64`, `arm64`, …"""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How processes are run in an image by default.

    Source: the OCI image specification, `config.md`.

    >>> ImageConfig(cmd=("/bin/bash",)).to_json()["Cmd"]
    ['/bin/bash']
    """

    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = "/"
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = field(default_factory=host_architecture)

    def __post_init__(self) -> None:
        env = dict(self.env)
        env.setdefault("PATH", DEFAULT_PATH)
        object.__setattr__(self, "env", MappingProxyType(env))
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "healthcheck", MappingProxyType(dict(self.healthcheck)))

    def to_json(self) -> dict[str, Any]:
        """The configuration with OCI's keys, ready for `json.dumps`."""
        return {
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "WorkingDir": self.working_dir,
            "User": self.user,
            "Labels": dict(self.labels),
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Volumes": {path: {} for path in self.volumes},
            "StopSignal": self.stop_signal,
            "Healthcheck": dict(self.healthcheck),
            "architecture": self.architecture,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageConfig:
        """The opposite of `to_json`; missing and null keys mean the defaults.

        Raises ImageError when a value has the wrong type.
        """
        env = {}
        for pair in _strings(data, "Env"):
            name, _, value = pair.partition("=")
            env[name] = value
        labels = _mapping(data, "Labels")
        return cls(
            env=env,
            entrypoint=_strings(data, "Entrypoint"),
            cmd=_strings(data, "Cmd"),
            working_dir=_string(data, "WorkingDir") or "/",
            user=_string(data, "User"),
            labels={str(name): str(value) for name, value in labels.items()},
            exposed_ports=tuple(map(str, _mapping(data, "ExposedPorts"))),
            volumes=tuple(map(str, _mapping(data, "Volumes"))),
            stop_signal=_string(data, "StopSignal"),
            healthcheck=_mapping(data, "Healthcheck"),
            architecture=_string(data, "architecture") or host_architecture(),
        )


def _strings(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ImageError(f"the image's configuration is damaged: {key}")
    return tuple(value)


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, Mapping):
        raise ImageError(f"the image's configuration is damaged: {key}")
    return value


def _string(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key) or ""
    if not isinstance(value, str):
        raise ImageError(f"the image's configuration is damaged: {key}")
    return value
