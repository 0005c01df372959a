"""The network of one sandbox that this program runs: its gateway and its published ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sandlot.guest.channel import Channel
from sandlot.network.flows import FlowLog, FlowRecord
from sandlot.network.gateway import Gateway
from sandlot.network.hooks import Hooks
from sandlot.network.limits import MOST_CONNECTIONS, NetworkLimits
from sandlot.network.policy import Network
from sandlot.network.ports import Ports
from sandlot.network.published import PublishedPort
from sandlot.network.resolver import Resolver
from sandlot.state.records import SandboxFolder, SandboxRecord


def recorded_network(record: SandboxRecord) -> Network:
    """The policy that a sandbox was made with, or was last given."""
    return Network.from_json(record.network) if record.network else Network.public()


class Reach:
    """Made before the machine, so that a port that is in use is told before anything is started."""

    def __init__(
        self, folder: SandboxFolder, record: SandboxRecord, channel: Callable[[], Awaitable[Any]],
        hooks: Hooks | None = None,
    ) -> None:  # fmt: skip
        limits = NetworkLimits(
            connections=record.connections or MOST_CONNECTIONS, bytes_per_second=record.bandwidth
        )
        self.gateway = Gateway(
            recorded_network(record), FlowLog(lambda: folder.flows), hostname=record.hostname,
            limits=limits, hooks=hooks,
            resolver=Resolver([(server, 53) for server in record.dns] or None),
        )  # fmt: skip
        self._ports = Ports([PublishedPort.from_json(each) for each in record.ports])
        self._ports.channel = channel
        self._ports.datagrams = lambda: self.gateway.datagrams
        self._ports.open()
        self._serving = False

    @property
    def ports(self) -> list[PublishedPort]:
        """What is published, with the ports that the system chose."""
        return list(self._ports.bound)

    def attach(self, channel: Channel) -> None:
        """Serve a machine that has come up."""
        self.gateway.attach(channel)
        if not self._serving:
            self._serving = True
            self._ports.serve()

    def update(self, network: Network) -> list[FlowRecord]:
        """Hold to another policy at once; the flows that it cuts are returned."""
        return self.gateway.update(network)

    def close(self) -> None:
        """The sandbox has stopped."""
        self._ports.close()
        self.gateway.close()
