"""The life of a sandbox: the part of `Sandbox` that starts, stops and removes it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from sandlot.errors import SandboxError, WrongState
from sandlot.sandbox.door import ask_to_stop
from sandlot.sandbox.keeper import start_keeper
from sandlot.sandbox.lifecycle import start_owned
from sandlot.sandbox.looking import Looking
from sandlot.sandbox.sizes import parse_duration
from sandlot.state.lock import FileLock

STOP_GRACE = 10.0


class Life(Looking):
    """Base of `Sandbox`: from `start` to `remove`."""

    async def start(self) -> None:
        """Start a stopped sandbox: the same disk, a new machine.

        Raises:
            WrongState: it runs already.
            BootError, ImageError, EngineUnavailable: it cannot run.
        """
        if self._record.detached:
            await start_keeper(self.name)
            return
        self._owned = await start_owned(self._host, self._folder)

    async def stop(self, *, grace: float | str = STOP_GRACE, kill: bool = False) -> None:
        """End its processes (SIGTERM, after `grace` seconds SIGKILL), write its disk, end it.

        With `kill` the machine is ended at once. Stopping a stopped sandbox is allowed.
        """
        seconds = 0.0 if grace == 0 else parse_duration(grace, "grace") or 0.0
        if self._owned is not None:
            if self._owned.alive:
                await (self._owned.kill() if kill else self._owned.shutdown(seconds))
            await self._owned.ended()
            self._owned = None
            return
        session = await self._find_session()
        if session is None:
            return
        await ask_to_stop(session, grace=seconds, kill=kill)
        self._remote = None
        await self._released()

    async def _released(self) -> None:
        """Wait until the program that ran it has let go of it."""
        while (lock := FileLock.take(self._folder.lock_path)) is None:
            if not self._folder.path.exists():
                return
            await asyncio.sleep(0.005)
        lock.release()

    async def remove(self) -> None:
        """Stop it at once and remove all of it. Removing it twice is allowed."""
        await self.stop(kill=True)
        with contextlib.suppress(SandboxError):
            self._host.sandboxes.remove(self._folder)
        if self._folder.path.exists() and self._folder.run_state().running:
            raise WrongState(f"sandbox {self.name!r} is running and does not let itself be stopped")
        if self._folder.path.exists():
            shutil.rmtree(self._folder.path, ignore_errors=True)

    async def wait(self) -> None:
        """Wait until it has ended, by itself or by others."""
        if self._owned is not None:
            over = asyncio.Event()
            self._owned.on_end.append(over.set)
            if self._owned.alive:
                await over.wait()
            return
        await self._released()
