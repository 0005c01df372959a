"""`Sandbox.network` without `await`."""

from __future__ import annotations

from collections.abc import Iterator

from sandlot.network.flows import FlowRecord
from sandlot.network.policy import Network
from sandlot.sandbox import network as origin
from sandlot.sync.portal import drained, run


class SandboxNetwork:
    """See `sandlot.sandbox.network.SandboxNetwork`."""

    def __init__(self, network: origin.SandboxNetwork) -> None:
        self._network = network

    @property
    def policy(self) -> Network:
        """See `SandboxNetwork.policy`."""
        return self._network.policy

    def flows(self) -> list[FlowRecord]:
        """See `SandboxNetwork.flows`."""
        return self._network.flows()

    def follow(self) -> Iterator[FlowRecord]:
        """See `SandboxNetwork.follow`."""
        return drained(self._network.follow())

    def learn(self) -> list[str]:
        """See `sandlot.SandboxNetwork.learn`."""
        return self._network.learn()

    def replace_secret(self, name: str, secret: object) -> None:
        """See `SandboxNetwork.replace_secret`."""
        self._network.replace_secret(name, secret)

    def update(self, network: Network) -> int:
        """See `SandboxNetwork.update`."""
        return run(self._network.update(network))
