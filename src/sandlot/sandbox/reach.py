"""The network of one sandbox that this program runs: its gateway and its published ports."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sandlot.files.files import Files
from sandlot.guest.session import GuestSession
from sandlot.network.flows import FlowLog, FlowRecord
from sandlot.network.gateway import Gateway
from sandlot.network.hooks import Hooks
from sandlot.network.limits import MOST_CONNECTIONS, NetworkLimits
from sandlot.network.policy import Network
from sandlot.network.ports import Ports
from sandlot.network.published import PublishedPort
from sandlot.network.resolver import Resolver, server
from sandlot.sandbox.trusting import install
from sandlot.settings import Settings
from sandlot.state.paths import StatePaths
from sandlot.state.records import SandboxFolder, SandboxFolders, SandboxRecord

# What only a sandbox with secrets needs is imported for one.
if TYPE_CHECKING:
    from sandlot.network.interception import Interceptor
    from sandlot.network.tls.authority import Authority
    from sandlot.sandbox.peering import Peering
    from sandlot.secrets import Secret, Vault


def recorded_network(record: SandboxRecord) -> Network:
    """The policy that a sandbox was made with, or was last given."""
    return Network.from_json(record.network) if record.network else Network.public()


class Reach:
    """Made before the machine, so that a port that is in use is told before anything is started."""

    def __init__(
        self, folder: SandboxFolder, record: SandboxRecord, channel: Callable[[], Awaitable[Any]],
        hooks: Hooks | None = None, secrets: Mapping[str, Secret] | None = None,
        lineage: Authority | None = None,
    ) -> None:  # fmt: skip
        limits = NetworkLimits(
            connections=record.connections or MOST_CONNECTIONS, bytes_per_second=record.bandwidth
        )
        self.vault: Vault | None = None
        self.authority: Authority | None = None
        hooks = hooks or Hooks()
        looks = record.secrets or record.inspect
        interceptor = self._look_inside(record, hooks, secrets or {}, lineage) if looks else None
        self.gateway = Gateway(
            recorded_network(record), FlowLog(lambda: folder.flows), hostname=record.hostname,
            limits=limits, hooks=hooks, interceptor=interceptor,
            resolver=Resolver([server(each) for each in record.dns] or None),
        )  # fmt: skip
        self._peering: Peering | None = None
        self.gateway.reach_peer = self._peer
        self._folder = folder
        self._ports = Ports([PublishedPort.from_json(each) for each in record.ports])
        self._ports.channel = channel
        self._ports.datagrams = lambda: self.gateway.datagrams
        self._ports.open()
        self._serving = False

    def _look_inside(
        self, record: SandboxRecord, hooks: Hooks, secrets: Mapping[str, Secret],
        lineage: Authority | None,
    ) -> Interceptor:  # fmt: skip
        from sandlot.network.inspected import Inspected
        from sandlot.network.interception import Interceptor
        from sandlot.network.tls.authority import Authority
        from sandlot.network.tls.trust import Trust
        from sandlot.sandbox.secrecy import recorded_secrets
        from sandlot.secrets import Vault

        self.vault = Vault(recorded_secrets(record, secrets), record.placeholders)
        self.authority = Authority(record.name, parent=lineage)
        trust = Trust(extra_ca=record.upstream_ca or None, gets_secrets=self.vault.concerns)
        inspected = Inspected(record.inspect)
        return Interceptor(self.vault, self.authority, trust, hooks, inspected)

    def plug(
        self, watch: Callable[[FlowRecord], None] | None, pace: Callable[[int], float] | None
    ) -> None:
        """Tell plugins of flows, and of the bytes that they carry."""
        if watch is not None:
            self.gateway.log.watchers.append(watch)
        if pace is not None:
            self.gateway.add_pace(pace)

    @property
    def ports(self) -> list[PublishedPort]:
        """What is published, with the ports that the system chose."""
        return list(self._ports.bound)

    async def prepare(self) -> None:
        """Read the secrets, before a machine is started for nothing.

        Raises:
            SecretUnavailable: the value of one cannot be had.
        """
        if self.vault is not None:
            await self.vault.read_all()

    async def attach(self, session: GuestSession) -> None:
        """Serve a machine that has come up, and let its programs trust the authority."""
        self.gateway.attach(session.channel)
        if self.authority is not None:

            async def itself() -> GuestSession:
                return session

            await install(Files(itself), self.authority.certificate_pem)
        if not self._serving:
            self._serving = True
            self._ports.serve()

    async def _peer(self, names: Sequence[str], port: int) -> socket.socket:
        if self._peering is None:
            from sandlot.sandbox.peering import Peering

            sockets = StatePaths.of(Settings.read()).sockets
            self._peering = Peering(SandboxFolders(self._folder.path.parent), sockets)
        return await self._peering.connect(names, port)

    def update(self, network: Network) -> list[FlowRecord]:
        """Hold to another policy at once; the flows that it cuts are returned."""
        return self.gateway.update(network)

    def close(self) -> None:
        """The sandbox has stopped."""
        self._ports.close()
        self.gateway.close()
        if self._peering is not None:
            self._peering.close()
