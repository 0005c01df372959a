"""`CommandPolicy`: which commands may be started."""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from sandlot.errors import ConfigError, Refuse
from sandlot.plugin.hooks import ExecContext


class CommandPolicy:
    """Allows and denies commands by patterns of their words.

        CommandPolicy(allow=["python3 *", "git status", "sh -c 'ls *'"], deny=["python3 -m http.*"])

    A pattern has a shell pattern for each word, and `*` as its last word stands for any that follow.
    Its first word is the whole path of a program, or its last part. What `deny` names is refused;
    where there is an `allow`, so is what it does not name. A string given to `exec` is the command
    `/bin/sh -c STRING`. What a command starts itself in the sandbox is not asked about.

    Args:
        allow: all when None.
        deny: none when empty.
    """

    name = "command-policy"

    def __init__(
        self, *, allow: Iterable[str | Sequence[str]] | None = None,
        deny: Iterable[str | Sequence[str]] = (),
    ) -> None:  # fmt: skip
        self._allow = [_pattern(each) for each in allow] if allow is not None else None
        self._deny = [_pattern(each) for each in deny]
        if self._allow is None and not self._deny:
            raise ConfigError(
                "a CommandPolicy that allows all", hint='use allow=["python3 *"] or deny=[...]'
            )

    @classmethod
    def from_argument(cls, argument: str, folder: Path) -> CommandPolicy:
        """`command-policy=PATTERN;PATTERN;!PATTERN`: allowed, and with `!` denied."""
        parts = [each.strip() for each in argument.split(";") if each.strip()]
        allow = [each for each in parts if not each.startswith("!")]
        return cls(allow=allow or None, deny=[each[1:] for each in parts if each.startswith("!")])

    def on_exec(self, ctx: ExecContext) -> None:
        for pattern in self._deny:
            if matches(pattern, ctx.argv):
                raise Refuse(f"`{shlex.join(pattern)}` is denied")
        if self._allow is not None and not any(matches(each, ctx.argv) for each in self._allow):
            raise Refuse(f"no pattern allows `{shlex.join(ctx.argv)[:200]}`")


def _pattern(given: str | Sequence[str]) -> tuple[str, ...]:
    try:
        words = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise ConfigError(f"the pattern {given!r} cannot be read: {error}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{given!r} is no pattern of a command", hint='use "git *"')
    return tuple(words)


def matches(pattern: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether a command is one that a pattern is about."""
    if not argv:
        return False
    first, rest, words = pattern[0], pattern[1:], list(argv[1:])
    program = argv[0] if "/" in first else PurePosixPath(argv[0]).name
    if not fnmatch.fnmatchcase(program, first):
        return False
    if rest and rest[-1] == "*":
        rest = rest[:-1]
        if len(words) < len(rest):
            return False
        words = words[: len(rest)]
    return len(words) == len(rest) and all(map(fnmatch.fnmatchcase, words, rest))
