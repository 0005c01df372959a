"""What a sandbox may do by itself, checked: limits of processes and time, restarts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandlot.errors import ConfigError
from sandlot.sandbox.arguments import mapping, text
from sandlot.sandbox.sizes import parse_duration

MODES = ("no", "on-failure", "always", "unless-stopped")
IDLE_ACTIONS = ("stop", "hibernate")
MOST_PIDS = 16384
FIRST_DELAY = 0.1  # seconds; doubles, as Docker's
LONGEST_DELAY = 60.0
STEADY = 10.0  # seconds of running after which the delay begins anew


@dataclass(frozen=True)
class RestartPolicy:
    """When a detached sandbox's main command is run again, in a machine of its own."""

    mode: str
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> RestartPolicy:
        """`no`, `on-failure`, `on-failure:3`, `always` or `unless-stopped`.

        Raises:
            ConfigError: none of these.
        """
        mode, colon, number = text.partition(":")
        if mode not in MODES or (colon and (mode != "on-failure" or not number.isdecimal())):
            raise ConfigError(
                f"restart {text!r} is not a restart policy",
                hint="use no, on-failure[:N], always or unless-stopped",
            )
        return cls(mode, int(number) if number else 0)

    @property
    def restarts(self) -> bool:
        """Whether there is anything to do at an end."""
        return self.mode != "no"

    def again(self, failed: bool, count: int) -> bool:
        """Whether to restart after an end, when that was done `count` times already."""
        if self.mode == "on-failure":
            return failed and (not self.most or count < self.most)
        return self.restarts


class Backoff:
    """How long to wait before the next restart."""

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def delay(self, ran: float) -> float:
        """Seconds to wait, after a run of `ran` seconds."""
        if ran >= STEADY:
            self._next = FIRST_DELAY
        now, self._next = self._next, min(2 * self._next, LONGEST_DELAY)
        return now


def check_policy(
    *, pids: int = 0, idle_timeout: float | str | None = None, idle_action: str = "stop",
    max_duration: float | str | None = None, restart: str = "no", stop_signal: str = "",
    stop_grace: float | str | None = None, labels: Mapping[str, str] | None = None,
    detached: bool = False, auto_remove: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """These options as fields of a record.

    Raises:
        ConfigError: one is wrong.
    """
    if isinstance(pids, bool) or not isinstance(pids, int) or not 0 <= pids <= MOST_PIDS:
        raise ConfigError(
            f"pids {pids!r} is out of range", hint=f"use 1 to {MOST_PIDS}, or 0 for no own limit"
        )
    if 0 < pids < 8:
        raise ConfigError(f"pids {pids} is too few for a machine", hint="use at least 8")
    if idle_action not in IDLE_ACTIONS:
        raise ConfigError(
            f"idle_action {idle_action!r} is not known", hint="use 'stop' or 'hibernate'"
        )
    idle = parse_duration(idle_timeout, "idle_timeout") or 0.0
    if idle_action != "stop" and not idle:
        raise ConfigError(
            f"idle_action {idle_action!r} needs idle_timeout",
            hint='use for example idle_timeout="10m" (--idle-timeout 10m)',
        )
    policy = RestartPolicy.parse(text(restart, "restart", 'restart="on-failure:3"'))
    if policy.restarts and not detached:
        raise ConfigError(
            f"restart {restart!r} needs a detached sandbox",
            hint="an attached one ends with its program; use detached=True or -d",
        )
    if policy.restarts and auto_remove:
        raise ConfigError(f"restart {restart!r} cannot be combined with --rm")
    given = mapping(labels, "labels", 'labels={"team": "a"}')
    for name, value in given.items():
        if not re.fullmatch(r"[^\s=]{1,128}", name) or not isinstance(value, str):
            raise ConfigError(f"{name!r} is not a label", hint="use KEY=VALUE")
    grace = 0.0 if stop_grace in (0, "0") else parse_duration(stop_grace, "stop_grace")
    return {
        "pids": pids,
        "idle_timeout": idle,
        "idle_action": idle_action,
        "max_duration": parse_duration(max_duration, "max_duration") or 0.0,
        "restart": restart,
        "stop_signal": stop_signal,
        "stop_grace": 10.0 if grace is None else grace,
        "labels": dict(given),
    }
