"""`NetworkMonitor`: whom sandboxes talk to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sandlot.network.flows import FlowRecord
from sandlot.plugin.hooks import FlowContext

MOST_HOSTS = 10_000


@dataclass(slots=True)
class HostUse:
    """What a sandbox had to do with one host. Bytes count when a connection has ended; times are in
    seconds since 1970."""

    sandbox: str
    host: str
    connections: int = 0
    open: int = 0
    denied: int = 0
    failed: int = 0
    questions: int = 0
    """Of the DNS."""
    sent: int = 0
    received: int = 0
    first: float = 0.0
    last: float = 0.0


class NetworkMonitor:
    """Counts connections, refusals and bytes of each sandbox and host.

        monitor = NetworkMonitor(on_new_host=lambda use: print(use.sandbox, "talks to", use.host))
        sb = await Sandbox.create(image="demo", plugins=[monitor])
        print(monitor.hosts())

    Args:
        on_new_host: called when a sandbox first has to do with a host.
        most: how many are kept; those that were quiet the longest are dropped first.
    """

    name = "network-monitor"

    def __init__(
        self, *, on_new_host: Callable[[HostUse], object] | None = None, most: int = MOST_HOSTS
    ) -> None:
        self._on_new_host = on_new_host
        self._most = most
        self._hosts: OrderedDict[tuple[str, str], HostUse] = OrderedDict()

    def on_flow(self, ctx: FlowContext) -> None:
        record = ctx.record
        host = record.name or record.address
        use = self._hosts.get((ctx.sandbox, host))
        fresh = use is None
        if use is None:
            use = HostUse(ctx.sandbox, host, first=record.time)
            self._hosts[ctx.sandbox, host] = use
            while len(self._hosts) > self._most:
                self._hosts.popitem(last=False)
        self._hosts.move_to_end((ctx.sandbox, host))
        _count(use, record)
        if fresh and self._on_new_host is not None:
            self._on_new_host(use)

    def hosts(self, sandbox: str | None = None) -> list[HostUse]:
        """Those that were seen, of one sandbox or of all, the most recent last."""
        return [use for use in self._hosts.values() if sandbox in (None, use.sandbox)]


def _count(use: HostUse, record: FlowRecord) -> None:
    use.last = record.ended or record.time
    if record.protocol == "dns":
        use.questions += 1
        use.denied += record.verdict == "denied"
    elif record.verdict == "open":
        use.connections += 1
        use.open += 1
    elif record.ended:
        use.open = max(0, use.open - 1)
        use.sent += record.sent
        use.received += record.received
        use.failed += record.verdict == "failed"
        use.denied += record.verdict in ("denied", "cut")
    else:
        use.denied += record.verdict == "denied"
