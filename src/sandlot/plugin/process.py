"""A plugin that is a program of its own, in any language: started, asked, watched, restarted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandlot.errors import ConfigError, PluginFailed, Refuse
from sandlot.plugin.hooks import HookContext
from sandlot.plugin.protocol import Answer, Breach, Conversation, Greeting, Said
from sandlot.plugin.translate import plain, with_changes

log = logging.getLogger("sandlot.plugin")

MOST_AT_ONCE = 64
HANGS_AFTER = 3
"""So many time-outs in a row, and it is killed and started again."""
MOST_RESTARTS = 8
"""In a row; after that it stays away."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
STEADY = 30.0
"""Seconds after which a program counts as one that lives."""
END_PATIENCE = 2.0


class PluginProcess:
    """A program that is a plugin: `plugin_processes=[PluginProcess("node ./monitor.js")]`.

    Args:
        command: what to run, without a shell: words, or text that is cut into words.
        on_failure: `"closed"` refuses what it should have been asked when it is dead or hangs;
            `"open"` leaves it out then. Both are reported.
        timeout: seconds for an answer.
        start_timeout: seconds for its greeting.
        folder: where it runs; the current one when None.

    Raises:
        ConfigError: one of these is wrong.
    """

    def __init__(
        self, command: str | Sequence[str], *, on_failure: str = "closed", timeout: float = 5.0,
        start_timeout: float = 10.0, folder: str | os.PathLike[str] | None = None,
    ) -> None:  # fmt: skip
        if isinstance(command, str):
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise ConfigError(f"the command {command!r} cannot be read: {error}") from None
        else:
            words = list(command) if isinstance(command, Sequence) else []
        if not words or not all(isinstance(word, str) and "\0" not in word for word in words):
            raise ConfigError(
                f"{command!r} is no command of a plugin", hint='use for example "node ./monitor.js"'
            )
        if on_failure not in ("closed", "open"):
            raise ConfigError(
                f"on_failure {on_failure!r} is not known", hint='use "closed" or "open"'
            )
        for name, value in (("timeout", timeout), ("start_timeout", start_timeout)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < 86400:
                raise ConfigError(f"{name} {value!r} is not a time", hint="use seconds, such as 5")
        self.argv = words
        self.on_failure = on_failure
        self.timeout = float(timeout)
        self.start_timeout = float(start_timeout)
        self.folder = str(Path(folder).absolute() if folder is not None else Path.cwd())

    def __repr__(self) -> str:
        return f"PluginProcess({shlex.join(self.argv)!r}, on_failure={self.on_failure!r})"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "process": self.argv, "on_failure": self.on_failure, "timeout": self.timeout,
            "start_timeout": self.start_timeout, "folder": self.folder,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PluginProcess:
        """From what `to_json` gave."""
        return cls(
            data["process"], on_failure=data["on_failure"], timeout=data["timeout"],
            start_timeout=data["start_timeout"], folder=data["folder"],
        )  # fmt: skip


class ProcessPlugin:
    """A running `PluginProcess`, for one sandbox. Has the hooks that the program wants."""

    def __init__(self, process: PluginProcess) -> None:
        self.process = process
        self.name = Path(process.argv[0]).name
        if len(process.argv) > 1:
            self.name = Path(process.argv[1]).name or self.name
        self.version = ""
        self.wanted: tuple[str, ...] = ()
        self.restarts = 0
        self._sandbox = ""
        self._report: Callable[[str], None] = lambda _: None
        self._run: _Run | None = None
        self._over = False
        self._gave_up = ""
        self._failures = 0
        self._keeping: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    async def begin(self, sandbox: str, report: Callable[[str], None]) -> None:
        """Start the program and greet it; `report` is told what goes wrong.

        Raises:
            PluginFailed: it cannot be started or does not speak the protocol, and fails closed.
        """
        self._sandbox, self._report = sandbox, report
        try:
            self._run = await _Run.started(self.process, sandbox)
        except (Breach, OSError, TimeoutError) as error:
            reason = _why(error)
            self._gave_up = reason
            self._tell(f"it did not start: {reason}")
            if self.process.on_failure == "open":
                return
            raise PluginFailed(
                f"the plugin {shlex.join(self.process.argv)} did not start: {reason}",
                hint="try it with `sandlot plugins check COMMAND`", plugin=self.name, reason=reason,
            ) from error  # fmt: skip
        greeting = self._run.greeting
        self.name, self.version = greeting.name or self.name, greeting.version
        self.wanted = greeting.hooks
        for hook in self.wanted:
            setattr(self, hook, self._ask)
        self._is_up(self._run)
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def _keep(self) -> None:
        """Start it again when it ends, with growing pauses."""
        pause, in_a_row = FIRST_PAUSE, 0
        while True:
            run = self._run
            assert run is not None
            began = time.monotonic()
            reason = await run.ended()
            self._up.clear()
            if self._over:
                return
            if time.monotonic() - began > STEADY:
                pause, in_a_row = FIRST_PAUSE, 0
            self._tell(f"it ended: {reason}")
            while True:
                if in_a_row >= MOST_RESTARTS:
                    self._gave_up = f"it ended {in_a_row} times in a row: {reason}"
                    self._tell(self._gave_up)
                    self._up.set()  # who waits for it is told
                    return
                in_a_row += 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                try:
                    self._run = await _Run.started(self.process, self._sandbox)
                    if set(self.wanted) - set(self._run.greeting.hooks):
                        await self._run.end()
                        raise Breach("it wants other hooks than before")
                except (Breach, OSError, TimeoutError) as error:
                    reason = _why(error)
                    self._tell(f"it did not start again: {reason}")
                    continue
                self.restarts += 1
                self._failures = 0
                self._is_up(self._run)
                break

    def _is_up(self, run: _Run) -> None:
        run.on_end = self._up.clear
        self._up.set()

    def _tell(self, reason: str) -> None:
        log.error("plugin %s of sandbox %s: %s", self.name, self._sandbox, reason)
        self._report(reason)

    async def _ask(self, context: HookContext) -> HookContext | None:
        try:
            async with asyncio.timeout(self.process.timeout):
                answer = await self._answer(context)
        except TimeoutError:
            reason = f"no answer within {self.process.timeout:g} s"
            self._failures += 1
            if self._failures >= HANGS_AFTER and self._run is not None and self._up.is_set():
                self._failures = 0
                self._run.kill("it hangs")
        except (Breach, OSError, ValueError) as error:
            reason = _why(error)
        else:
            self._failures = 0
            if answer.refuse is not None:
                raise Refuse(answer.refuse)
            try:
                if answer.error is not None:
                    raise ValueError(f"it says: {answer.error}")
                return with_changes(context, answer.change) if answer.change else None
            except (TypeError, ValueError) as error:
                reason = str(error)
        if self.process.on_failure == "open":
            self._tell(f"left out of {context.hook}: {reason}")
            return None
        raise PluginFailed(reason, plugin=self.name, reason=reason)

    async def _answer(self, context: HookContext) -> Answer:
        if not self._up.is_set() and self.process.on_failure == "open":
            raise Breach("it is being started again")
        await self._up.wait()
        if self._gave_up:
            raise Breach(self._gave_up)
        assert self._run is not None
        return await self._run.ask(context.hook, plain(context))

    async def end(self) -> None:
        """End the program."""
        self._over = True
        if self._run is not None:
            await self._run.end()
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            if self._run is not None:  # one that was just started again
                await self._run.end()


class _Run:
    """One process, from its start to its end."""

    greeting: Greeting

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._talk = Conversation()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._greeted: asyncio.Future[Greeting] = asyncio.get_running_loop().create_future()
        self.on_end: Callable[[], object] = lambda: None
        self._why = ""
        self._last = ""
        self._tasks = [
            asyncio.get_running_loop().create_task(work) for work in (self._read(), self._listen())
        ]

    @classmethod
    async def started(cls, spec: PluginProcess, sandbox: str) -> _Run:
        """Start it and wait for its greeting.

        Raises:
            OSError, TimeoutError, Breach
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *spec.argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=spec.folder,
            start_new_session=True,
        )  # fmt: skip
        run = cls(process)
        try:
            async with asyncio.timeout(spec.start_timeout):
                await run._send(Conversation.hello(sandbox, version("sandlot")))
                run.greeting = await asyncio.shield(run._greeted)
        except TimeoutError:
            await run.end(patience=0)
            raise TimeoutError(f"no greeting within {spec.start_timeout:g} s") from None
        except (Breach, OSError):
            why = await run.ended()
            await run.end(patience=0)
            raise Breach(why) from None
        except BaseException:
            await run.end(patience=0)
            raise
        return run

    async def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def ask(self, hook: str, context: dict[str, Any]) -> Answer:
        """One request, and its answer.

        Raises:
            Breach, OSError: the program ended.
            ValueError: the context is too long.
        """
        async with self._room:
            if self._why:
                raise Breach(self._why)
            number, data = self._talk.ask(hook, context)
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[number] = future
            try:
                await self._send(data)
                return await future
            finally:
                self._waiting.pop(number, None)
                if not future.cancel() and not future.cancelled():
                    future.exception()  # nobody may have waited for it
                self._talk.forget(number)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while data := await self._process.stdout.read(65536):
                for event in self._talk.receive(data):
                    if isinstance(event, Greeting):
                        if not self._greeted.done():
                            self._greeted.set_result(event)
                    elif isinstance(event, Said):
                        log.info("plugin %s: %s", self._process.pid, event.text)
                    elif (future := self._waiting.get(event.id)) and not future.done():
                        future.set_result(event)
        except (Breach, OSError) as error:
            self.kill(_why(error))
        with contextlib.suppress(TimeoutError):  # most often it ended, and its status says more
            await asyncio.wait_for(self._process.wait(), 1.0)
        self.kill("it ended" if self._process.returncode is not None else "it closed its output")

    async def _listen(self) -> None:
        """What it says on standard error is for people."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError):
            while data := await self._process.stderr.read(4096):
                if not (text := data.decode(errors="replace").strip()):
                    continue
                self._last = "".join(c if c.isprintable() else " " for c in text[-300:])
                log.info("plugin %s: %s", self._process.pid, text[:2000])

    def kill(self, why: str) -> None:
        """End it at once; those who wait are told."""
        if self._why:
            return
        self._why = why
        self.on_end()
        self._signal(signal.SIGKILL)
        self._fail()

    def _fail(self) -> None:
        error = Breach(self._why)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        if not self._greeted.done():
            self._greeted.set_exception(error)
            self._greeted.exception()  # nobody may be waiting for it

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def ended(self) -> str:
        """Wait for its end; why it ended."""
        status = await self._process.wait()
        await asyncio.wait(self._tasks, timeout=1.0)
        self._why = self._why or "it ended"
        self._fail()
        said = f", and said: {self._last}" if self._last else ""
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{self._why} ({how}{said})"

    async def end(self, patience: float = END_PATIENCE) -> None:
        """Let it end: the end of its input says so; then signals."""
        self._why = self._why or "it was ended"
        stdin = self._process.stdin
        if stdin is not None:
            stdin.close()
        for number, wait in ((0, patience), (signal.SIGTERM, patience / 2), (signal.SIGKILL, 10.0)):
            if number:
                self._signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), wait or 0.01)
                break
        self._signal(signal.SIGKILL)  # what it started
        self._fail()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Otherwise the garbage collector closes it, and says so.
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return error.strerror or str(error)
    return str(error) or type(error).__name__
