"""`$NAME`, `${NAME:-default}` and their like in texts, as compose files have them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")
_DEEPEST = 20


class VariableError(ValueError):
    """A text has a variable that is written wrongly, or one that has to be set."""


def interpolated(
    text: str, variables: Mapping[str, str], unset: Callable[[str], object] = lambda name: None
) -> str:
    """The text with its variables put in; `$$` is a dollar.

    Args:
        unset: told of each that is not set and has no default.

    Raises:
        VariableError: a variable has to be set, or is written wrongly.
    """
    return _put_in(text, variables, unset, 0) if "$" in text else text


def names_in(text: str) -> set[str]:
    """The variables that a text names, also in defaults."""
    return set(re.findall(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_][A-Za-z0-9_]*)", text))


def _put_in(
    text: str, variables: Mapping[str, str], unset: Callable[[str], object], depth: int
) -> str:
    if depth > _DEEPEST:
        raise VariableError("variables stand inside of variables too deeply")
    parts: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        parts.append(text[at:dollar])
        after = dollar + 1
        if text[after : after + 1] == "$":
            parts.append("$")
            at = after + 1
        elif text[after : after + 1] == "{":
            end = _closing(text, after)
            parts.append(_braced(text[after + 1 : end], variables, unset, depth))
            at = end + 1
        elif found := _NAME.match(text, after):
            parts.append(_plain(found[0], variables, unset))
            at = found.end()
        else:
            raise VariableError(f"{text[dollar : dollar + 8]!r} is no variable; write $$ for a $")
    parts.append(text[at:])
    return "".join(parts)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        if text[at] == "{" and text[at - 1] == "$":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
    raise VariableError(f"{text[opening - 1 : opening + 20]!r} has no closing brace")


def _plain(name: str, variables: Mapping[str, str], unset: Callable[[str], object]) -> str:
    if name not in variables:
        unset(name)
    return variables.get(name, "")


def _braced(
    inside: str, variables: Mapping[str, str], unset: Callable[[str], object], depth: int
) -> str:
    found = _NAME.match(inside)
    if found is None:
        raise VariableError(f"{'${' + inside + '}'!r} is no variable; write $$ for a $")
    name, rest = found[0], inside[found.end() :]
    if not rest:
        return _plain(name, variables, unset)
    operator = next((each for each in _OPERATORS if rest.startswith(each)), None)
    if operator is None:
        raise VariableError(
            f"{'${' + inside + '}'!r} is no variable; use ${{{name}:-DEFAULT}} or the like"
        )
    word = rest[len(operator) :]
    there = name in variables and (bool(variables[name]) or not operator.startswith(":"))
    if operator.endswith("+"):
        return _put_in(word, variables, unset, depth + 1) if there else ""
    if there:
        return variables[name]
    if operator.endswith("?"):
        said = _put_in(word, variables, unset, depth + 1)
        raise VariableError(f"the variable {name} has to be set{': ' + said if said else ''}")
    return _put_in(word, variables, unset, depth + 1)
