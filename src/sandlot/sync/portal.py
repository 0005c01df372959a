"""The thread that runs the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _start() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True, name="sandlot-loop").start()
            _loop = loop
        return _loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop's thread and wait for it. Ctrl-C cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _start())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def drained(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """What an asynchronous generator yields, one after the other."""

    async def following() -> T:
        return await anext(source)

    try:
        while True:
            try:
                yield run(following())
            except StopAsyncIteration:
                return
    finally:
        run(source.aclose())
