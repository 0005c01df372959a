"""The sleep of a sandbox: its owner saves an idle machine, and lets it go on when it is needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandlot.errors import SandboxError
from sandlot.sandbox.idleness import watch_idleness

if TYPE_CHECKING:
    from sandlot.guest.session import GuestSession
    from sandlot.sandbox.owner import Owner


class Sleep:
    """The sleep of one owner's machine."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.asleep = False
        """Whether its machine was saved and ended until somebody needs it."""
        self._waking: asyncio.Task[None] | None = None

    async def hibernate(self) -> None:
        """Save the machine and end it; whoever needs it wakes it. When it cannot be saved it runs
        on, and is tried again after the time of its idleness."""
        from sandlot.sandbox.capture import put_aside

        owned = self._owner.owned
        async with self._owner.saving:
            if owned is None or not owned.alive or self._owner.stopping or self._owner.paused:
                return
            self._owner.up.clear()
            self.asleep = True
            try:
                await self._owner.fetching.completed()
                await self._owner.joining.give_way()
                await put_aside(self._owner, owned, lambda: not self._owner.in_use())
            except (SandboxError, OSError) as error:
                self.asleep = False
                if owned.alive:
                    self._owner.up.set()
                    self._owner.touch()
                    self._owner.event("hibernation-failed", reason=str(error))
                    self._owner.run(watch_idleness(self._owner))
                else:
                    self._owner.machine_ended()
                return
            owned.sleeps = True
            await owned.kill()
            if self._owner.stopping:
                self.forget()
                return
            self._owner.folder.update_run_state(hibernated=True, monitor=0)
            self._owner.event("hibernated")

    def forget(self) -> None:
        """End a sandbox that sleeps: what was saved of its machine is lost."""
        self._owner.folder.drop_saved()
        self.asleep = False
        self._owner.finish()

    async def wake(self) -> None:
        """Let a machine that sleeps go on; all who ask at once wait for the same."""
        if self._waking is None:
            self._waking = asyncio.get_running_loop().create_task(self._woken())
        await asyncio.shield(self._waking)

    async def awake(self) -> GuestSession | None:
        """The session of a machine that sleeps, when somebody has woken it; None when it has ended
        instead. This wakes it not."""
        loop = asyncio.get_running_loop()
        waits = [
            loop.create_task(each.wait()) for each in (self._owner.up, self._owner.ended_event)
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        owned = self._owner.owned
        return owned.session if owned is not None and self._owner.up.is_set() else None

    async def _woken(self) -> None:
        try:
            async with self._owner.saving:  # it may just be falling asleep
                if self.asleep:
                    await self._owner.bring_up()
        finally:
            self._waking = None
