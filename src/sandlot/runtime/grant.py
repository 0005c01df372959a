"""`RuntimeAccess`: what the programs of a sandbox may start. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandlot.errors import ConfigError
from sandlot.network.policy import Network
from sandlot.sizes import parse_size

MIB = 1 << 20
SMALLEST = 128 * MIB
"""The least memory of one peer."""
MOST_SANDBOXES = 256
DEEPEST = 8
Lifetime = Literal["owner", "detached"]


@dataclass(frozen=True, init=False)
class RuntimeAccess:
    """What the programs of a sandbox may start: peers, each a machine of its own.

        await Sandbox.create(image="agent", runtime=RuntimeAccess(
            max_sandboxes=4, images=["python:3.12"], memory="2G", secrets=["SERP_KEY"]))

    It is the ceiling: whatever is asked is checked on the host against it and against what was
    started already.

    Args:
        max_sandboxes: how many may exist at once, those that peers may start included.
        images: names of images that may be used, as they are asked for; none is the default.
        memory: bytes or text, of all of them together.
        cpus: the most processors of one of them.
        disk: the most disk of one of them, bytes or text.
        network: the most that they may reach; nothing when None. What a guest asks for holds
            besides it.
        secrets: names of the sandbox's own secrets that its peers may use too.
        max_depth: 1 when peers may start nothing themselves, 2 when their peers may not, and so on.
        lifetime: `"owner"`: they are stopped and removed with the sandbox that started them;
            `"detached"`: they live on until somebody stops them.

    Raises:
        ConfigError: one of these is wrong.
    """

    max_sandboxes: int
    images: tuple[str, ...]
    memory: int
    cpus: int
    disk: int
    network: Network
    secrets: tuple[str, ...]
    max_depth: int
    lifetime: Lifetime

    def __init__(
        self, max_sandboxes: int = 1, *, images: Iterable[str] = (), memory: int | str = "1G",
        cpus: int = 1, disk: int | str = "4G", network: Network | None = None,
        secrets: Iterable[str] = (), max_depth: int = 1, lifetime: Lifetime = "owner",
    ) -> None:  # fmt: skip
        if network is not None and not isinstance(network, Network):
            raise ConfigError(
                f"the runtime's network is {type(network).__name__}, not a Network",
                hint='use network=Network(allow=["api.example.com"])',
            )
        if lifetime not in ("owner", "detached"):
            raise ConfigError(
                f"the runtime's lifetime is {lifetime!r}", hint='use "owner" or "detached"'
            )
        size = parse_size(memory, "the runtime's memory") // MIB * MIB
        if size < SMALLEST:
            raise ConfigError(
                f"the runtime's memory {memory} is less than one sandbox needs",
                hint="use at least 128M",
            )
        checked = {
            "max_sandboxes": _number(max_sandboxes, "max_sandboxes", MOST_SANDBOXES),
            "images": _names(images, "images"),
            "memory": size,
            "cpus": _number(cpus, "cpus", 64),
            "disk": parse_size(disk, "the runtime's disk") // MIB * MIB,
            "network": network if network is not None else Network.deny_all(),
            "secrets": _names(secrets, "secrets"),
            "max_depth": _number(max_depth, "max_depth", DEEPEST),
            "lifetime": lifetime,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def narrowed(
        self, *, network: Network | None = None, secrets: Iterable[str] | None = None
    ) -> RuntimeAccess:
        """The same with another policy besides, or with no other secrets than these."""
        changed: dict[str, Any] = {}
        if network is not None:
            changed["network"] = self.network.within(network)
        if secrets is not None:
            kept = set(secrets)
            changed["secrets"] = [each for each in self.secrets if each in kept]
        return dataclasses.replace(self, **changed)

    def to_json(self) -> dict[str, Any]:
        """As plain data; `from_json` reads it."""
        return {
            "max_sandboxes": self.max_sandboxes, "images": list(self.images),
            "memory": self.memory, "cpus": self.cpus, "disk": self.disk,
            "network": self.network.to_json(), "secrets": list(self.secrets),
            "max_depth": self.max_depth, "lifetime": self.lifetime,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RuntimeAccess:
        """From what `to_json` gave.

        Raises:
            ConfigError: it is something else.
        """
        try:
            given = dict(data)
            network = Network.from_json(given.pop("network"))
            return cls(**given, network=network)
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError("the record of a runtime's grant is damaged") from error


def _number(value: object, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"the runtime's {what} is {value!r}", hint=f"use 1 to {most}")
    return value


def _names(given: object, what: str) -> tuple[str, ...]:
    listed = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
    if listed is None or not all(isinstance(each, str) and each for each in listed):
        raise ConfigError(
            f"the runtime's {what} is {given!r}, not a list of names",
            hint=f'use for example {what}=["python:3.12"]'
            if what == "images" else f'use for example {what}=["SERP_KEY"]',
        )  # fmt: skip
    return tuple(dict.fromkeys(listed))
