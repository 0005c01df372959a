"""The kinds of values in a Sandboxfile: sizes, times, ports and the like, and their short forms.

Each is checked by the function that checks the same argument of `Sandbox.create`. Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from sandlot.errors import ConfigError
from sandlot.network.published import parse_ports
from sandlot.network.rules import parse_rule
from sandlot.sandbox.policy import RestartPolicy
from sandlot.sandbox.sizes import check_hostname, check_name, parse_duration
from sandlot.secrets.hosts import HostPattern
from sandlot.sizes import parse_size
from sandlot.volume.declared import checked_path


def _text(value: Any) -> Any:
    """Numbers and truths as they are written, where text is wanted."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int | float)]


def _checked(check: Callable[[str], object]) -> Callable[[str], str]:
    def checked(value: str) -> str:
        check(value)
        return value

    return checked


def _size(value: str) -> str:
    parse_size(value)
    return value


def _bandwidth(value: str) -> str:
    return value if value == "0" else _size(value)


def _duration(value: str) -> str:
    parse_duration(value, "time")
    return value


def _grace(value: str) -> str:
    return value if value == "0" else _duration(value)


def _whole(value: Any) -> Any:
    """Compose files say `cpus: 1.0` and `"2"`."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,4}(\.0*)?", value):
        return int(value.partition(".")[0])
    return int(value) if isinstance(value, float) and value.is_integer() else value


Size = Annotated[Text, AfterValidator(_size)]
Bandwidth = Annotated[Text, AfterValidator(_bandwidth)]
Duration = Annotated[Text, AfterValidator(_duration)]
Grace = Annotated[Text, AfterValidator(_grace)]
Restart = Annotated[str, AfterValidator(_checked(RestartPolicy.parse))]
MountPath = Annotated[str, AfterValidator(_checked(checked_path))]
HostName = Annotated[str, AfterValidator(_checked(check_hostname))]
Port = Annotated[Text, AfterValidator(_checked(parse_ports))]
Rule = Annotated[str, AfterValidator(_checked(parse_rule))]
SecretHost = Annotated[str, AfterValidator(_checked(HostPattern.parse))]
Name = Annotated[str, AfterValidator(_checked(lambda name: check_name(name, "member")))]
Whole = Annotated[int, BeforeValidator(_whole, json_schema_input_type=int)]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


TextList = Annotated[
    list[Text], BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])
]
HostList = Annotated[
    list[SecretHost], BeforeValidator(_one_or_more, json_schema_input_type=str | list[str])
]


def shell_words(value: Any) -> Any:
    """A command: a list is argv, a text is a line for the sandbox's shell."""
    if isinstance(value, str):
        if not value.strip():
            return []
        return ["/bin/sh", "-c", value]
    return value


def plain_words(value: Any) -> Any:
    """A command of a compose file: a text is divided into words, and no shell is asked."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ConfigError(f"{value!r} is no command: {error}") from error


Command = Annotated[
    list[Text], BeforeValidator(shell_words, json_schema_input_type=str | list[str])
]


def named(value: Any) -> Any:
    """A list of `NAME=VALUE` as a mapping; a name alone has None."""
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for each in value:
        if not isinstance(each, str):
            return value
        name, equals, text = each.partition("=")
        found[name] = text if equals else None
    return found


Named = Annotated[
    dict[str, Text | None],
    BeforeValidator(named, json_schema_input_type=dict[str, str | int | float | None] | list[str]),
]


def by_name(value: Any) -> Any:
    """A list of names as a mapping to nothing."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return {each: {} for each in value}
    return value
