"""What a sandbox may reach: `Network` is what people write, `Policy` is what decides.

The rule of precedence: the most specific rule counts, separately among rules on addresses and among
rules on names; where the two disagree, and between equals, deny wins. `*` and the default speak when
nothing else did. What Sandlot refuses by itself are deny rules on addresses that lose against an
equal one of yours, so only a rule on addresses, or `host`, opens what is not the public internet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sandlot.errors import ConfigError
from sandlot.network.addresses import INNER, SPECIAL, Kind, canonical, embedded
from sandlot.network.flow import LAST_PORT, Address, Decision, Flow, Protocol, destination
from sandlot.network.matching import AddressIndex, Entry, NameIndex, PortTable, counting
from sandlot.network.names import ends_in_number
from sandlot.network.peers import PEER_ADDRESSES, checked_peers
from sandlot.network.rules import Rule, Target, parse_rule

Default: TypeAlias = Literal["deny", "public", "open"]
DEFAULTS: tuple[Default, ...] = ("deny", "public", "open")


@dataclass(frozen=True, init=False)
class Network:
    """What a sandbox may reach.

    Args:
        allow: rules of what may be reached. Given, even empty, everything else is refused.
        deny: rules of what may not be.
        default: what becomes of the rest: `"deny"`; `"public"`, the public internet; `"open"`, also
            private networks. `"deny"` when `allow` is given, `"public"` otherwise.
        hidden_names: let pass what hides the name that it asks for where only a rule on that name
            opens the way: TLS with an encrypted hello (ECH), which browsers always seem to send,
            and QUIC. Refused otherwise, since the server may be asked for any other name.
        ceiling: rules that hold besides these: what either refuses is refused. See `within`.
        peers: other sandboxes of yours that it reaches over TCP, by host name: each the name of a
            sandbox, or of several that take turns. No `allow` is needed; `deny` rules on the name
            hold. What listens there on loopback only is not reached.

    A rule is `TARGET[:PORT[-PORT]][/tcp|/udp]`, its target a name, `*.suffix`, an address, a CIDR
    range, `host` or `*`. The most specific rule counts, separately among rules on addresses and on
    names; where the two disagree, and between equals, deny wins.

    Raises:
        ConfigError: a rule or the default is wrong.

    Example:
        Network(allow=["api.example.com", "*.packages.example:443"], deny=["10.0.0.0/8"])
    """

    allow: tuple[str, ...]
    deny: tuple[str, ...]
    default: Default
    hidden_names: bool
    ceiling: Network | None = field(repr=False)
    peers: Mapping[str, tuple[str, ...]] = field(hash=False, repr=False)
    rules: tuple[tuple[str, Rule], ...] = field(repr=False, compare=False)

    def __init__(
        self,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] | None = None,
        default: Default | None = None,
        *,
        hidden_names: bool = False,
        ceiling: Network | None = None,
        peers: Mapping[str, str | Iterable[str]] | None = None,
    ) -> None:
        if not isinstance(hidden_names, bool):
            raise ConfigError(
                f"the network's hidden_names is {hidden_names!r}", hint="use True or False"
            )
        chosen = default or ("public" if allow is None else "deny")
        if chosen not in DEFAULTS:
            raise ConfigError(
                f"the network default {default!r} is not known", hint="use deny, public or open"
            )
        rules = (*_rules("allow", allow), *_rules("deny", deny))
        for verb in ("allow", "deny"):
            texts = tuple(str(rule) for each, rule in rules if each == verb)
            object.__setattr__(self, verb, texts)
        object.__setattr__(self, "default", chosen)
        object.__setattr__(self, "hidden_names", hidden_names)
        object.__setattr__(self, "ceiling", ceiling)
        object.__setattr__(self, "peers", checked_peers(peers or {}))
        object.__setattr__(self, "rules", rules)

    @classmethod
    def deny_all(cls) -> Network:
        """Nothing is reached, no name is looked up."""
        return cls(default="deny")

    @classmethod
    def public(cls) -> Network:
        """The public internet, and nothing else. This is what a sandbox gets that names no policy."""
        return cls(default="public")

    @classmethod
    def open(cls) -> Network:
        """The public internet and private networks.

        The host itself, loopback, link-local and cloud metadata addresses still have to be named.
        """
        return cls(default="open")

    def within(self, ceiling: Network) -> Network:
        """These rules, and `ceiling` over them: what either of the two refuses is refused."""
        if self.ceiling is not None:
            ceiling = self.ceiling.within(ceiling)
        both = {name: each for name, each in self.peers.items() if ceiling.peers.get(name) == each}
        return Network(
            self.allow, self.deny, self.default, ceiling=ceiling, peers=both,
            hidden_names=self.hidden_names and ceiling.hidden_names,
        )  # fmt: skip

    def with_peers(self, peers: Mapping[str, str | Iterable[str]]) -> Network:
        """The same rules, and these peers instead of those that it has."""
        return Network(
            self.allow, self.deny, self.default, ceiling=self.ceiling, peers=peers,
            hidden_names=self.hidden_names,
        )  # fmt: skip

    def compile(self, host_addresses: Iterable[Address] = ()) -> Policy:
        """What decides by these rules.

        Args:
            host_addresses: every address of the host, which `host` names and which are refused
                otherwise; also the one that stands for the host in the guest.
        """
        return Policy(self, host_addresses)

    def to_json(self) -> dict[str, Any]:
        """As plain data; `from_json` reads it."""
        more: dict[str, Any] = {}
        if self.ceiling is not None:
            more["ceiling"] = self.ceiling.to_json()
        if self.peers:
            more["peers"] = {name: list(each) for name, each in self.peers.items()}
        return {
            "default": self.default, "allow": list(self.allow), "deny": list(self.deny),
            "hidden_names": self.hidden_names, **more,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Network:
        """From what `to_json` gave.

        Raises:
            ConfigError: it is something else.
        """
        known = {"default", "allow", "deny"}
        # Records of earlier versions know nothing of these.
        newer = {"hidden_names", "ceiling", "peers"}
        if not isinstance(data, Mapping) or set(data) - newer != known:
            raise ConfigError(
                f"{str(data)[:80]!r} is no network policy", hint="use default, allow and deny"
            )
        if not data["default"]:
            raise ConfigError("the network policy has no default", hint="use deny, public or open")
        hidden = data.get("hidden_names", False)
        above = cls.from_json(data["ceiling"]) if data.get("ceiling") is not None else None
        return cls(
            data["allow"], data["deny"], data["default"], hidden_names=hidden, ceiling=above,
            peers=data.get("peers"),
        )  # fmt: skip


def _rules(verb: str, rules: Iterable[str] | None) -> list[tuple[str, Rule]]:
    if isinstance(rules, str | bytes) or not isinstance(rules or (), Iterable):
        raise ConfigError(
            f"the network's {verb} is {rules!r}, not a list of rules",
            hint=f'use {verb}=["api.example.com:443"]',
        )
    return [(verb, parse_rule(text)) for text in rules or ()]


class Policy:
    """The rules of one `Network`, indexed. It never changes: for other rules make another one."""

    def __init__(self, network: Network, host_addresses: Iterable[Address] = ()) -> None:
        self.network = network
        host_addresses = tuple(host_addresses)
        self.host_addresses = frozenset(map(canonical, host_addresses))
        self._own = Entry(False, "built-in host", kind=Kind.HOST)
        self._addresses = AddressIndex()
        self._names = NameIndex()
        self._any: dict[int, PortTable] = {}
        any_: dict[int, list[Entry]] = {4: [], 6: []}
        for verb, rule in network.rules:
            text = f"{verb} {rule}"
            entry = Entry(verb == "allow", text, rule.first, rule.last, rule.protocol)
            self._add(rule, entry, any_)
        self._add_own(network.default)
        self._any = {version: PortTable(entries) for version, entries in any_.items()}
        self._addresses.seal()
        self._names.seal()
        self._ceiling = network.ceiling.compile(host_addresses) if network.ceiling else None

    def _add(self, rule: Rule, entry: Entry, any_: dict[int, list[Entry]]) -> None:
        if rule.target is Target.ANY:
            any_[4].append(entry)
            any_[6].append(entry)
        elif rule.target is Target.HOST:
            for address in self.host_addresses:
                self._addresses.add(address, address.max_prefixlen, entry)
        elif rule.network is None:
            self._names.add(rule.name, rule.target is Target.SUFFIX, entry)
        elif rule.network.prefixlen == 0:  # a whole family names no address, it is a `*`
            any_[rule.network.version].append(entry)
        else:
            self._addresses.add(rule.network.network_address, rule.network.prefixlen, entry)

    def _add_own(self, default: Default) -> None:
        for each in SPECIAL:
            if default == "open" and each.kind in INNER:
                continue
            neutral = each.kind is Kind.TRANSLATED  # keeps wider ranges out, and says nothing
            entry = Entry(neutral, f"built-in {each.network}", kind=each.kind)
            self._addresses.add(each.network.network_address, each.network.prefixlen, entry)
        for address in self.host_addresses:
            self._addresses.add(address, address.max_prefixlen, self._own)

    def decide(self, flow: Flow) -> Decision:
        """Whether a flow may be. Time, sockets and earlier flows play no part in it."""
        address = canonical(flow.address)
        own = self._decide(flow.protocol, address, flow.port, flow.name)
        return self._ceiling.decide(flow) if own.allowed and self._ceiling is not None else own

    def decide_name(self, name: str, port: int, protocol: Protocol = "tcp") -> Decision:
        """The same for a name whose addresses are not known, taken for public ones."""
        own = self._decide(protocol, None, port, name)
        if own.allowed and self._ceiling is not None:
            return self._ceiling.decide_name(name, port, protocol)
        return own

    def choose(
        self, protocol: Protocol, address: Address, port: int, names: Iterable[str]
    ) -> tuple[Flow, Decision]:
        """The flow to an address that several names were looked up for, by the first that may.

        When none may, by the first.
        """
        candidates: list[str | None] = [*names] or [None]
        first: tuple[Flow, Decision] | None = None
        for name in candidates:
            flow = Flow(protocol, address, port, name)
            decision = self.decide(flow)
            if decision.allowed:
                return flow, decision
            first = first or (flow, decision)
        assert first is not None
        return first

    def _decide(
        self, protocol: Protocol, address: Address | None, port: int, name: str | None
    ) -> Decision:
        if not 1 <= port <= LAST_PORT:
            return Decision(False, "built-in port", f"port {port} is none")
        near = address is None or address in PEER_ADDRESSES
        if near and name is not None and name in self.network.peers:
            return self._decide_peer(protocol, port, name)
        opening: Entry | None = None
        for each in () if address is None else (address, *embedded(address)):
            if each is not address and each in self.host_addresses:
                # Where a translator leads with this address of ours, nobody knows.
                return _refused(self._own, protocol, each, port, address)
            entry = self._addresses.find(each, protocol, port)
            if entry is not None and entry.kind is not Kind.TRANSLATED:
                if not entry.allowed:
                    return _refused(entry, protocol, each, port, address)
                opening = entry
        if name is not None:
            entry = self._names.find(name, protocol, port)
            if entry is not None:
                if not entry.allowed:
                    return _refused(entry, protocol, name, port)
                opening = opening or entry
        what = name or address or ""
        if opening is None:
            opening = self._any[6 if address and address.version == 6 else 4].find(protocol, port)
            if opening is not None and not opening.allowed:
                return _refused(opening, protocol, what, port)
        if opening is not None:
            return Decision(True, opening.text, f"the rule `{opening.text}` allows it")
        default = self.network.default
        if default != "deny":
            return Decision(
                True, f"default {default}", "no rule is about it, and it is not refused"
            )
        where = destination(what, port, protocol)
        reason = f"no rule allows {where}"
        if name is None:
            reason += ", and no name was looked up for it"
        return Decision(False, "default deny", reason, f"allow {where}")

    def _decide_peer(self, protocol: Protocol, port: int, name: str) -> Decision:
        entry = self._names.find(name, protocol, port)
        if entry is not None and not entry.allowed:
            return _refused(entry, protocol, name, port)
        if protocol != "tcp":
            return Decision(False, "built-in peers", "sandboxes reach each other over TCP")
        return Decision(True, f"peer {name}", "it is a peer of the sandbox")

    def may_resolve(self, name: str) -> Decision:
        """Whether a name may be asked of the DNS at all: when it is allowed for some port.

        Args:
            name: lower case, without the final dot, as `names.normalise` gives it.
        """
        own = self._may_resolve(name)
        return self._ceiling.may_resolve(name) if own.allowed and self._ceiling is not None else own

    def _may_resolve(self, name: str) -> Decision:
        if name in self.network.peers:
            return Decision(True, f"peer {name}", "it is a peer of the sandbox")
        if ends_in_number(name):
            return Decision(False, "built-in names", f"{name} is an address, not a name")
        denied: Entry | None = None
        for version in (4, 6):
            found, more = counting([*self._names.tables(name), self._any[version]])
            for entry in found:
                if entry.allowed:
                    return Decision(True, entry.text, f"the rule `{entry.text}` allows it")
            if more and self.network.default != "deny":
                default = f"default {self.network.default}"
                return Decision(True, default, "no rule denies it for every port")
            denied = denied or next(iter(found), None)
        if denied is not None:
            return Decision(False, denied.text, f"the rule `{denied.text}` denies {name}", "")
        return Decision(False, "default deny", f"no rule allows {name}", f"allow {name}")

    def denies_name(self, name: str) -> Decision | None:
        """The refusal of a name that deny rules on names cover for every port, or None."""
        found, more = counting(self._names.tables(name))
        if more or not found or any(entry.allowed for entry in found):
            return self._ceiling.denies_name(name) if self._ceiling is not None else None
        text = found[0].text
        return Decision(False, text, f"the rule `{text}` denies {name}")

    def may_answer(self, address: Address) -> Decision:
        """Whether an address may stand in an answer of the DNS.

        One that Sandlot refuses by itself may not, unless a rule on addresses opens a port of it: a
        public name that leads to a private address is rebinding.
        """
        real = canonical(address)
        for each in (real, *embedded(real)):
            found, more = counting(self._addresses.tables(each))
            own = next((entry for entry in found if entry.kind is not None), None)
            if own is not None and not more and not any(entry.allowed for entry in found):
                reason = f"{each} is a {own.kind} address, which no name opens"
                return Decision(False, own.text, reason, f"allow {each}")
        if self._ceiling is not None:
            return self._ceiling.may_answer(address)
        return Decision(True, "", "it is not refused")


def _refused(
    entry: Entry, protocol: Protocol, what: str | Address, port: int, asked: Address | None = None
) -> Decision:
    """The refusal by a rule of the user's, or by one of Sandlot's own."""
    where = destination(what, port, protocol)
    if entry.kind is None:
        reason = f"the rule `{entry.text}` denies it"
        return Decision(False, entry.text, reason, f"take `{entry.text}` away, or narrow it")
    inside = f"{what}, which {asked} holds," if asked is not None and asked != what else f"{what}"
    if entry.kind is Kind.HOST:
        reason = (
            f"{inside} is an address of the host itself, which only `host` or a rule on it opens"
        )
        return Decision(False, entry.text, reason, f"allow {destination('host', port, protocol)}")
    reason = f"{inside} is a {entry.kind} address, which only a rule on addresses opens"
    return Decision(False, entry.text, reason, f"allow {where}")
