"""Contexts as plain data for programs, and what plugins change, checked."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from sandlot.network.flow import Decision
from sandlot.plugin.hooks import HookContext

C = TypeVar("C", bound=HookContext)


_AS_IT_IS = frozenset({type(None), str, int, float, bool})


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


def plain(value: Any) -> Any:
    """A context, or a part of one, ready for JSON: addresses are text, bytes are base64."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        kind: Any = type(value)
        return {name: plain(getattr(value, name)) for name in _names(kind)}
    if isinstance(value, (str, int, float)):  # a kind of one
        return value
    raise TypeError(f"{type(value).__name__} is nothing for JSON")


def checked(name: str, value: Any) -> Any:
    """A value for the field `name` of a context, of the type that it has to have.

    Raises:
        TypeError: it is of another one.
        ValueError: it cannot be that.
    """
    if name in ("argv", "limits"):
        if not isinstance(value, list | tuple) or not all(_text(each) for each in value):
            raise TypeError(f"{name} has to be a list of text")
        if name == "argv" and not value:
            raise ValueError("argv is empty")
        return tuple(value)
    if name == "env":
        if not isinstance(value, Mapping):
            raise TypeError("env has to map names to text")
        for each, text in value.items():
            if not (_text(each) and each and "=" not in each and _text(text)):
                raise TypeError("env has to map names to text")
        return dict(value)
    if name in ("workdir", "user"):
        if not _text(value):
            raise TypeError(f"{name} has to be text")
        return value
    if name == "timeout" and value is None:
        return None
    if name in ("timeout", "pause"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} has to be seconds")
        if not 0 <= value < 1e9:
            raise ValueError(f"{name} of {value} seconds")
        return float(value)
    if name == "decision":
        if not isinstance(value, Decision):
            raise TypeError("decision has to be a Decision")
        return value
    raise TypeError(f"{name} cannot be changed")


def _text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def with_changes(context: C, changes: object) -> C:
    """A context as a program wants it: `changes` are fields and their values, as JSON has them.

    Raises:
        TypeError, ValueError: it may not change that, or not so.
    """
    if not isinstance(changes, dict):
        raise TypeError("change has to be an object")
    values = {}
    for name, value in changes.items():
        if name not in context.changes:
            raise TypeError(f"{context.hook} lets nobody change {name}")
        values[name] = checked(name, _decision(value) if name == "decision" else value)
    return dataclasses.replace(context, **values)


def _decision(value: object) -> Decision:
    if not isinstance(value, dict) or not isinstance(value.get("allowed"), bool):
        raise TypeError("decision has to be an object with `allowed`")
    return Decision(
        value["allowed"], str(value.get("rule", "plugin")), str(value.get("reason", ""))
    )
