"""Several plugins, asked one after the other in the order in which they were declared."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sandlot.errors import ConfigError, PluginFailed, Refuse
from sandlot.plugin.hooks import HOOKS, HookContext, RefusedContext, TransferContext
from sandlot.plugin.translate import checked

log = logging.getLogger("sandlot.plugin")
C = TypeVar("C", bound=HookContext)
Listener = Callable[[Any], Any]
Report = Callable[[str, str, str], None]


def name_of(plugin: object) -> str:
    """What a plugin is called: its `name`, or that of its class."""
    name = getattr(plugin, "name", None)
    return name if isinstance(name, str) and name else type(plugin).__name__


def hooks_of(plugin: object) -> list[str]:
    """The hooks that a plugin has.

    Raises:
        ConfigError: it has none, or a method that looks like one and is none.
    """
    if isinstance(plugin, type):
        raise ConfigError(
            f"the plugin {plugin.__name__} is a class", hint=f"use {plugin.__name__}(...)"
        )
    asked = getattr(plugin, "wanted", None)  # a program's, which says so itself
    if asked is not None:
        return list(asked)
    named = [name for name in dir(plugin) if name.startswith("on_") and callable_of(plugin, name)]
    for name in named:
        if name not in HOOKS:
            near = difflib.get_close_matches(name, HOOKS, 1)
            raise ConfigError(
                f"the plugin {name_of(plugin)} has {name}, which is no hook",
                hint=f"did you mean {near[0]}?" if near else f"hooks are {', '.join(HOOKS)}",
            )
    if not named:
        raise ConfigError(
            f"{name_of(plugin)} is no plugin: it has no hook",
            hint=f"give it one of {', '.join(HOOKS)}",
        )
    return [hook for hook in HOOKS if hook in named]


def callable_of(plugin: object, name: str) -> bool:
    """Whether it has a method of this name."""
    return callable(getattr(plugin, name, None))


class Chain:
    """The plugins of one sandbox.

    Args:
        sandbox: its name.
        plugins: in their order.
        report: is told the plugin, the hook and what went wrong, of each failure.
    """

    def __init__(
        self, sandbox: str, plugins: Sequence[object], report: Report | None = None
    ) -> None:
        self.sandbox = sandbox
        self.plugins = tuple(plugins)
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()
        found: dict[str, list[tuple[str, Listener]]] = {}
        for plugin in plugins:
            for hook in hooks_of(plugin):
                found.setdefault(hook, []).append((name_of(plugin), getattr(plugin, hook)))
        self._listeners = {hook: tuple(each) for hook, each in found.items()}

    def listens(self, hook: str) -> bool:
        """Whether any plugin has this hook."""
        return hook in self._listeners

    async def ask(self, context: C) -> C:
        """What the plugins make of it.

        Raises:
            Refuse: by the first that refuses, with its name.
            PluginFailed: one raised something else, or returned what it must not.
        """
        for name, listener in self._listeners.get(context.hook, ()):
            try:
                answer = listener(context)
                if answer is not None and inspect.isawaitable(answer):
                    answer = await answer
                if answer is not None and answer is not context:
                    context = _changed(context, answer)
            except Exception as error:
                raise self._refusal(name, context, error) from error
        return context

    def _refusal(self, name: str, context: HookContext, error: Exception) -> Refuse:
        what = context.subject()
        if isinstance(error, Refuse):
            reason = error.reason
            if not isinstance(error, PluginFailed):
                message = f"{what} was refused by {name}: {reason}"
                self._refused(name, context, reason, failed=False)
                return Refuse(message, hint=error.hint, plugin=name, reason=reason)
        else:
            reason = f"{type(error).__name__}: {error}"
        self._refused(name, context, reason, failed=True)
        self._tell(name, context.hook, reason)
        return PluginFailed(
            f"{what} was refused because the plugin {name} failed: {reason}",
            plugin=name, reason=reason,
        )  # fmt: skip

    def _refused(self, name: str, context: HookContext, reason: str, *, failed: bool) -> None:
        if self.listens("on_refused"):
            self.note(
                RefusedContext(
                    sandbox=self.sandbox, refused=context.hook, plugin=name,
                    about=context.subject(), reason=reason, failed=failed,
                )
            )  # fmt: skip

    def _tell(self, name: str, hook: str, reason: str) -> None:
        log.error("plugin %s of sandbox %s failed in %s: %s", name, self.sandbox, hook, reason)
        if self._report is not None:
            self._report(name, hook, reason)

    # -- hooks that are only told ----------------------------------------------------------

    def note(self, context: HookContext) -> None:
        """Tell what has happened; nobody waits for the answer, and what fails is reported."""
        for name, listener in self._listeners.get(context.hook, ()):
            try:
                answer = listener(context)
                if answer is not None and inspect.isawaitable(answer):
                    task = asyncio.get_running_loop().create_task(
                        self._finish(name, context.hook, answer)
                    )
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            except Exception as error:
                self._tell(name, context.hook, f"{type(error).__name__}: {error}")

    async def _finish(self, name: str, hook: str, answer: Awaitable[Any]) -> None:
        try:
            await answer
        except Exception as error:
            self._tell(name, hook, f"{type(error).__name__}: {error}")

    async def settle(self) -> None:
        """Wait for those that were told and are asynchronous."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- every piece of a connection -------------------------------------------------------

    def transferred(self, size: int) -> float:
        """How long to wait after a piece.

        Raises:
            Refuse: no more of it.
        """
        context = TransferContext(sandbox=self.sandbox, size=size)
        for name, listener in self._listeners["on_transfer"]:
            try:
                answer = listener(context)
                if answer is not None:
                    if inspect.isawaitable(answer):
                        getattr(answer, "close", lambda: None)()
                        raise TypeError("on_transfer has to be synchronous")
                    context = _changed(context, answer)
            except Exception as error:
                raise self._refusal(name, context, error) from error
        return context.pause


def _changed(context: C, answer: object) -> C:
    """The context with what a plugin may change in it.

    Raises:
        TypeError: it returned another thing, or values that cannot be.
    """
    if type(answer) is not type(context):
        raise TypeError(f"it returned {type(answer).__name__}, not {type(context).__name__}")
    if not context.changes:
        return context
    values = {name: checked(name, getattr(answer, name)) for name in context.changes}
    return dataclasses.replace(context, **values)
