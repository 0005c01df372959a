"""Why a policy lets a destination through or not, for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from typing import Any

from sandlot.errors import ConfigError
from sandlot.network.addresses import canonical
from sandlot.network.flow import LAST_PORT, Address, Decision, Flow, Protocol, destination
from sandlot.network.policy import Policy
from sandlot.network.rules import Target, parse_rule

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_FORMS = "use NAME:PORT, ADDRESS:PORT, host:PORT or a URL, then /udp for datagrams"


@dataclass(frozen=True)
class Explanation:
    """The verdict on a destination, and the steps that led to it."""

    destination: str
    verdict: Decision
    steps: tuple[tuple[str, Decision], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        steps = [{"step": step, **asdict(decision)} for step, decision in self.steps]
        return {"destination": self.destination, **asdict(self.verdict), "steps": steps}


def explain(policy: Policy, text: str, addresses: tuple[str, ...] = ()) -> Explanation:
    """What becomes of a destination.

    Args:
        policy: what decides.
        text: `NAME:PORT`, `ADDRESS:PORT`, `host:PORT`, with `/udp` for datagrams, or a URL. The port
            is 443 when there is none.
        addresses: what the name leads to; a public address otherwise.

    Raises:
        ConfigError: that is no destination.
    """
    host, port, protocol = _destination(policy, text)
    own = not isinstance(host, str) and host in policy.host_addresses
    where = destination("host" if own else host, port, protocol)
    steps: list[tuple[str, Decision]] = []
    if not isinstance(host, str):
        if addresses:
            raise ConfigError(f"{text!r} is not a name, so it leads to no address", hint=_FORMS)
        decision = policy.decide(Flow(protocol, host, port))
        if host.is_loopback and not own:
            decision = _of_loopback(decision, host, port, protocol)
        steps.append(("connect", decision))
    else:
        steps.append((f"look up {host}", policy.may_resolve(host)))
        steps += [(f"answer {each}", policy.may_answer(_address(each))) for each in addresses]
        if addresses:
            flows = [Flow(protocol, canonical(_address(each)), port, host) for each in addresses]
            steps += [(f"connect to {one.address}", policy.decide(one)) for one in flows]
        else:
            steps.append(("connect", policy.decide_name(host, port, protocol)))
    if own:
        steps = [(step, _of_host(decision, f"{host}")) for step, decision in steps]
    refused = [decision for _, decision in steps if not decision.allowed]
    # The last refusal knows the port, so its hint is the closest.
    return Explanation(where, refused[-1] if refused else steps[-1][1], tuple(steps))


def _of_host(decision: Decision, address: str) -> Decision:
    """The same without an address that only stands for the host."""
    text = decision.reason.replace(f"{address} is an address of the host itself", "it is the host")
    return replace(decision, reason=text.replace(address, "host"))


def _of_loopback(decision: Decision, address: Address, port: int, protocol: Protocol) -> Decision:
    """Who asks means the host's: the sandbox reaches its own without any rule."""
    if decision.allowed:
        return decision
    hint = f"allow {destination('host', port, protocol)}"
    reason = f"{address} is the sandbox itself, in the sandbox; the host's loopback is `host`"
    return replace(decision, reason=reason, hint=hint)


def _destination(policy: Policy, text: str) -> tuple[str | Address, int, Protocol]:
    scheme, is_url, rest = text.partition("://")
    bare = text
    port = 443
    if is_url:
        if scheme.lower() not in _PORTS:
            raise ConfigError(f"{text!r} is no destination", hint=_FORMS)
        bare = rest.partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
        port = _PORTS[scheme.lower()]
    rule = parse_rule(bare)
    if (rule.first, rule.last) != (1, LAST_PORT):
        if rule.first != rule.last:
            raise ConfigError(f"{text!r} is a range of ports, not a destination", hint=_FORMS)
        port = rule.first
    protocol: Protocol = rule.protocol or "tcp"
    if rule.target is Target.HOST:
        if not policy.host_addresses:
            raise ConfigError("the host's addresses are not known here", hint=_FORMS)
        return min(policy.host_addresses, key=str), port, protocol
    if rule.target is Target.NAME:
        return rule.name, port, protocol
    network = rule.network
    if network is None or network.prefixlen != network.max_prefixlen:
        raise ConfigError(f"{text!r} is many destinations, not one", hint=_FORMS)
    return network.network_address, port, protocol


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no address", hint="use one as 93.184.216.34") from None
