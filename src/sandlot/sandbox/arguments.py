"""Arguments of the wrong kind, told by name and with the remedy. Pure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from sandlot.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

# What other libraries call it.
_HABITS = {
    "cwd": "workdir", "working_dir": "workdir", "dir": "workdir", "environment": "env",
    "envs": "env", "environ": "env", "input": "stdin", "mem": "memory", "mem_limit": "memory",
    "cpu": "cpus", "detach": "detached", "background": "detached", "cmd": "command",
    "args": "command", "argv": "command", "pty": "tty", "terminal": "tty", "ulimits": "limits",
    "storage": "disk", "disk_size": "disk", "template": "image", "pids_limit": "pids",
    "metadata": "labels", "tags": "labels",
}  # fmt: skip


def text(value: object, what: str, example: str) -> str:
    """The value, if it is text.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, str):
        return value
    raise ConfigError(f"{what} is {_kind(value)}, not text", hint=f"use for example {example}")


def text_or_none(value: object, what: str, example: str) -> str | None:
    """As `text`; None stays None."""
    return None if value is None else text(value, what, example)


def mapping(value: object, what: str, example: str) -> Mapping[str, Any]:
    """The value, if it is a mapping whose keys are text; None is an empty one.

    Raises:
        ConfigError: it is not.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{what} is {_kind(value)}, not names and values", hint=f"use for example {example}"
        )
    for name in value:
        if not isinstance(name, str):
            raise ConfigError(
                f"{what} has the name {name!r}, which is {_kind(name)}, not text",
                hint=f"use for example {example}",
            )
    return value


def flag(value: object, what: str, hint: str = "") -> bool:
    """The value, if it is True or False.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{what} is {_kind(value)}, not True or False", hint=hint)


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def explained(call: Callable[P, R]) -> Callable[P, R]:
    """A call that says which argument is meant when it is given one that it does not have.

    Raises TypeError, as for any other function; type checkers see the call as it is.
    """
    known = tuple(
        name for name in inspect.signature(call).parameters if name not in ("self", "cls")
    )

    def check(given: Mapping[str, object]) -> None:
        for name in given:
            if name not in known:
                raise TypeError(
                    f"{call.__name__}() has no argument {name!r}{_instead(name, known)}"
                )

    if inspect.iscoroutinefunction(call):

        @functools.wraps(call)
        async def later(*args: P.args, **kwargs: P.kwargs) -> Any:
            check(kwargs)
            return await call(*args, **kwargs)

        return cast("Callable[P, R]", later)

    @functools.wraps(call)
    def now(*args: P.args, **kwargs: P.kwargs) -> R:
        check(kwargs)
        return call(*args, **kwargs)

    return now


def _instead(name: str, known: tuple[str, ...]) -> str:
    meant = _HABITS.get(name.lower())
    if meant not in known:
        import difflib

        meant = next(iter(difflib.get_close_matches(name.lower(), known, 1)), None)
    return f"; did you mean {meant}=?" if meant else f"; it has {', '.join(known)}"
