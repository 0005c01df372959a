"""The smallest list of rules that lets through what was reached. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from sandlot.network.addresses import special
from sandlot.network.flow import Protocol, destination
from sandlot.network.flows import FlowRecord
from sandlot.network.rules import HOST_NAME


def smallest_rules(flows: Iterable[FlowRecord]) -> list[str]:
    """Rules for every flow that was let through, each once: a name and port, or an address and port
    where no name was looked up. What was refused stays so."""
    rules: set[tuple[str, int, Protocol]] = set()
    for flow in flows:
        if flow.protocol in ("tcp", "udp") and flow.verdict in ("open", "closed", "failed"):
            protocol: Protocol = "udp" if flow.protocol == "udp" else "tcp"
            if flow.name == HOST_NAME:
                rules.add(("host", flow.port, protocol))
                continue
            rules.add((flow.name or flow.address, flow.port, protocol))
            if flow.name and special(ip_address(flow.address)) is not None:
                rules.add((flow.address, flow.port, protocol))  # a name alone does not open it
    return [destination(host, port, protocol) for host, port, protocol in sorted(rules)]
