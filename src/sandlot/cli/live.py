"""`sandlot push --live` and `sandlot pull --follow`: in the foreground, until they are ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import click

from sandlot.cli.output import Progress, ago, human_size
from sandlot.errors import ConfigError

if TYPE_CHECKING:
    from sandlot.remote.remote import Remote
    from sandlot.remote.versions import Pushed

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def refuse(options: dict[str, Any], given: dict[str, str], what: str) -> None:
    """Refuse flags that do not go together; `given` are options by name, with their flags.

    Raises:
        ConfigError
    """
    if flags := [flag for name, flag in given.items() if options[name]]:
        raise ConfigError(f"{', '.join(flags)} {'is' if len(flags) == 1 else 'are'} {what}")


class _First:
    """Shows how far the first version is, which may take long; the others have a line each."""

    def __init__(self, *, quiet: bool) -> None:
        self._progress = None if quiet else Progress(delay=0.5)

    def __call__(self, stage: str, fraction: float | None) -> None:
        if self._progress is not None:
            self._progress(stage, fraction)

    def close(self) -> None:
        """It is there, or will not be."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


@contextlib.contextmanager
def ending(first: Callable[[], object], then: Callable[[], object]) -> Iterator[None]:
    """Call `first` when somebody ends the command, by Ctrl-C or else, and `then` at the next time."""
    loop = asyncio.get_running_loop()
    calls = iter((first,))

    def asked() -> None:
        next(calls, then)()

    for number in _ENDS:
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)


async def push_live(
    sandbox: str, remote: Remote, name: str | None, options: dict[str, Any], *, quiet: bool,
    json_: bool,
) -> None:  # fmt: skip
    """Push a sandbox's changes until Ctrl-C or its end, a line for each version."""
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.sandbox import Sandbox

    Host.current().tell = _say
    progress = _First(quiet=quiet)

    def told(pushed: Pushed) -> None:
        progress.close()
        _say(
            f"{pushed.name} is version {pushed.version} in {pushed.remote}: "
            f"{human_size(pushed.moved)} were sent in {pushed.seconds:.1f} s"
        )
        one = f"{pushed.name}@{pushed.version}"
        click.echo(json.dumps(dataclasses.asdict(pushed)) if json_ else one)

    found = await Sandbox.get(sandbox)
    live = found.push_live(remote, name, told=told, progress=progress, **options)
    task = asyncio.current_task()
    assert task is not None
    entered, left = False, asyncio.Event()

    def leave() -> None:
        if entered:
            left.set()
        else:
            task.cancel()  # there is nothing that a last version would end

    try:
        with ending(leave, task.cancel):
            async with live:
                entered = True
                if not await _either(live.wait(), left.wait()) and live.error is None:
                    _say(f"sandbox {found.name} has ended")
    finally:
        progress.close()


async def _either(over: Coroutine[Any, Any, None], left: Coroutine[Any, Any, bool]) -> bool:
    """Wait for one of two; whether it is the second. What the first raises is for leaving to raise."""
    tasks = [asyncio.ensure_future(over), asyncio.ensure_future(left)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[1] in done
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def follow(
    source: str, remote: Remote, name: str | None, options: dict[str, Any], *, quiet: bool
) -> None:
    """Have a sandbox at the newest version until Ctrl-C, a line for each version."""
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.sandbox import Sandbox

    Host.current().tell = _say
    progress = _First(quiet=quiet)
    task = asyncio.current_task()
    assert task is not None
    try:
        with ending(task.cancel, task.cancel), contextlib.suppress(asyncio.CancelledError):
            async with Sandbox.follow(
                source, name, remote=remote, progress=progress, **options
            ) as seen:
                progress.close()
                async for sandbox in seen:
                    _say(
                        f"{sandbox.name} is version {seen.version}, pushed {ago(seen.created)}; "
                        f"`sandlot exec {sandbox.name} COMMAND` looks into it"
                    )
                    click.echo(f"{sandbox.name}@{seen.version}")
    finally:
        progress.close()


def _say(text: str) -> None:
    click.echo(f"sandlot: {text}", err=True)
