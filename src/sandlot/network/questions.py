"""Questions for whoever decides what no rule does: each once, not too many, none for ever."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Hashable
from dataclasses import dataclass

from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Answer, Ask

MOST_WAITING = 16
"""Questions that may wait for an answer at once: a guest causes as many as it likes."""


@dataclass
class _Question:
    task: asyncio.Task[tuple[Answer, Decision]]
    waiters: int = 0


class Questions:
    """What a sandbox's `ask` hook is asked.

    Args:
        ask: the hook.
        patience: seconds until a question without an answer is answered with a denial.
    """

    def __init__(self, ask: Ask, patience: float) -> None:
        self._ask = ask
        self._patience = patience
        self._waiting: dict[Hashable, _Question] = {}

    async def put(self, key: Hashable, flow: Flow, decision: Decision) -> tuple[Answer, Decision]:
        """The answer, and what is decided by it. What asks the same meanwhile gets the same."""
        question = self._waiting.get(key)
        if question is None:
            if len(self._waiting) >= MOST_WAITING:
                reason = f"{MOST_WAITING} other questions wait for an answer"
                return "deny", Decision(False, "asked", reason, decision.hint)
            task = asyncio.get_running_loop().create_task(self._asked(flow, decision))
            question = self._waiting[key] = _Question(task)
        question.waiters += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiters -= 1
            if not question.waiters and self._waiting.get(key) is question:
                del self._waiting[key]
                question.task.cancel()  # nobody wants to know any more

    async def _asked(self, flow: Flow, decision: Decision) -> tuple[Answer, Decision]:
        try:
            async with asyncio.timeout(self._patience):
                said = self._ask(flow, decision)
                answer: Answer = await said if inspect.isawaitable(said) else said
        except TimeoutError:
            reason = f"nobody answered within {self._patience:g} s"
            return "deny", Decision(False, "asked", reason, decision.hint)
        except Exception as error:  # what cannot be asked is not allowed
            return "deny", Decision(False, "asked", f"asking failed: {error!r}")
        if answer not in ("once", "always"):
            return "deny", decision
        return answer, Decision(True, "asked", f"{flow} was allowed when it was asked for")
