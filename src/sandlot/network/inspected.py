"""The hosts whose connections are looked into, whether a secret names them or not. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sandlot.errors import ConfigError
from sandlot.network.rules import HOST_NAME, Rule, Target, parse_rule


def inspected_rules(texts: Iterable[str]) -> list[Rule]:
    """What `inspect=` may be: names, `*.suffix`, `host` or `*`, each with ports or without.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(texts, str | bytes):
        raise ConfigError(
            f"inspect is {texts!r}, not a list of hosts", hint='use inspect=["api.example.com"]'
        )
    rules = []
    for text in texts:
        rule = parse_rule(text)
        if rule.network is not None or rule.protocol == "udp":
            raise ConfigError(
                f"{text!r} cannot be looked into", hint="use a host name, *.SUFFIX, host or *"
            )
        rules.append(rule)
    return rules


class Inspected:
    """Such hosts.

    Args:
        texts: each as `inspected_rules` takes it.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._rules = inspected_rules(texts)

    def concerns(self, host: str, port: int) -> bool:
        """Whether connections to this host (in its normal form) are looked into."""
        return any(rule.first <= port <= rule.last and _matches(rule, host) for rule in self._rules)


def _matches(rule: Rule, host: str) -> bool:
    if rule.target is Target.ANY:
        return True
    if rule.target is Target.HOST:
        return host == HOST_NAME
    return host.endswith(f".{rule.name}") if rule.target is Target.SUFFIX else host == rule.name
