"""Does what was planned: in parallel as far as dependencies allow, and whatever fails is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from sandlot.errors import FleetError, NameTaken, SandboxError, SandboxNotFound, WrongState
from sandlot.fleet.health import last_words, until_healthy
from sandlot.fleet.making import given_secrets, image, make
from sandlot.fleet.planning import Step
from sandlot.fleet.spec import FleetSpec, Member
from sandlot.fleet.state import reached
from sandlot.sandbox.sandbox import Sandbox

Tell: TypeAlias = Callable[[str, str], object]


class Execution:
    """The work on one plan. `tell` gets the name of a sandbox and what happens to it."""

    def __init__(self, spec: FleetSpec, tell: Tell) -> None:
        self._spec = spec
        self._tell = tell
        self._failures: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._began: dict[str, asyncio.Future[bool]] = {}
        self._waits: dict[tuple[str, str], asyncio.Task[bool]] = {}

    async def bring_up(self, steps: Sequence[Step]) -> None:
        """Do what `plan` said.

        Raises:
            FleetError: a member did not come up, or one that it needs did not.
        """
        up = [step for step in steps if step.action != "remove"]
        await self._all([self._fetch(step) for step in up])
        # All that goes is gone before anything comes: it may hold a port or a volume.
        await self._all([self._away(step) for step in steps])
        loop = asyncio.get_running_loop()
        self._began = {step.sandbox: loop.create_future() for step in up}
        try:
            await self._all([self._come(step) for step in up])
        finally:
            for task in self._waits.values():
                task.cancel()
            await asyncio.gather(*self._waits.values(), return_exceptions=True)
        self._check()

    async def end(self, steps: Sequence[Step], grace: float | str | None = None) -> None:
        """Do what `plan_end` said.

        Raises:
            FleetError: a member could not be ended.
        """
        loop = asyncio.get_running_loop()
        self._began = {step.sandbox: loop.create_future() for step in steps}
        await self._all([self._leave(step, grace) for step in steps])
        self._check()

    def _check(self) -> None:
        if not self._failures:
            return
        lines = []
        for name, reason in self._failures.items():
            lines.append(f"{name}: {reason}")
            if self._words.get(name):
                lines.append(self._words[name])
        count = len(self._failures)
        raise FleetError(
            f"{count} of {len(self._began) or count} sandboxes failed\n" + "\n".join(lines),
            hint="mend what is wrong and run it again; what works is left as it is",
            failures=self._failures,
        )

    async def _all(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)

    def _member(self, step: Step) -> Member:
        return self._spec.members[step.member]

    def _fail(self, name: str, reason: str, words: str = "") -> None:
        if name not in self._failures:
            self._failures[name] = reason
            self._words[name] = words
            self._tell(name, f"failed: {reason}")

    async def _fetch(self, step: Step) -> None:
        """Have the image before what runs now is removed."""
        if step.action not in ("create", "recreate") or not self._member(step).image:
            return
        shown = ""

        def progress(stage: str, fraction: float | None = None) -> None:
            nonlocal shown
            if stage != shown:
                shown = stage
                self._tell(step.sandbox, stage)

        try:
            await image(self._member(step), progress, again=False)
        except SandboxError as error:
            self._fail(step.sandbox, _said(error))

    async def _away(self, step: Step) -> None:
        if step.action not in ("remove", "recreate") or step.sandbox in self._failures:
            return
        try:
            async with reached(step.sandbox) as sandbox:
                await sandbox.stop()
                await sandbox.remove(volumes=True)
        except SandboxNotFound:
            pass  # gone at this moment
        except SandboxError as error:
            self._fail(step.sandbox, _said(error))
            return
        self._tell(step.sandbox, "removed")

    async def _come(self, step: Step) -> None:
        began = self._began[step.sandbox]
        try:
            if step.sandbox not in self._failures and await self._needs(step):
                await self._act(step)
                began.set_result(True)
                if self._member(step).health is not None:
                    await self._met(step.sandbox, "healthy")
        except SandboxError as error:
            self._fail(step.sandbox, _said(error))
        finally:
            if not began.done():
                began.set_result(False)

    async def _needs(self, step: Step) -> bool:
        """Wait for what it needs; without it, it is not started, and stopped if it runs."""
        for name, condition in step.needs.items():
            if await self._met(name, condition):
                continue
            reason = f"not started: {name}, which it needs, {_unmet(condition)}"
            with contextlib.suppress(SandboxNotFound):
                async with reached(step.sandbox) as sandbox:
                    if sandbox.info().state.running:
                        reason = f"stopped: {name}, which it needs, {_unmet(condition)}"
                        await sandbox.stop()
            self._fail(step.sandbox, reason)
            return False
        return True

    async def _act(self, step: Step) -> None:
        member = self._member(step)
        if step.action in ("create", "recreate"):
            try:
                await make(self._spec, member, step.sandbox)
            except NameTaken:
                # Somebody else makes it now, who does not know of the fleet's lock.
                if not (await Sandbox.get(step.sandbox)).info().state.running:
                    raise
            self._tell(step.sandbox, "started")
        elif step.action == "start":
            async with reached(step.sandbox) as sandbox:
                await self._connect(step, sandbox)
                with contextlib.suppress(WrongState):  # it runs by now
                    await sandbox.start(secrets=given_secrets(member) or None)
            self._tell(step.sandbox, "started")
        else:
            if step.connects:
                async with reached(step.sandbox) as sandbox:
                    await self._connect(step, sandbox)
            self._tell(step.sandbox, "unchanged" + (f", {step.reason}" if step.reason else ""))

    async def _connect(self, step: Step, sandbox: Sandbox) -> None:
        """Let it reach the peers that it has by now; what else it may reach stays."""
        if step.connects:
            policy = sandbox.network.policy.with_peers(self._member(step).peers)
            await sandbox.network.update(policy)

    async def _met(self, name: str, condition: str) -> bool:
        """Whether a sandbox meets a condition, when that is known."""
        if not await self._began[name]:
            return False
        if condition == "started":
            return True
        key = (name, condition)
        if key not in self._waits:
            wait = self._healthy if condition == "healthy" else self._completed
            self._waits[key] = asyncio.create_task(wait(name))
        return await asyncio.shield(self._waits[key])

    async def _healthy(self, name: str) -> bool:
        member = next(each for each in self._spec.members.values() if name in each.sandboxes)
        async with reached(name) as sandbox:
            if member.health is None or not sandbox.info().state.running:
                return True  # it has completed
            reason = await until_healthy(sandbox, member.health)
            if reason:
                self._fail(name, f"unhealthy: {reason}", await last_words(sandbox))
                return False
        self._tell(name, "healthy")
        return True

    async def _completed(self, name: str) -> bool:
        sandbox = await Sandbox.get(name)
        code = await sandbox.wait()
        if code == 0:
            self._tell(name, "completed")
            return True
        reason = "was removed" if code is None else f"ended with {code}"
        self._fail(name, f"did not complete: it {reason}", await last_words(sandbox))
        return False

    async def _leave(self, step: Step, grace: float | str | None) -> None:
        began = self._began[step.sandbox]
        try:
            for other in step.needs:
                await self._began[other]
            async with reached(step.sandbox) as sandbox:
                await sandbox.stop(grace=grace)
                if step.action == "remove":
                    await sandbox.remove(volumes=True)
            self._tell(step.sandbox, "removed" if step.action == "remove" else "stopped")
        except SandboxNotFound:
            pass  # gone at this moment
        except SandboxError as error:
            self._fail(step.sandbox, _said(error))
        finally:
            if not began.done():
                began.set_result(True)


def _unmet(condition: str) -> str:
    return {"started": "did not start", "healthy": "is not healthy",
            "completed": "did not complete"}[condition]  # fmt: skip


def _said(error: SandboxError) -> str:
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"
