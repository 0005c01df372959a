"""YAML as a tree whose every value knows where it stands; `${VARIABLES}` are put in. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sandlot.fleet.problems import Place, Problem, Problems
from sandlot.fleet.variables import VariableError, interpolated, names_in

MOST_NODES = 100_000
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Node:
    """A value with its place: `value` is a dict of nodes, a list of nodes, or a scalar.

    `text` is a scalar as it was written, `keys` where each name of a mapping stands.
    """

    value: Any
    place: Place
    text: str = ""
    keys: Mapping[str, Place] = field(default_factory=dict)

    def plain(self) -> Any:
        """Without places."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, name: str) -> Node | None:
        """What a mapping has under a name."""
        found = self.value.get(name) if isinstance(self.value, dict) else None
        return found if isinstance(found, Node) else None

    def items(self) -> Iterator[tuple[str, Node]]:
        """The names and values of a mapping; nothing for anything else."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def each(self) -> list[Node]:
        """The values of a list; nothing for anything else."""
        return self.value if isinstance(self.value, list) else []

    def key_place(self, name: str) -> Place:
        """Where a name of the mapping stands."""
        return self.keys.get(name, self.place)

    def place_of(self, *path: object) -> Place:
        """Where the value at a path stands; of what the path does not reach, the nearest before."""
        node = self
        for step in path:
            inner: Node | None = None
            if isinstance(step, str):
                inner = node.get(step)
            elif isinstance(step, int) and isinstance(node.value, list) and step < len(node.value):
                inner = node.value[step]
            node = inner or node
        return node.place

    def changed(self, **values: Node | None) -> Node:
        """The mapping with other values; None takes one away."""
        new = dict(self.value)
        keys = dict(self.keys)
        for name, node in values.items():
            if node is None:
                new.pop(name, None)
            else:
                new[name] = node
                keys.setdefault(name, node.place)
        return replace(self, value=new, keys=keys)


def scalar(value: object, place: Place) -> Node:
    """A value of ours in the place of another."""
    return Node(value, place, "" if value is None else str(value))


def mapping(values: Mapping[str, Node], place: Place) -> Node:
    """A mapping of ours in the place of something else."""
    return Node(dict(values), place, keys={name: node.place for name, node in values.items()})


def sequence(values: list[Node], place: Place) -> Node:
    """A list of ours in the place of something else."""
    return Node(values, place)


def parse(
    text: str, file: str, variables: Mapping[str, str], problems: Problems,
    used: dict[str, Place] | None = None,
) -> Node | None:  # fmt: skip
    """The tree of a file; None when it has none. What is wrong goes to `problems`.

    Args:
        used: gets the variables that were put in, and where.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML()
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        said = error.problem or error.context or "it cannot be read"
        problems.add(where, f"this is not YAML: {' '.join(said.split())}")
        return None
    except YAMLError as error:
        problems.add(Place(file, 1, 1), f"this is not YAML: {' '.join(str(error).split())}")
        return None
    except RecursionError:
        problems.add(Place(file, 1, 1), "it is nested too deeply")
        return None
    if root is None:
        problems.add(Place(file, 1, 1), "the file is empty")
        return None
    return _Building(yaml.resolver, file, variables, problems, {} if used is None else used).node(
        root, ()
    )


class _Building:
    def __init__(
        self, resolver: Any, file: str, variables: Mapping[str, str], problems: Problems,
        used: dict[str, Place],
    ) -> None:  # fmt: skip
        self._resolver = resolver
        self._file = file
        self._variables = variables
        self._problems = problems
        self._used = used
        self._count = 0

    def node(self, found: Any, above: tuple[int, ...]) -> Node:
        place = self._place(found)
        self._count += 1
        if id(found) in above or self._count > MOST_NODES:
            if self._count <= MOST_NODES:
                self._problems.add(place, "an alias stands inside of what it names")
            elif self._count == MOST_NODES + 1:
                self._problems.add(place, f"the file has more than {MOST_NODES} values")
            return Node(None, place)
        inside = (*above, id(found))
        if found.tag == _TAG + "map" or found.id == "mapping":
            return self._mapping(found, place, inside)
        if found.id == "sequence":
            return Node([self.node(each, inside) for each in found.value], place)
        return self._scalar(found, place)

    def _place(self, found: Any) -> Place:
        mark = found.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _mapping(self, found: Any, place: Place, inside: tuple[int, ...]) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Node] = []
        for key, value in found.value:
            where = self._place(key)
            if key.id != "scalar":
                self._problems.add(where, "a name is text, not a list or a mapping")
                continue
            name = str(key.value)
            if key.tag == _TAG + "merge" or (name == "<<" and key.style is None):
                below = self.node(value, inside)
                merged += below.each() or [below]
            elif name in keys:
                first = keys[name]
                self._problems.add(where, f"{name!r} is there already, in line {first.line}")
            else:
                keys[name] = where
                values[name] = self.node(value, inside)
        for below in merged:
            for name, node in below.items():
                if name not in values:
                    values[name] = node
                    keys[name] = below.key_place(name)
        return Node(values, place, keys=keys)

    def _scalar(self, found: Any, place: Place) -> Node:
        text = str(found.value)
        tag = str(found.tag)
        for name in names_in(text) if "$" in text else ():
            self._used.setdefault(name, place)
        try:
            put_in = interpolated(text, self._variables, lambda name: self._unset(place, name))
        except VariableError as error:
            self._problems.add(place, str(error))
            return Node(text, place, text)
        if put_in != text and found.style is None:
            from ruamel.yaml.nodes import ScalarNode

            tag = str(self._resolver.resolve(ScalarNode, put_in, (True, False)))
        return Node(_value(tag, put_in), place, put_in)

    def _unset(self, place: Place, name: str) -> None:
        self._problems.warn(
            place, f"the variable {name} is not set, and empty text is put in",
            f"write ${{{name}:-VALUE}} to say what it is otherwise",
        )  # fmt: skip


def _value(tag: str, text: str) -> Any:
    kind = tag.removeprefix(_TAG)
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
        if kind == "float":
            lower = text.lower().lstrip("+-.")
            return text if lower in ("inf", "nan") else float(text)
    except ValueError:
        pass
    return text


__all__ = ["Node", "Place", "Problem", "mapping", "parse", "scalar", "sequence"]
