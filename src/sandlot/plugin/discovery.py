"""Plugins that are found by name: those of installed packages, and those that come with Sandlot.

A package offers one by an entry point of the group `sandlot.plugins`, which names a class. Where the
class has `from_argument(argument, folder)`, that makes it of the text after `NAME=`; otherwise it is
called without arguments.
"""

from __future__ import annotations

import difflib
import importlib
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.plugin.hooks import HOOKS

GROUP = "sandlot.plugins"
BUILTIN = {
    "audit-log": "sandlot.plugin.builtin.audit_log:AuditLog",
    "budget": "sandlot.plugin.builtin.budget:Budget",
    "command-policy": "sandlot.plugin.builtin.command_policy:CommandPolicy",
    "metrics": "sandlot.plugin.builtin.metrics:Metrics",
    "network-monitor": "sandlot.plugin.builtin.network_monitor:NetworkMonitor",
    "rate-limiter": "sandlot.plugin.builtin.rate_limiter:RateLimiter",
    "recorder": "sandlot.plugin.builtin.recorder:Recorder",
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A plugin that can be named. `cost` is how many seconds its import took; `error` is why it
    cannot be used, or empty."""

    name: str
    version: str
    hooks: tuple[str, ...]
    cost: float
    package: str
    summary: str = ""
    error: str = ""


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """Those of installed packages; the first of a name counts, and none replaces one of ours."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name not in BUILTIN:
            found.setdefault(point.name, point)
    return found


def names() -> list[str]:
    """Every name there is."""
    return sorted({*BUILTIN, *_entry_points()})


def _load(name: str) -> Any:
    if name in BUILTIN:
        module, _, attribute = BUILTIN[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    return _entry_points()[name].load()


def named(name: str, argument: str = "", folder: Path | None = None) -> object:
    """A new plugin by its name; relative paths in `argument` begin at `folder`.

    Raises:
        ConfigError: there is none, it cannot be loaded, or the argument is wrong.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        raise ConfigError(
            f"there is no plugin {name!r}",
            hint=f"did you mean {near[0]}?" if near else "`sandlot plugins` lists those there are",
        )
    try:
        kind = _load(name)
        make = getattr(kind, "from_argument", None)
        if make is not None:
            return make(argument, folder or Path.cwd())
        if argument:
            raise ConfigError(f"the plugin {name} takes no argument", hint=f"use {name} alone")
        return kind()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the plugin {name} cannot be made: {type(error).__name__}: {error}"
        ) from error


def discovered() -> list[Found]:
    """All plugins that can be named, by name. Each is imported."""
    found = []
    for name in names():
        began = time.perf_counter()
        hooks: tuple[str, ...] = ()
        summary = error = ""
        try:
            kind = _load(name)
            hooks = tuple(hook for hook in HOOKS if callable(getattr(kind, hook, None)))
            summary = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        took = time.perf_counter() - began
        package, version = "sandlot", version_of("sandlot")
        if name not in BUILTIN and (dist := _entry_points()[name].dist) is not None:
            package, version = dist.name, dist.version
        found.append(
            Found(
                name=name, version=version, hooks=hooks, cost=took, package=package,
                summary=summary, error=error,
            )
        )  # fmt: skip
    return found
