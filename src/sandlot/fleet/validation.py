"""A tree against the models: everything that does not fit, in words and with its place. Pure."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from sandlot.errors import ConfigError
from sandlot.fleet.document import Node
from sandlot.fleet.models import Sandboxfile
from sandlot.fleet.problems import Place, Problems, nearest

# What is read as it was written: `1.10` stays that, and no number.
_TEXTS = ("env", "environment", "labels", "args", "scripts")
_WANTED = {
    "string_type": "text", "int_type": "a whole number", "bool_type": "true or false",
    "float_type": "a number", "list_type": "a list", "dict_type": "a mapping",
    "model_type": "a mapping", "model_attributes_type": "a mapping", "int_from_float": "a whole number",
}  # fmt: skip


def validated(tree: Node, problems: Problems) -> Sandboxfile | None:
    """The file as a model, or None and the problems."""
    try:
        return Sandboxfile.model_validate(_plain(tree))
    except ValidationError as error:
        for each in error.errors(include_url=False):
            _explain(dict(each), tree, problems)
        return None


def _plain(node: Node, texts: bool = False) -> Any:
    if isinstance(node.value, dict):
        return {
            name: _plain(inner, name in _TEXTS) if not texts else _written(inner)
            for name, inner in node.value.items() if not name.startswith("x-")
        }  # fmt: skip
    if isinstance(node.value, list):
        return [_plain(each) for each in node.value]
    return node.value


def _written(node: Node) -> Any:
    if isinstance(node.value, dict | list):
        return _plain(node)
    return None if node.value is None else node.text


def _explain(error: dict[str, Any], tree: Node, problems: Problems) -> None:
    path = tuple(error["loc"])
    kind = error["type"]
    name = next((str(step) for step in reversed(path) if isinstance(step, str)), "the file")
    place = tree.place_of(*path)
    if kind == "extra_forbidden":
        known = known_names(path[:-1])
        problems.add(_key_place(tree, path), f"there is no {path[-1]!r} here",
                     nearest(str(path[-1]), known))  # fmt: skip
    elif kind == "missing":
        problems.add(place, f"{path[-1]!r} is missing")
    elif kind == "value_error" and isinstance(error.get("ctx", {}).get("error"), ConfigError):
        fault: ConfigError = error["ctx"]["error"]
        problems.add(place, fault.message, fault.hint)
    elif kind == "literal_error":
        words = [str(each).strip("'") for each in _expected(error)]
        hint = nearest(str(error["input"]), words)
        problems.add(place, f"{name} is {_shown(error['input'])}, not {' or '.join(words)}", hint)
    elif kind in _WANTED:
        problems.add(place, f"{name} is {_kind(error['input'])}, not {_WANTED[kind]}")
    else:
        problems.add(place, f"{name}: {error['msg']}")


def _expected(error: dict[str, Any]) -> list[str]:
    text = str(error.get("ctx", {}).get("expected", ""))
    return text.replace(" or ", ", ").split(", ")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) < 40 else "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _key_place(tree: Node, path: tuple[Any, ...]) -> Place:
    node = tree
    for step in path[:-1]:
        inner = node.get(step) if isinstance(step, str) else None
        if isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
            inner = node.value[step]
        node = inner or node
    return node.key_place(str(path[-1]))


def known_names(path: tuple[Any, ...]) -> set[str]:
    """The names that may stand at a path of the file."""
    models: list[type[BaseModel]] = [Sandboxfile]
    for step in path:
        inner: list[type[BaseModel]] = []
        for model in models:
            if isinstance(step, str) and step in model.model_fields:
                inner += _models(model.model_fields[step].annotation)
        models = inner or models
    names = {name for model in models for name in model.model_fields}
    return names - {"detached"}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)
