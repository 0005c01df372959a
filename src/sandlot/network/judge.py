"""Who says yes or no to a flow: the policy, the names that were looked up, the hooks of the host."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from sandlot.errors import Refuse
from sandlot.network.flow import Address, Decision, Flow, Protocol, destination
from sandlot.network.hooks import Answer, Hooks
from sandlot.network.policy import Network, Policy
from sandlot.network.questions import Questions

NOWHERE = IPv4Address(0)
"""The address of a flow that is only a name yet; its port is 0."""
NamesOf = Callable[[Address], Iterable[str]]


class Judge:
    """Decides the flows of one sandbox. `names_of` gives the names pinned to an address now."""

    def __init__(
        self, network: Network, host_addresses: Iterable[Address], names_of: NamesOf, hooks: Hooks,
        is_own: Callable[[Address], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self._host_addresses = set(host_addresses)
        self._is_own = is_own
        self._names_of = names_of
        self._hooks = hooks
        self._agreed: dict[tuple[str, str, int], str] = {}
        """What was agreed to for good, and which refusal that was about."""
        self._questions: Questions | None = None
        self._replaced = 0
        """How often the rules were replaced."""
        self.network = network
        self.policy: Policy = network.compile(self._host_addresses)

    def replace(self, network: Network) -> None:
        """Decide by other rules from now on; what was agreed to by `ask` is forgotten."""
        self._replaced += 1
        self.policy = network.compile(self._host_addresses)
        self.network = network
        self._agreed.clear()

    def look(self, protocol: Protocol, address: Address, port: int) -> tuple[Flow, Decision]:
        """What the rules alone say."""
        flow, decision = self.policy.choose(protocol, address, port, self._names_of(address))
        return flow, self._with_agreed(flow, decision)

    def names_of(self, address: Address) -> tuple[str, ...]:
        """The names that an address was looked up for, and may still be reached by."""
        return tuple(self._names_of(address))

    def without_name(self, flow: Flow) -> Decision:
        """What the rules say to a flow when its name does not count."""
        return self.policy.decide(replace(flow, name=None))

    def by_name_alone(self, flow: Flow) -> bool:
        """Whether nothing but a rule on its name lets a flow through."""
        return flow.name is not None and not self.without_name(flow).allowed

    def still(self, flow: Flow) -> Decision:
        """What the rules say now to a flow that goes on, whose name may have lapsed since."""
        return self._with_agreed(flow, self.policy.decide(flow))

    def _with_agreed(self, flow: Flow, decision: Decision) -> Decision:
        # For this refusal only: a name may lead to an address that another rule refuses.
        if not decision.allowed and self._agreed.get(self._key(flow)) == decision.rule:
            return Decision(True, "asked", "it was allowed when it was asked for")
        return decision

    async def judge(self, protocol: Protocol, address: Address, port: int) -> tuple[Flow, Decision]:
        """What rules and hooks say to a flow."""
        if address not in self._host_addresses and self._is_own(address):
            self._host_addresses.add(address)
            self.policy = self.policy.network.compile(self._host_addresses)
        rules = self._replaced
        flow, decision = self.look(protocol, address, port)
        refusal = decision.rule
        if not decision.allowed and self._hooks.ask is not None and "built-in" not in decision.rule:
            answer, decision = await self._asked(flow, decision)
            if answer == "always" and self._replaced == rules:
                self._agreed[self._key(flow)] = refusal
        if self._hooks.on_connect is not None:
            decision = await self._hook(self._hooks.on_connect, flow, decision)
        if self._replaced != rules:  # they changed while a hook thought
            return await self.judge(protocol, address, port)
        return flow, decision

    async def agrees_to_name(self, name: str, decision: Decision) -> bool:
        """Whether a name that no rule is about may be looked up, and reached, because who is asked
        says so. It is allowed from then on."""
        if self._hooks.ask is None or decision.rule != "default deny":
            return False
        answer, _ = await self._asked(Flow("tcp", NOWHERE, 0, name), decision)
        if answer == "deny":
            return False
        self.policy = Network(
            [*self.policy.network.allow, name], self.policy.network.deny,
            self.policy.network.default, hidden_names=self.network.hidden_names,
            ceiling=self.network.ceiling, peers=self.network.peers,
        ).compile(self._host_addresses)  # fmt: skip
        return True

    async def _asked(self, flow: Flow, decision: Decision) -> tuple[Answer, Decision]:
        if self._questions is None:
            assert self._hooks.ask is not None
            self._questions = Questions(self._hooks.ask, self._hooks.ask_timeout)
        return await self._questions.put(self._key(flow), flow, decision)

    async def judge_name(self, name: str, decision: Decision) -> Decision:
        """What the hooks say to a question of the DNS that the rules have decided."""
        if self._hooks.on_dns is not None:
            decision = await self._hook(self._hooks.on_dns, name, decision)
        return decision

    @staticmethod
    async def _hook(hook: Callable[..., Any], what: object, decision: Decision) -> Decision:
        try:
            changed = await _called(hook, what, decision)
        except Refuse as refusal:
            return Decision(False, "hook", refusal.message)
        except Exception as error:  # what cannot be judged is not allowed
            return Decision(False, "hook", f"the hook failed: {error!r}")
        return changed if isinstance(changed, Decision) else decision

    @staticmethod
    def _key(flow: Flow) -> tuple[str, str, int]:
        return flow.protocol, flow.name or str(flow.address), flow.port


async def _called(function: Callable[..., Any], *arguments: object) -> Any:
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


def refusal_text(flow: Flow, decision: Decision) -> str:
    """One line about a denial, for people."""
    where = destination(flow.name or flow.address, flow.port, flow.protocol)
    return f"{where} was refused: {decision.reason}"
