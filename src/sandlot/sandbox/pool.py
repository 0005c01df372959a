"""Sandboxes that stand ready: restored ahead, paused, and handed out in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sandlot.errors import (
    ConfigError,
    ExecError,
    ImageNotFound,
    ResourceError,
    SandboxError,
    SnapshotNotFound,
    WrongState,
)
from sandlot.sandbox.naming import readable_name
from sandlot.sandbox.options import check_env
from sandlot.sandbox.sandbox import Sandbox
from sandlot.sandbox.sizes import parse_size
from sandlot.sandbox.snapshots import Snapshot

if TYPE_CHECKING:
    pass

MOST = 1000
FIRST_RETRY = 0.5  # seconds after a failure; doubles
LONGEST_RETRY = 30.0


class Pool:
    """Sandboxes of one snapshot, or one image, ready to be taken.

        async with Pool("ml-ready", size=8) as pool:
            worker = await pool.take(env={"WORKER_ID": "1"})

    They are paused until they are taken, so they cost memory and no processor. What was taken is
    replaced in the background; it belongs to who took it, and is not removed with the pool.
    """

    def __init__(
        self, source: Snapshot | str, *, size: int = 8, parallel: int = 2,
        keep_free: int | str = "512M", detached: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        """Nothing is started before `start`, or `async with`.

        Args:
            source: a snapshot, its name, id or tag; or the name of an image.
            size: how many stand ready.
            parallel: how many are made at once: the more, the more of the host's processors go to
                it.
            keep_free: bytes, or text, of the host's memory that are left alone: while less is
                available no more are made.
            detached: let each be kept by a process of its own, so that those that were taken
                outlive this program.
            options: as in `Snapshot.restore`, or `Sandbox.create` for an image; not `name`.

        Raises:
            ConfigError: an argument is wrong.
        """
        for what, value in (("size", size), ("parallel", parallel)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise ConfigError(
                    f"{what} {value!r} is not a number from 1 to {MOST}",
                    hint=f"use for example {what}=8",
                )
        if "name" in options:
            raise ConfigError("a pool names its sandboxes itself", hint="leave name= out")
        if not isinstance(source, (Snapshot, str)) or not source:
            raise ConfigError(
                f"{source!r} is neither a snapshot nor the name of one or of an image"
            )
        self._source = source
        self.size = size
        self._parallel = parallel
        self._keep_free = parse_size(keep_free, "keep_free") if keep_free not in (0, "0") else 0
        self._detached = detached
        self._options = options
        self._snapshot: Snapshot | None = None
        self._ready: deque[Sandbox] = deque()
        self._making = 0
        self._changed = asyncio.Event()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False
        self.problem: SandboxError | None = None
        """Why the last sandbox could not be made; None when it could."""

    def __repr__(self) -> str:
        return f"<Pool of {self._described()} {self.ready}/{self.size} ready>"

    def _described(self) -> str:
        if self._snapshot is not None:
            return f"snapshot {self._snapshot.name!r}"
        return f"{self._source!r}" if isinstance(self._source, str) else repr(self._source)

    @property
    def ready(self) -> int:
        """How many can be taken at once."""
        return len(self._ready)

    async def start(self, *, wait: bool = True) -> Pool:
        """Begin to fill it.

        Args:
            wait: return when it is full, or as full as the host's memory allows.

        Raises:
            SnapshotNotFound, ImageNotFound: there is no such source.
            SandboxError: the first one could not be made.
        """
        if self._open:
            raise WrongState("the pool is open already")
        if isinstance(self._source, Snapshot):
            self._snapshot = self._source
        else:
            with contextlib.suppress(SnapshotNotFound):
                self._snapshot = await Snapshot.get(self._source)
        maker = Sandbox.create if self._snapshot is None else Snapshot.restore
        known = inspect.signature(maker).parameters
        for name in self._options:
            if name not in known:
                raise ConfigError(
                    f"{name}= is not for a pool of {self._described()}",
                    hint="memory and processors of a snapshot are as they were saved"
                    if name in ("memory", "cpus")
                    else "",
                )
        self._open = True
        try:
            try:
                await self._make()  # what is wrong is told to who opens it
            except ImageNotFound as error:
                raise ImageNotFound(
                    f"there is no snapshot named {self._source!r}, and no image: {error.message}",
                    hint=f"`sandlot snapshot ls` lists snapshots; {error.hint}",
                ) from error
            self._refill()
            while wait and self._making:
                await self._change()
        except BaseException:
            await self.close()
            raise
        return self

    async def full(self) -> None:
        """Wait until as many stand ready as were asked for.

        Raises:
            WrongState: the pool is closed, or was closed meanwhile.
        """
        while self.ready < self.size:
            if not self._open:
                raise WrongState("the pool is closed")
            await self._change()

    async def take(self, *, env: Mapping[str, str] | None = None) -> Sandbox:
        """A running sandbox, which is the caller's from now on: `remove` it, or use `async with`.

        Args:
            env: variables for the commands that are started in it; programs that run in it already
                find them in `/run/sandlot/restored` when it came from a snapshot.

        Raises:
            WrongState: the pool is closed.
            SandboxError: none is ready and none could be made.
        """
        own = check_env(env)
        self._waiting += 1
        try:
            while True:
                if not self._open:
                    raise WrongState(
                        "the pool is closed", hint="open it with `async with`, or start"
                    )
                sandbox = self._next()
                if sandbox is None:
                    self._refill()
                    if not self._making:
                        await self._make()
                    else:
                        await self._change()
                    continue
                if await self._handed_out(sandbox, own):
                    return sandbox
        finally:
            self._waiting -= 1
            self._refill()

    def _next(self) -> Sandbox | None:
        return self._ready.popleft() if self._ready else None

    async def _handed_out(self, sandbox: Sandbox, env: Mapping[str, str]) -> bool:
        """Let it go on; one that has died meanwhile is removed instead."""
        try:
            # While it is paused nobody else writes this down.
            sandbox._folder.update_run_state(pooled=False)
            await sandbox.resume()
            if env:
                await sandbox._given(env)
            return True
        except SandboxError:
            with contextlib.suppress(SandboxError):
                await sandbox.remove()
            return False

    # -- filling ---------------------------------------------------------------------------

    def _refill(self) -> None:
        """Begin to make what is missing, as many at once as was asked."""
        if not self._open:
            return
        self._drop_dead()
        wanted = self.size + self._waiting - len(self._ready) - self._making
        for _ in range(min(wanted, self._parallel - self._making)):
            self._making += 1
            task = asyncio.get_running_loop().create_task(self._fill())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fill(self) -> None:
        retry = FIRST_RETRY
        try:
            while self._open:
                try:
                    await self._make()
                    return
                except SandboxError as error:
                    self.problem = error
                    if self._waiting:
                        return  # who waits tries by itself, and is told
                    self._tell()
                    await asyncio.sleep(retry)  # what is missing on the host may come back
                    retry = min(2 * retry, LONGEST_RETRY)
        finally:
            self._making -= 1
            self._tell()
            if self._open and self.problem is None:
                self._refill()

    async def _make(self) -> None:
        free = available_memory()
        if free is not None and free < self._keep_free:
            raise ResourceError(
                f"{free >> 20}M of the host's memory are left, and the pool keeps "
                f"{self._keep_free >> 20}M free",
                hint="take fewer, or use keep_free=",
            )
        name = f"pool-{readable_name()}"
        if self._snapshot is not None:
            made = await self._snapshot.restore(name, detached=self._detached, **self._options)
        else:
            made = await Sandbox.create(
                name, image=str(self._source), detached=self._detached, **self._options
            )
        try:
            await _warm(made)
            await made.pause()
            made._folder.update_run_state(pooled=True)
        except BaseException:
            with contextlib.suppress(SandboxError):
                await made.remove()
            raise
        if not self._open:
            await made.remove()
            return
        self.problem = None
        self._ready.append(made)
        self._tell()

    def _drop_dead(self) -> None:
        """Forget those that have ended while they stood ready."""
        dead = [each for each in self._ready if each.status not in ("paused", "running")]
        for each in dead:
            self._ready.remove(each)
            task = asyncio.get_running_loop().create_task(_removed(each))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    # -- the end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Remove those that stand ready. Closing twice is allowed."""
        self._open = False
        self._tell()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ready, self._ready = list(self._ready), deque()
        await asyncio.gather(*(each.remove() for each in ready), return_exceptions=True)

    async def __aenter__(self) -> Pool:
        return self if self._open else await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.close()


async def _warm(sandbox: Sandbox) -> None:
    """Run a program once or twice: an emulated machine translates code when it first meets it, and
    the agent of any machine has read what it needs."""
    for command in (["/proc/1/exe"], ["/bin/sh", "-c", ":"]):
        with contextlib.suppress(ExecError):  # an image may have no shell
            await sandbox.exec(command, timeout=30)


async def _removed(sandbox: Sandbox) -> None:
    with contextlib.suppress(SandboxError):
        await sandbox.remove()


def available_memory() -> int | None:
    """How much memory the host can give without swapping, in bytes; None where it does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
