"""The life of a sandbox: the part of `Sandbox` that starts, pauses, stops and removes it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal as signals
from collections.abc import Sequence
from pathlib import Path

from sandlot.errors import SandboxError, WrongState
from sandlot.sandbox.door import ask_to_pause, ask_to_stop, door_path
from sandlot.sandbox.looking import Looking
from sandlot.sandbox.sizes import check_name, parse_duration
from sandlot.state.lock import is_held

STOP_GRACE = 10.0
OWNER_PATIENCE = 30.0  # seconds, over the grace, until an owner counts as hanging
KILL_PATIENCE = 10.0


class Life(Looking):
    """Base of `Sandbox`: from `start` to `remove`."""

    async def start(
        self, *, secrets: object = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
    ) -> None:  # fmt: skip
        """Start a stopped sandbox: the same disk, a new machine.

        Args:
            secrets: those of its secrets whose values a program has to give again, as in `create`.
            plugins, plugin_processes: as in `create`, instead of those that it has; objects of a
                program that is gone have to be given again, or `plugins=[]` to go without.

        Raises:
            WrongState: it runs already, or was stopped while it started.
            Refuse: a plugin does not let it start.
            SecretUnavailable: the value of one of its secrets cannot be had.
            BootError, ImageError, EngineUnavailable: it cannot run.
        """
        if secrets is not None:
            from sandlot.sandbox.secrecy import again

            self._secrets = again(self._record, self._secrets, secrets)
        if plugins is not None or plugin_processes is not None:
            from sandlot.plugin.declared import declared

            listed, self._plugins = declared(plugins, plugin_processes, self._record.detached)
            self._record = dataclasses.replace(self._folder.record(), plugins=listed)
            self._folder.write_record(self._record)
        lock, self._lock = self._lock, None
        if self._record.detached:
            from sandlot.sandbox.keeper import start_keeper

            await start_keeper(self.name, lock, self._secrets)
            return
        from sandlot.sandbox.lifecycle import start_owned

        self._owner = await start_owned(
            self._host, self._folder, lock, self._hooks, self._secrets, self._lineage, self._objects,
            self._plugins,
        )  # fmt: skip

    async def stop(self, *, grace: float | str | None = None, kill: bool = False) -> None:
        """End its processes, write its disk, end it.

        The main command gets the stop signal that the sandbox or its image names, all others
        SIGTERM; what still runs after `grace` (seconds, or text such as `"1m"`; what it was made
        with otherwise, 10 s by default) gets SIGKILL. With `kill` the machine is ended at once.
        Stopping a stopped sandbox is allowed; one that is just starting is stopped as well.

        Raises:
            WrongState: the program that runs it hangs.
        """
        await self._halt(grace, kill)

    async def _halt(self, grace: float | str | None, kill: bool, *, keep: bool = False) -> None:
        if grace is None:
            seconds = self._record.stop_grace
        else:
            seconds = 0.0 if grace in (0, "0") else parse_duration(grace, "grace") or 0.0
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._owner is not None:
            if self._owner.alive:
                await self._owner.stop(seconds, kill=kill)
            await self._owner.ended()
            self._owner = None
            return
        patience = KILL_PATIENCE if kill else seconds + OWNER_PATIENCE
        try:
            async with asyncio.timeout(patience):
                await self._ask_to_stop(seconds, kill, keep)
        except TimeoutError:
            await self._owner_hangs(kill)
        finally:
            self._remote = None

    async def _ask_to_stop(self, seconds: float, kill: bool, keep: bool) -> None:
        pause = 0.005
        while self._runs():
            session = await self._find_session()
            if session is not None:
                with contextlib.suppress(SandboxError, BrokenPipeError):
                    await ask_to_stop(session, grace=seconds, kill=kill, keep=keep)
                self._remote = None
            # Its owner has the lock a moment before it has a door, and a moment longer.
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def _runs(self) -> bool:
        """Whether somebody owns this very sandbox; its name may have become another one's."""
        return is_held(self._folder.lock_path) and self._is_there()

    def _found(self) -> bool:
        """Whether it exists; under its new name from now on, if somebody has renamed it."""
        known = self._stamp()
        if known is not None and known == self._known:
            return True  # its record may be long, and is not read again for every question
        if self._is_there():
            self._known = known
            return True
        try:
            folder = self._host.sandboxes.find(self.id)
            record = folder.record()
        except SandboxError:
            return False
        if record.id == self.id:
            self._folder, self._record = folder, record
        return record.id == self.id

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = (self._folder.path / "sandbox.json").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_ctime_ns

    async def _owner_hangs(self, kill: bool) -> None:
        """A keeper that does not answer may be killed: it is ours. Another program is its user's."""
        state = self._folder.run_state()
        owner = state.owner
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{owner}/cmdline").read_bytes()
            if kill and b"sandlot.sandbox.keeper" in command and state.running:
                os.kill(owner, signals.SIGKILL)
                await self._released()
                return
        raise WrongState(
            f"sandbox {self.name!r} cannot be stopped: process {owner}, which runs it, "
            "does not answer",
            hint=f"end that process with `kill -9 {owner}`",
        )

    async def kill(self, signal: int | str = signals.SIGKILL) -> None:
        """End it at once, or send another signal to its main command.

        Raises:
            WrongState: it does not run, or has no main command for the signal.
        """
        from sandlot.sandbox.process import signal_number

        number = signal_number(signal)
        if not self._runs():
            raise self._not_running(f"it has ended; `sandlot rm {self.name}` removes it")
        if number == signals.SIGKILL:
            await self.stop(kill=True)
            return
        await (await self.main_job()).signal(number, to="process")

    async def restart(self, *, grace: float | str | None = None) -> None:
        """Stop it and start it again: the same disk, a new machine.

        Raises:
            WrongState: another program runs it as its own.
            SecretUnavailable: the value of a secret cannot be had; it runs on then.
        """
        if self._owner is None and not self._record.detached and self._runs():
            raise WrongState(
                f"sandbox {self.name!r} belongs to the program that started it (process "
                f"{self._folder.run_state().owner})",
                hint="only that program can restart it",
            )
        if self._record.secrets:
            from sandlot.sandbox.secrecy import recorded_secrets
            from sandlot.secrets import Vault

            known = recorded_secrets(self._record, self._secrets)
            await Vault(known, self._record.placeholders).read_all()
        await self._halt(grace, False, keep=True)
        await self.start()

    async def _released(self) -> None:
        """Wait until the program that ran it has let go of it."""
        pause = 0.005
        while self._runs():
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    async def pause(self) -> None:
        """Stop its processors; memory and connections stay. Pausing twice is allowed.

        Raises:
            WrongState: it does not run.
        """
        await self._pause(True)

    async def resume(self) -> None:
        """Let it go on after `pause`, with the right time. Resuming twice is allowed.

        Raises:
            WrongState: it does not run.
        """
        await self._pause(False)

    async def _pause(self, pause: bool) -> None:
        if self._owner is not None:
            await (self._owner.pause() if pause else self._owner.resume())
            return
        session = await self._find_session()
        if session is None:
            raise self._not_running("only a running one can be paused; `sandlot ps` lists those")
        await ask_to_pause(session, pause=pause)

    async def rename(self, name: str) -> None:
        """Give it another name, while it is stopped. Its host name stays.

        Raises:
            NameTaken: another sandbox has it.
            WrongState: it runs.
        """
        self._folder = self._host.sandboxes.rename(self._folder, check_name(name))
        self._record = self._folder.record()

    async def remove(self, *, volumes: bool = False) -> None:
        """Stop it at once and remove all of it. Removing it twice is allowed.

        Args:
            volumes: also those that were made with it, for a path only; named ones stay.

        Raises:
            WrongState: the program that runs it hangs.
        """
        for _ in range(20):
            await self.stop(kill=True)
            if not self._folder.path.exists() or not self._is_there():
                return
            with contextlib.suppress(SandboxError):
                self._host.sandboxes.remove(self._folder, anonymous=volumes)
                # An owner that was killed could not.
                door_path(self._host.paths.sockets, self.id).unlink(missing_ok=True)
                return
            if not self._runs():  # no lock can be had: a damaged folder
                import shutil

                shutil.rmtree(self._folder.path, ignore_errors=True)
        raise WrongState(
            f"sandbox {self.name!r} is started again and again",
            hint="end the program that does so, and try again",
        )

    async def wait(self) -> int | None:
        """Wait until it has stopped, by itself or by others.

        Returns:
            How its main command ended; None when it had none, or the sandbox is gone.
        """
        if self._owner is not None:
            await self._owner.over()
        else:
            await self._released()
        return self._folder.run_state().exit_code if self._is_there() else None
