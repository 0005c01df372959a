"""The thread that runs the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading

import pytest

from sandlot.sync.portal import run


def test_results_and_errors_come_back_from_one_thread() -> None:
    async def where() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise ValueError("no")

    assert run(where()) == run(where()) == "sandlot-loop"
    with pytest.raises(ValueError, match="no"):
        run(fail())


def test_a_cancelled_coroutine_does_not_hang() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(concurrent.futures.CancelledError):
        run(cancelled())
