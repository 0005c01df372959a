"""Which plugins a sandbox has: what `plugins=` and `plugin_processes=` may be, and how a record
names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError
from sandlot.plugin.chain import hooks_of, name_of
from sandlot.plugin.process import PluginProcess, ProcessPlugin


@dataclass(frozen=True)
class NamedPlugin:
    """A plugin that is found by name, as text names it; `folder` is where its paths begin from."""

    text: str
    folder: str = ""


def declared(
    plugins: object, processes: object, detached: bool
) -> tuple[list[dict[str, Any]], tuple[object, ...]]:
    """What a record says of plugins, and the objects among them, both in their order.

    Raises:
        ConfigError: one is no plugin, is not there, or is an object for a detached sandbox.
    """
    listed: list[dict[str, Any]] = []
    objects = []
    for each in _listed(plugins, "plugins"):
        if isinstance(each, str):
            each = NamedPlugin(each)
        if isinstance(each, NamedPlugin):
            from sandlot.plugin.discovery import named

            name, _, argument = each.text.partition("=")
            folder = Path(each.folder or Path.cwd())
            hooks_of(named(name, argument, folder))  # wrong ones are told before anything is made
            listed.append({"name": name, "argument": argument, "folder": str(folder)})
        elif isinstance(each, PluginProcess):
            listed.append(each.to_json())
        elif detached:
            raise ConfigError(
                f"the plugin {name_of(each)} cannot be asked for a detached sandbox: it outlives "
                "this program",
                hint="leave detached=True out, name it as text, or use plugin_processes=",
            )
        else:
            hooks_of(each)
            listed.append({"given": name_of(each)})
            objects.append(each)
    for each in _listed(processes, "plugin_processes"):
        process = each if isinstance(each, PluginProcess) else PluginProcess(each)
        listed.append(process.to_json())
    return listed, tuple(objects)


def _listed(value: object, what: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{what} is {type(value).__name__}, not a list", hint=f"use {what}=[...]")
    return list(value)


def opened(listed: Sequence[dict[str, Any]], objects: Sequence[object]) -> list[object]:
    """The plugins that a record names; `objects` are those of this program.

    Raises:
        ConfigError: one is an object of another program, or is not installed any more.
    """
    given = list(objects)
    found: list[object] = []
    for each in listed:
        if "given" in each:
            if not given:
                raise ConfigError(
                    f"the plugin {each['given']} is an object of another program",
                    hint="give them again with plugins=[...], or go without: plugins=[] (--no-plugins)",
                )
            found.append(given.pop(0))
        elif "process" in each:
            found.append(ProcessPlugin(PluginProcess.from_json(each)))
        else:
            from sandlot.plugin.discovery import named

            found.append(named(each["name"], each["argument"], Path(each["folder"])))
    return found
