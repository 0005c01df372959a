"""What may be asked before something is reached: the seam that plugins and `ask=` hang on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sandlot.errors import ConfigError
from sandlot.network.flow import Decision, Flow

Answer: TypeAlias = Literal["once", "always", "deny"]
Ask: TypeAlias = Callable[[Flow, Decision], Awaitable[Answer] | Answer]


@dataclass(kw_only=True)
class Hooks:
    """Functions of the host, each may be asynchronous, may raise `Refuse`, or return None.

    Args:
        ask: told of a flow that no rule allows; answers `"once"`, `"always"` (for this run of the
            sandbox) or `"deny"`. It is asked for a name when that is looked up, with port 0, and
            then not again for its connections.
        ask_timeout: seconds that `ask` may take; after that the answer is `"deny"`. At most 16
            questions wait at once, what would be the next is refused.
        on_connect: told of every flow and what the policy says; may return another decision.
        on_dns: told of every name that is about to be asked; may return another decision.
        on_http_request: told of every request that the gateway reads.
        on_secret_use: told of every secret that is about to be put into a request.
        on_fs: told (`FileAccess`) of every file and folder of a volume that is about to be opened,
            made, renamed, removed or changed in what it is, not of each read and write; may raise
            `Refuse` (EACCES).
    """

    ask: Ask | None = None
    ask_timeout: float = 60.0
    on_connect: Callable[[Flow, Decision], Any] | None = None
    on_dns: Callable[[str, Decision], Any] | None = None
    on_http_request: Callable[..., Any] | None = None
    on_secret_use: Callable[..., Any] | None = None
    on_fs: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.ask_timeout, bool) or not 0 < self.ask_timeout < float("inf"):
            raise ConfigError(
                f"ask_timeout {self.ask_timeout!r} is not a time", hint="use seconds, such as 60"
            )
