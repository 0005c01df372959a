"""Errors in the words of the command line: flags where the library has arguments. Pure."""

from __future__ import annotations

import re

FLAGS = {
    "upstream_ca": "--upstream-ca", "env": "-e", "secrets": "--secret", "inspect": "--inspect",
    "ports": "-p", "memory": "--memory", "cpus": "--cpus", "disk": "--disk", "dns": "--dns",
    "network": "--network", "hostname": "--hostname", "workdir": "--workdir", "user": "--user",
    "idle_action": "--idle-action", "idle_timeout": "--idle-timeout",
    "max_duration": "--max-duration", "restart": "--restart", "stop_signal": "--stop-signal",
    "stop_grace": "--stop-timeout", "pids": "--pids-limit", "labels": "--label",
    "connections": "--connections", "bandwidth": "--bandwidth", "platform": "--platform",
    "pull": "--pull", "detached": "--detach", "volumes": "-v",
    "plugins": "--plugin", "plugin_processes": "--plugin-process",
}  # fmt: skip
"""Arguments of `Sandbox.create`, and the flags of `run` that stand for them."""
_BOTH = re.compile(r"\b\w+=\w* or (?=--?\w)")
_ASIDE = re.compile(r"\b\w+=\w+ \((--[\w-]+)\)")
_VALUE = re.compile(r"\b(\w+)='([^']*)'|\b(\w+)=(?=[\s;,.:)]|$)")
_UNDERSCORED = re.compile(r"\b[a-z]+_[a-z]+\b")


def in_flags(text: str) -> str:
    """The same text for who uses the command line."""
    text = _BOTH.sub("", _ASIDE.sub(r"\1", text))
    text = _VALUE.sub(_swapped, text)
    return _UNDERSCORED.sub(lambda found: FLAGS.get(found[0], found[0]), text)


def _swapped(found: re.Match[str]) -> str:
    flag = FLAGS.get(found[1] or found[3])
    if flag is None:
        return found[0]
    return f"{flag} {found[2]}" if found[1] else flag
