"""Who runs a sandbox: the lock, the door, the machines one after the other, and their end.

A program that starts an attached sandbox has one `Owner`; a keeper has one for its detached
sandbox, and may bring up several machines with it (`restart`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sandlot.errors import SandboxDied, SandboxError, SandboxNotFound, WrongState
from sandlot.guest.session import GuestSession
from sandlot.sandbox.door import Door, door_path
from sandlot.sandbox.ending import DIED, KILLED, STOPPED
from sandlot.sandbox.hearing import Hearing
from sandlot.sandbox.hibernation import Sleep
from sandlot.sandbox.host import Host
from sandlot.sandbox.idleness import watch_duration, watch_idleness
from sandlot.sandbox.joining import Joining
from sandlot.sandbox.lazy import Fetching
from sandlot.sandbox.mounted import Mounted
from sandlot.sandbox.owned import OwnedMachine
from sandlot.state.lock import FileLock
from sandlot.state.records import SandboxFolder, SandboxRecord

if TYPE_CHECKING:
    from sandlot.network.hooks import Hooks
    from sandlot.network.policy import Network
    from sandlot.network.tls.authority import Authority
    from sandlot.sandbox.lending import Lending
    from sandlot.sandbox.plugged import Plugged
    from sandlot.sandbox.reach import Reach
    from sandlot.sandbox.secrecy import Grants
    from sandlot.secrets import Secret


class Owner:
    """Runs one sandbox in this program. Made by `take`; `bring_up` starts its machine."""

    def __init__(
        self, host: Host, folder: SandboxFolder, record: SandboxRecord, lock: FileLock
    ) -> None:
        self.folder = folder
        self.record = record
        self.owned: OwnedMachine | None = None
        self.stays = False
        """Whether the sandbox goes on when its machine has ended: a keeper decides then."""
        self.main = 0
        """The job that is the main command."""
        self.paused = False
        self.sleep = Sleep(self)
        self.joining = Joining(self)
        self.hearing = Hearing(self)
        self.gone = asyncio.Event()
        """Set when its machine has ended, unless it sleeps."""
        self.deadline: float | None = None
        self.kept = False
        """Whether it stays at its end, though it is one that is removed then: it is restarted."""
        self.removes = False
        """Whether this program removes it at its end, under the lock that is in `left` then."""
        self.left: FileLock | None = None
        self.stopping = ""
        """Why it is being stopped, or empty."""
        self._main_ended = False  # before anybody asked for the end
        self.on_end: list[Callable[[], None]] = []
        self.hooks: Hooks | None = None
        self.plugins: tuple[object, ...] = ()
        """The objects among its plugins; the record names the others."""
        self.plugged: Plugged | None = None
        self.secrets: Mapping[str, Secret] = {}
        """Those that the program gave; the record says where the others come from."""
        self.volumes = Mounted(self)
        self.lending: Lending | None = None
        """The runtime that it was lent, when it has a grant."""
        self.fetching = Fetching(host, folder)
        self.lineage: Authority | None = None
        """The authority of the sandbox that it was forked from, or restored, in this program."""
        self.reach: Reach | None = None
        self._before = folder.run_state()
        self.host = host
        self._lock: FileLock | None = lock
        self._door = Door(self, door_path(host.paths.sockets, record.id))
        self._starting: asyncio.Task[OwnedMachine] | None = None
        self.up = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self.ended_event = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_task: asyncio.Task[None] | None = None
        self._restarts = 0
        self.saving = asyncio.Lock()
        """Held while its machine is saved: one after the other."""
        self._used = time.monotonic()
        self._busy = 0

    @classmethod
    def take(cls, host: Host, folder: SandboxFolder, lock: FileLock | None = None) -> Owner:
        """Become the owner of a stopped sandbox, and open its door.

        Raises:
            WrongState: it runs already.
            SandboxNotFound: it is gone.
        """
        mine = lock or FileLock.take(folder.lock_path)
        if mine is None:
            if not folder.path.exists():
                raise SandboxNotFound(f"no sandbox is named {folder.path.name!r}")
            raise WrongState(f"sandbox {folder.path.name!r} is running already")
        try:
            owner = cls(host, folder, folder.record(), mine)
            folder.write_run_state()
            owner._door.open()
        except BaseException:
            mine.release()
            raise
        return owner

    # -- machines --------------------------------------------------------------------------

    async def bring_up(self) -> OwnedMachine:
        """Start the machine.

        Raises:
            WrongState: somebody stopped the sandbox meanwhile.
            BootError, ImageError, EngineUnavailable: it cannot run.
        """
        try:
            if self.stopping:
                raise self._stopped()
            if self.record.plugins:
                await self._plug_in().start()
            # What can fail is told before a machine is started for nothing.
            if self.record.ports or self.record.secrets:
                await self._open_network().prepare()
            self.volumes.check()
            await self.fetching.open()
            loop = asyncio.get_running_loop()
            self._starting = loop.create_task(
                OwnedMachine.restore(self.host, self.folder, self.record, self.fetching)
            )
            # Costs as much as a good part of the machine's start, in which this process waits.
            imported = loop.run_in_executor(None, import_module, "sandlot.sandbox.reach")
            try:
                self.owned = await asyncio.shield(self._starting)
            except asyncio.CancelledError:
                if not self.stopping:
                    self._starting.cancel()
                    with contextlib.suppress(asyncio.CancelledError, SandboxError):
                        await self._starting
                    raise
                raise self._stopped() from None
            finally:
                self._starting = None
            self.owned.on_end.append(self.machine_ended)
            await imported
            reach = self._open_network()
            await reach.attach(self.owned.session)
            await self.volumes.attach(self.owned)
            if self.record.runtime:
                from sandlot.sandbox.lending import Lending

                self.lending = self.lending or Lending(self)
                await self.lending.attach(self.owned)
            self.main = self.owned.main
            await self.owned.thaw()
            before = self.folder.run_state()
            self.folder.write_run_state(
                owner=os.getpid(), monitor=self.owned.machine.pid,
                started=before.started if self.asleep else time.time(),
                restarts=self._restarts, ports=[port.to_json() for port in reach.ports],
            )  # fmt: skip
        except BaseException:
            if self.owned is not None:
                await self.owned.kill()
            self.finish()
            await self._settled()
            raise
        if self.main:
            self.folder.update_run_state(main=self.main)
        event, self.sleep.asleep = "woken" if self.asleep else "started", False
        self.paused = self._main_ended = False
        self.fetching.begin(self.owned.machine)
        self.touch()
        self.gone.clear()
        self.up.set()
        self.event(event)
        for work in (watch_idleness(self), watch_duration(self)):
            self.run(work)
        return self.owned

    def _open_network(self) -> Reach:
        if self.reach is None:
            from sandlot.sandbox.reach import Reach

            async def channel() -> Any:
                return (await self.session()).channel

            self.reach = Reach(
                self.folder, self.record, channel, self.asked, self.secrets, self.lineage
            )
            if self.plugged is not None:
                self.reach.plug(self.plugged.flow_watcher, self.plugged.pace)
        return self.reach

    def _plug_in(self) -> Plugged:
        if self.plugged is None:
            from sandlot.sandbox.plugged import Plugged

            self.plugged = Plugged(self, self.plugins)
        return self.plugged

    @property
    def asked(self) -> Hooks | None:
        """What is asked about its network and its volumes."""
        return self.plugged.hooks(self.hooks) if self.plugged is not None else self.hooks

    def grants(self) -> Grants:
        """What children of it in this program are given."""
        from sandlot.sandbox.secrecy import Grants

        authority = self.reach.authority if self.reach is not None else None
        volumes = self.volumes.file_systems
        return Grants(dict(self.secrets), self.hooks, authority, volumes, self.plugins)

    def set_network(self, network: Network) -> int:
        """Hold to another policy at once; how many flows that cut is returned."""
        self.record = dataclasses.replace(self.folder.record(), network=network.to_json())
        self.folder.write_record(self.record)
        return len(self.reach.update(network)) if self.reach is not None else 0

    def _stopped(self) -> WrongState:
        return WrongState(f"sandbox {self.record.name!r} was stopped while it started")

    def machine_ended(self) -> None:
        self.up.clear()
        self._cancel_tasks()
        self.volumes.machine_ended()
        if self.asleep:
            self.owned = None
            return
        self.gone.set()
        if not self.stays or self.stopping:
            self.finish()

    def restarting(self, count: int) -> None:
        """The machine has ended and another one comes soon."""
        self._restarts = count
        self._main_ended = False
        state = self.folder.run_state()
        self.folder.write_run_state(
            owner=os.getpid(), started=state.started, exit_code=state.exit_code, oom=state.oom,
            restarts=count, restarting=True,
        )  # fmt: skip
        self.event("restarting", count=count)

    def finish(self) -> None:
        """The sandbox has stopped: write it down, close the door, let others have it."""
        if self._lock is None:
            return
        self._cancel_tasks()
        self.gone.set()
        self._door.close()
        if self.lending is not None:
            self.lending.close()
        if self.reach is not None:
            self.reach.close()
        with contextlib.suppress(SandboxError, OSError):
            state = self.folder.run_state()
            reason = "" if self._main_ended else self.stopping
            if not reason and self.owned is not None and not self.owned.wanted_end:
                reason = DIED
            if self.owned is None and self._before.started:  # it did not start: all is as it was
                before = dataclasses.asdict(self._before)
                del before["running"]
                self.folder.write_run_state(**before)
            else:
                self.folder.write_run_state(
                    started=state.started, finished=time.time(), exit_code=state.exit_code,
                    restarts=self._restarts, oom=state.oom, reason=reason,
                )  # fmt: skip
            if state.started:
                self.event("stopped", **({"reason": reason} if reason else {}))
        if not self.folder.saved.exists():
            # The memory that its machine began with; a link to a template would keep its room.
            shutil.rmtree(self.folder.memory, ignore_errors=True)
        self.fetching.close()
        if self.plugged is not None:
            self.plugged.stopped(self.stopping or "its main command ended")
        if self.removes and not self.kept:
            self.left = self._lock  # who waits for its end waits until it is removed
        else:
            self._lock.release()
        self._lock = None
        for each in self.on_end:
            each()
        self.ended_event.set()

    # -- what others ask -------------------------------------------------------------------

    async def session(self) -> GuestSession:
        """The session with the guest, as soon as it is up.

        Raises:
            WrongState: the sandbox is paused, or waits to be restarted.
            SandboxDied: it has ended.
        """
        name = self.record.name
        if self.asleep and not self.stopping:
            await self.sleep.wake()
        if self._starting is not None or (self.owned is None and self._lock is not None):
            up = asyncio.get_running_loop().create_task(self.up.wait())
            over = asyncio.get_running_loop().create_task(self.ended_event.wait())
            await asyncio.wait([up, over], return_when=asyncio.FIRST_COMPLETED)
            up.cancel()
            over.cancel()
        if self.stopping:
            why = "" if self.stopping in (STOPPED, KILLED) else f": {self.stopping}"
            raise SandboxDied(f"sandbox {name!r} was stopped{why}")
        if self.paused:
            raise WrongState(
                f"sandbox {name!r} is paused", hint=f"let it go on with `sandlot unpause {name}`"
            )
        owned = self.owned
        if owned is not None and owned.session.channel.error is not None:
            if not owned.alive:
                await owned.ended()
            raise owned.session.channel.error
        if owned is None or not owned.alive:
            if self._lock is not None:
                raise WrongState(f"sandbox {name!r} waits to be restarted", hint="try again later")
            raise SandboxDied(f"sandbox {name!r} was stopped")
        return owned.session

    async def stop(self, grace: float, *, kill: bool = False, reason: str = "") -> None:
        """End the machine, and the sandbox's life; returns when it is over."""
        reason = reason or (KILLED if kill else STOPPED)
        if self.asleep and not kill and not self.stopping:
            with contextlib.suppress(SandboxError):
                await self.sleep.wake()  # its programs are to end in order
        self.stopping = self.stopping or reason
        if self.owned is not None:
            self.owned.why = self.owned.why or reason
        self.stop_asked.set()
        if self.lending is not None:  # first, so that all is over when it is told that this is
            await self.lending.closed()
        if self._starting is not None:
            self._starting.cancel()
        elif self.owned is not None and self.owned.alive:
            if kill:
                await self.owned.kill()
            else:
                if self.paused:
                    await self.resume()
                await self.owned.shutdown(grace, signal=self.record.stop_signal, process=self.main)
        elif self.asleep and not self.saving.locked():
            self.sleep.forget()
        elif not self.stays:
            self.finish()
        await self.ended_event.wait()
        await self.peers_ended()

    async def pause(self) -> None:
        """Stop the processors. Pausing twice is allowed."""
        owned = await self._alive()
        if not self.paused:
            self.paused = True
            owned.session.channel.hold(True)
            await owned.machine.pause()
            self.folder.update_run_state(paused=True)
            self.event("paused")

    async def resume(self) -> None:
        """Let the processors run, with the right time. Resuming twice is allowed."""
        owned = await self._alive()
        if self.paused:
            await owned.machine.resume()
            owned.session.channel.hold(False)
            self.paused = False
            owned.session.set_clock()
            self.touch()
            self.folder.update_run_state(paused=False)
            self.event("resumed")

    async def _alive(self) -> OwnedMachine:
        if not self.paused:
            await self.session()
        if self.owned is None or not self.owned.alive:
            raise WrongState(f"sandbox {self.record.name!r} is not running")
        return self.owned

    async def ended(self) -> None:
        """Wait until the sandbox has stopped."""
        if self.owned is not None and not self.owned.alive:
            await self.owned.ended()
        await self.ended_event.wait()
        await self.volumes.ended()
        await self._settled()
        await self.peers_ended()

    async def _settled(self) -> None:
        await self.fetching.closed()
        if self.plugged is not None:
            await self.plugged.settled()

    async def peers_ended(self) -> None:
        """Wait until what its programs have started is gone, if it is to go with it."""
        if self.lending is not None:
            await self.lending.ended()

    async def over(self) -> None:
        """Wait until it stops, for whatever reason, without stopping it."""
        await self.ended_event.wait()

    @property
    def asleep(self) -> bool:
        """Whether its machine was saved and ended until somebody needs it."""
        return self.sleep.asleep

    @property
    def alive(self) -> bool:
        """Whether the sandbox can still be used."""
        if self._lock is None:
            return False
        return self.asleep or (self.owned is not None and self.owned.alive)

    def note_exit(self, code: int, signal: int | None, *, oom: bool) -> None:
        """The main command has ended."""
        self._main_ended = not self.stopping
        self.folder.update_run_state(exit_code=code, oom=oom)
        if oom:
            self.event("oom", memory=self.record.memory)
        details = {"exit_code": code} | ({"signal": signal} if signal else {})
        self.event("exited", **details)

    def event(self, kind: str, **details: Any) -> None:
        """Tell what happened to the sandbox."""
        record = self.record
        self.host.sandboxes.events.append(
            kind, self.folder.path.name, record.id, record.image, **details
        )

    # -- limits of time --------------------------------------------------------------------

    def touch(self) -> None:
        """Somebody uses the sandbox now."""
        self._used = time.monotonic()

    @contextlib.contextmanager
    def using(self) -> Any:
        """Somebody uses it until the block ends."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.touch()

    def in_use(self) -> bool:
        """Whether somebody uses it at this moment."""
        assert self.owned is not None
        channel = self.owned.session.channel
        # The main command is watched, the gateway listens and volumes are served all the time, which
        # is no use of it.
        standing = bool(self.main) + (self.reach is not None) + len(self.volumes.served)
        return self._busy > 0 or channel.open_streams > standing

    def last_use(self) -> float:
        """When it was last used, by the monotonic clock."""
        assert self.owned is not None
        if self.in_use():
            self.touch()
        return max(self._used, self.owned.session.channel.last_used)

    def hibernate_soon(self) -> None:
        """Begin to save it and end its machine."""
        self._last_task = asyncio.get_running_loop().create_task(self.sleep.hibernate())

    def stop_soon(self, reason: str) -> None:
        """Begin to stop it."""
        # Not one of the tasks that the end cancels.
        self._last_task = asyncio.get_running_loop().create_task(
            self.stop(self.record.stop_grace, reason=reason)
        )

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel_tasks(self) -> None:
        self.joining.forget()
        for task in list(self._tasks):
            task.cancel()
