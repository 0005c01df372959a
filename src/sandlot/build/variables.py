"""Variables of a build: arguments, environment, and their replacement. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from sandlot.build.dockerfile import Arg
from sandlot.errors import BuildError

T = TypeVar("T")

PROXIES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Arguments that every RUN may have without a declaration, and that the cache does not look at."""


def platform_arguments(os: str, architecture: str, variant: str = "") -> dict[str, str]:
    """The arguments that tell the platform; ours builds and runs on one and the same."""
    text = "/".join(part for part in (os, architecture, variant) if part)
    return {
        f"{side}{name}": value
        for side in ("TARGET", "BUILD")
        for name, value in (
            ("PLATFORM", text), ("OS", os), ("ARCH", architecture), ("VARIANT", variant),
        )
    }  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """What variables mean at one place of a Dockerfile.

    `given` are the values of the user, `known` those that only a declaration without a default
    brings in: the arguments before the first FROM, and the platform's.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    escape: str = "\\"

    def expand(self, word: str, line: int) -> str:
        """A word with its variables replaced, and without quotes."""
        from e2b_dockerfile_utils import ShellLex

        values = {**self.arguments, **self.environment}
        lex = ShellLex(self.escape, env=values, skip_unset_env=False)
        return _checked(lambda: lex.process_word(word), line)

    def expand_words(self, word: str, line: int) -> list[str]:
        """The same, but what a variable brings may be several words."""
        from e2b_dockerfile_utils import ShellLex

        values = {**self.arguments, **self.environment}
        lex = ShellLex(self.escape, env=values, skip_unset_env=False)
        return _checked(lambda: lex.process_words(word), line)

    def expand_text(self, text: str, line: int) -> str:
        """A text of several lines: quotes stay."""
        from e2b_dockerfile_utils import ShellLex

        values = {**self.arguments, **self.environment}
        lex = ShellLex(
            self.escape, env=values, skip_unset_env=False, skip_process_quotes=True
        )  # fmt: skip
        return _checked(lambda: lex.process_word(text), line)

    def declare(self, arg: Arg) -> Scope:
        """After an ARG."""
        scope = self
        for name, default in arg.variables:
            if name in self.given:
                value: str | None = self.given[name]
            elif default is not None:
                value = scope.expand(default, arg.line)
            else:
                value = self.known.get(name)
            if value is not None:
                scope = replace(scope, arguments={**scope.arguments, name: value})
        return scope

    def setting(self, pairs: Iterable[tuple[str, str]]) -> Scope:
        """After an ENV, whose values see the variables as they were before all of it."""
        return replace(self, environment={**self.environment, **dict(pairs)})

    def for_run(self) -> dict[str, str]:
        """The environment of a RUN."""
        proxies = {name: value for name, value in self.given.items() if name in PROXIES}
        return {**proxies, **self.arguments, **self.environment}

    def for_key(self) -> dict[str, str]:
        """What of it makes a RUN another one."""
        arguments = {name: v for name, v in self.arguments.items() if name not in PROXIES}
        return {**arguments, **self.environment}


def _checked(work: Callable[[], T], line: int) -> T:
    try:
        return work()
    except ValueError as error:
        raise BuildError(str(error)[:300], line=line) from error
