"""What a stage has become after some of its instructions. Pure."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sandlot.build.dockerfile import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from sandlot.build.variables import Scope
from sandlot.errors import BuildError
from sandlot.image.config import ImageConfig

if TYPE_CHECKING:
    from sandlot.image.packing import PackedLayer

DEFAULT_SHELL = ("/bin/sh", "-c")
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


@dataclass(frozen=True, kw_only=True)
class State:
    """Layers, lowest first, and configuration; `key` is what both were made from.

    `image` is the name in the store of an image of exactly these layers, and empty when there is
    none: nothing has been put over `scratch`. `user_line` is where USER was, if it was.
    """

    key: str
    image: str
    config: ImageConfig
    layers: tuple[PackedLayer, ...] = ()
    scope: Scope = field(default_factory=Scope)
    shell: tuple[str, ...] = DEFAULT_SHELL
    cmd_is_own: bool = False
    user_line: int = 0
    history: tuple[dict[str, Any], ...] = ()

    def next_key(self, *inputs: object) -> str:
        """The key of what follows from this and the inputs."""
        text = json.dumps([self.key, *inputs], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def path(self, text: str) -> str:
        """A path of the user, relative to the working folder, as an absolute one."""
        joined = posixpath.join(self.config.working_dir or "/", text)
        whole = posixpath.normpath(joined)
        whole = "/" + whole.lstrip("/")
        return whole + "/" if text.endswith(("/", "/.")) and whole != "/" else whole

    def remember(self, instruction: Instruction, *, layer: bool) -> State:
        """With one more line of history."""
        line: dict[str, Any] = {"created_by": instruction.shown()[:4000]}
        if not layer:
            line["empty_layer"] = True
        return replace(self, history=(*self.history, line))


def apply(state: State, instruction: Instruction) -> State:
    """After an instruction that changes no files. Raises BuildError when it is wrong."""
    scope, line = state.scope, instruction.line

    def one(word: str) -> str:
        return scope.expand(word, line)

    config = state.config
    if isinstance(instruction, Arg):
        return replace(state, scope=scope.declare(instruction))
    if isinstance(instruction, Env):
        pairs = [(one(name), one(value)) for name, value in instruction.variables]
        config = replace(config, env={**config.env, **dict(pairs)})
        state = replace(state, scope=scope.setting(pairs))
    elif isinstance(instruction, Label):
        labels = {one(name): one(value) for name, value in instruction.labels}
        config = replace(config, labels={**config.labels, **labels})
    elif isinstance(instruction, Workdir):
        path = one(instruction.path)
        if not path:
            raise BuildError("WORKDIR is empty", line=line)
        config = replace(config, working_dir=state.path(path).rstrip("/") or "/")
    elif isinstance(instruction, User):
        config = replace(config, user=one(instruction.user))
        state = replace(state, user_line=line)
    elif isinstance(instruction, Cmd):
        config = replace(config, cmd=words(state, instruction))
        state = replace(state, cmd_is_own=True)
    elif isinstance(instruction, Entrypoint):
        config = replace(config, entrypoint=words(state, instruction))
        if not state.cmd_is_own:  # a command of the base belongs to the base's entrypoint
            config = replace(config, cmd=())
    elif isinstance(instruction, Shell):
        return replace(state, shell=instruction.words)
    elif isinstance(instruction, Expose):
        ports = [
            port for word in instruction.ports
            for text in scope.expand_words(word, line) for port in _ports(text, line)
        ]  # fmt: skip
        config = replace(config, exposed_ports=_merged(config.exposed_ports, ports))
    elif isinstance(instruction, Volume):
        paths = [one(path) for path in instruction.paths]
        if not all(paths):
            raise BuildError("VOLUME names no folder", line=line)
        config = replace(config, volumes=_merged(config.volumes, paths))
    elif isinstance(instruction, StopSignal):
        config = replace(config, stop_signal=one(instruction.signal))
    elif isinstance(instruction, Healthcheck):
        config = replace(config, healthcheck=_health(instruction))
    else:
        raise AssertionError(type(instruction).__name__)
    return replace(state, config=config)


def words(state: State, command: Command) -> tuple[str, ...]:
    """A command as words, those of the shell in front of a line for it."""
    if not command.words:
        return ()
    return (*state.shell, command.words[0]) if command.shell else command.words


def _merged(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*old, *new}))


def _ports(text: str, line: int) -> list[str]:
    """`80`, `80/udp` or `80-90`, each port by itself."""
    number, _, protocol = text.partition("/")
    low, _, high = number.partition("-")
    protocol = protocol.lower() or "tcp"
    ends = (low, high or low)
    if (
        protocol not in ("tcp", "udp", "sctp")
        or not all(end.isascii() and end.isdecimal() and 0 < int(end[:9]) < 65536 for end in ends)
        or int(low) > int(high or low)
    ):
        raise BuildError(f"EXPOSE {text[:40]!r} is no port", line=line)
    return [f"{port}/{protocol}" for port in range(int(low), int(high or low) + 1)]


def _health(instruction: Healthcheck) -> Mapping[str, Any]:
    if not instruction.test:
        return {"Test": ["NONE"]}
    names = {
        "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
        "start-interval": "StartInterval",
    }  # fmt: skip
    found: dict[str, Any] = {"Test": list(instruction.test)}
    for name, value in instruction.options:
        if name == "retries":
            if not value.isdecimal():
                raise BuildError(f"--retries={value[:40]} is no number", line=instruction.line)
            found["Retries"] = int(value)
        else:
            found[names[name]] = _nanoseconds(value, instruction.line)
    return found


def _nanoseconds(text: str, line: int) -> int:
    """A time as Go writes it, such as `1m30s`."""
    pieces = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)", text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text or len(text) > 40:
        raise BuildError(f"{text[:40]!r} is no time", line=line, hint="write it like 30s or 1m30s")
    return round(sum(float(number) * _UNITS[unit] for number, unit in pieces))
