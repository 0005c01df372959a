"""What a fleet is to be, resolved: pure data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandlot.fleet.models import BuildModel, HealthModel, SandboxModel, SecretModel, VolumeModel
from sandlot.fleet.problems import Problem

FLEET_LABEL = "sandlot.fleet"
MEMBER_LABEL = "sandlot.fleet.member"
FILE_LABEL = "sandlot.fleet.file"
SANDBOX_LABEL = "sandlot.fleet.sandbox"
OPTIONS_LABEL = "sandlot.fleet.options"
DEFAULT_NETWORK = "default"
"""The network of all members of a compose file that name none."""

# What changes nothing about the machine itself.
_AROUND = {"health", "scripts", "depends_on", "replicas", "profiles", "env", "env_file", "secrets",
           "detached", "pull", "volumes", "command", "entrypoint", "networks",
           "image", "build"}  # fmt: skip


@dataclass(frozen=True)
class MountSpec:
    """What is mounted: `source` is a whole path, the volume's own name, or empty."""

    type: str
    source: str
    target: str
    readonly: bool = False
    cache: str = "coherent"
    size: str | None = None


@dataclass(frozen=True)
class VolumeSpec:
    """A named volume of the fleet: `name` is its own."""

    name: str
    model: VolumeModel


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member, with everything that it takes from elsewhere put in."""

    name: str
    sandboxes: tuple[str, ...]
    model: SandboxModel
    image: str = ""
    build: BuildModel | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, SecretModel] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The values of secrets that stand in env files; never printed."""
    mounts: tuple[MountSpec, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    peers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The sandboxes that it reaches by name, over the networks that it is in."""
    folder: str = ""
    """Where the paths of its plugins begin from."""

    @property
    def health(self) -> HealthModel | None:
        """How to find out whether it works."""
        return self.model.health

    def options(self) -> dict[str, str]:
        """All that its machine is made with, by name: a short digest of each, never the value.

        They are kept with the sandbox, so that it is known later what has changed.
        """
        said: dict[str, Any] = self.model.model_dump(exclude=_AROUND, exclude_defaults=True)
        said |= {
            "image": self.image, "command": list(self.command), "env": dict(self.env),
            "volumes": [vars(each) for each in self.mounts],
            "secrets": {name: secret.model_dump() for name, secret in self.secrets.items()},
        }  # fmt: skip
        return {
            name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
            for name, value in sorted(said.items()) if value not in ([], {}, "", None)
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FleetSpec:
    """All members that are wanted, and what they share."""

    name: str
    file: Path
    members: Mapping[str, Member]
    volumes: Mapping[str, VolumeSpec] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    """Members of profiles that were not asked for: what there is of them is left alone."""
    warnings: tuple[Problem, ...] = ()

    def only(self, names: tuple[str, ...]) -> FleetSpec:
        """These members and what they need, directly and indirectly."""
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting += self.members[name].needs
        return FleetSpec(
            name=self.name, file=self.file, volumes=self.volumes, warnings=self.warnings,
            members={name: each for name, each in self.members.items() if name in wanted},
            others=self.others | (set(self.members) - wanted),
        )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """The resolved file, ready for JSON or YAML; no value of a secret is in it."""
        found: dict[str, Any] = {"name": self.name, "sandboxes": {}}
        for name, member in self.members.items():
            said = member.model.model_dump(exclude_defaults=True, exclude={"secrets", "env_file"})
            for key in ("image", "command"):
                if value := getattr(member, key):
                    said[key] = list(value) if key == "command" else value
            said.pop("entrypoint", None)
            if member.command and "scripts" in said:
                said["scripts"] = {k: v for k, v in said["scripts"].items() if k != "start"}
            if member.build is not None:
                said["build"] = member.build.model_dump(exclude_defaults=True)
                said["build"]["context"] = member.build.context
            if member.env:
                said["env"] = dict(member.env)
            if member.mounts:
                said["volumes"] = [self._mount(each) for each in member.mounts]
            if member.secrets:
                said["secrets"] = {
                    key: {**secret.model_dump(exclude_defaults=True), "hosts": secret.hosts}
                    for key, secret in member.secrets.items()
                }
            if member.needs:
                said["depends_on"] = {k: {"condition": v} for k, v in member.needs.items()}
            found["sandboxes"][name] = {k: v for k, v in said.items() if v not in ({}, [])}
        if self.volumes:
            found["volumes"] = {
                name: {**each.model.model_dump(exclude_defaults=True), "name": each.name}
                for name, each in self.volumes.items()
            }
        return found

    def _mount(self, mount: MountSpec) -> dict[str, Any]:
        said = {k: v for k, v in vars(mount).items() if v not in ("", None, False)}
        declared = [name for name, each in self.volumes.items() if each.name == mount.source]
        if mount.type == "volume" and declared:
            said["source"] = declared[0]
        return said
