"""What a user says of one secret: where its value comes from, and who may get it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeAlias

from sandlot.errors import ConfigError
from sandlot.secrets.hosts import HostPattern
from sandlot.secrets.places import Places
from sandlot.secrets.source import (
    Called,
    Callee,
    Command,
    Environment,
    File,
    Given,
    Source,
    from_description,
)

OnMisuse = Literal["pass", "refuse"]


class Secret:
    """A value that a sandbox uses but never holds.

    Args:
        value: the value, or a function (it may be asynchronous) that gives it when it is needed.
        env, file, command: instead of `value`: a variable of this process, a file, or a command
            whose output it is. They are read when needed, and again after a restart.
        hosts: who may get it: `api.example.com`, `*.example.com`, either with `:port`.
        inject: where in a request: `credentials` (the header fields that carry credentials),
            `header:NAME`, `headers`, `query:NAME`, `query`, `path`, `body`. What is named here
            takes the place of `credentials`.
        on_misuse: what becomes of a request with the placeholder elsewhere: `pass` sends it as it
            is, with the placeholder; `refuse` refuses it. Both are recorded.
        plain_http: also in requests without TLS, which anybody on the way can read.
        mask_echo: put the placeholder back where the server's answer holds the value.
        refresh: seconds for which a value is used before its source is asked again.

    Raises:
        ConfigError: no source or more than one, no host, a place that there is not.

    >>> Secret(env="OPENAI_API_KEY", hosts=["api.openai.com"])
    Secret(env='OPENAI_API_KEY', hosts=['api.openai.com'])
    """

    def __init__(
        self,
        value: str | bytes | Callee | None = None,
        *,
        env: str | None = None,
        file: str | os.PathLike[str] | None = None,
        command: str | Sequence[str] | None = None,
        hosts: str | Iterable[str],
        inject: str | Iterable[str] = "credentials",
        on_misuse: OnMisuse = "pass",
        plain_http: bool = False,
        mask_echo: bool = False,
        refresh: float | None = None,
    ) -> None:
        self.source = _source(value, env, file, command)
        if refresh is not None:
            if refresh < 0:
                raise ConfigError(f"`refresh` is {refresh}, less than nothing")
            self.source.refresh = refresh
        names = [hosts] if isinstance(hosts, str) else list(hosts)
        self.hosts = tuple(HostPattern.parse(name) for name in names)
        if not self.hosts:
            raise ConfigError(
                "a secret names no host", hint='say who may get it: hosts=["api.example.com"]'
            )
        self.places = Places.parse(inject)
        if on_misuse not in ("pass", "refuse"):
            raise ConfigError(f"`on_misuse` is `pass` or `refuse`, not `{on_misuse}`")
        self.on_misuse: OnMisuse = on_misuse
        self.plain_http = plain_http
        self.mask_echo = mask_echo

    def names(self, host: str, port: int) -> bool:
        """Whether this host (in its normal form) may get it."""
        return any(pattern.matches(host, port) for pattern in self.hosts)

    def to_record(self) -> dict[str, object]:
        """What may be written down: everything but the value."""
        return {
            "source": self.source.describe(),
            "refresh": None if self.source.refresh == float("inf") else self.source.refresh,
            "hosts": [str(pattern) for pattern in self.hosts],
            "inject": self.places.words(),
            "on_misuse": self.on_misuse,
            "plain_http": self.plain_http,
            "mask_echo": self.mask_echo,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Secret:
        """What `to_record` wrote. A value or callable is missing then, until it is given again.

        Raises:
            ConfigError: the record is damaged.
        """
        try:
            described = record["source"]
            if not isinstance(described, dict):
                raise TypeError
            secret = cls(
                "-",
                hosts=record["hosts"],
                inject=record["inject"],
                on_misuse=record["on_misuse"],
                plain_http=record["plain_http"] is True,
                mask_echo=record["mask_echo"] is True,
            )
            secret.source = from_description(described)
            if (refresh := record["refresh"]) is not None:
                secret.source.refresh = float(refresh)
        except (KeyError, TypeError) as error:
            raise ConfigError("the record of a secret is damaged") from error
        return secret

    def __repr__(self) -> str:
        described = self.source.describe()
        shown = [f"{key}={text!r}" for key, text in described.items() if key != "given"]
        if not shown:
            shown = [f"<{self.source.words()}>"]
        shown.append(f"hosts={[str(pattern) for pattern in self.hosts]}")
        if self.places != Places(credentials=True):
            shown.append(f"inject={self.places.words()}")
        return f"Secret({', '.join(shown)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: its value would be written down")


ShortForm: TypeAlias = "Secret | tuple[str | bytes | Callee, str | Iterable[str]]"


def as_secret(name: str, given: object) -> Secret:
    """A secret from what a user gave: one, or `(value, host)`, or `(value, [host, ...])`.

    Raises:
        ConfigError: it is neither. The message tells the name and never what was given.
    """
    if isinstance(given, Secret):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        value, hosts = given
        return Secret(value, hosts=hosts)
    raise ConfigError(
        f"the secret {name} is given as {type(given).__name__}",
        hint=f'write {{"{name}": (value, "api.example.com")}} or Secret(..., hosts=[...])',
    )


def _source(
    value: object,
    env: str | None,
    file: str | os.PathLike[str] | None,
    command: str | Sequence[str] | None,
) -> Source:
    if sum(given is not None for given in (value, env, file, command)) != 1:
        raise ConfigError("a secret has one source: a value, env, file or command")
    if env is not None:
        return Environment(env)
    if file is not None:
        return File(file)
    if command is not None:
        return Command(command)
    if callable(value):
        return Called(value)
    if not isinstance(value, str | bytes):
        raise ConfigError(f"a secret's value is text, not {type(value).__name__}")
    return Given(value)
