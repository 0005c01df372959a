"""The plugins of a sandbox's owner: what the sandbox does, as the contexts that they are given."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sandlot.errors import Refuse, SandboxError
from sandlot.guest.session import Command
from sandlot.network.flow import Decision, Flow
from sandlot.network.hooks import Hooks
from sandlot.network.relay import Stopped
from sandlot.plugin.chain import Chain, name_of
from sandlot.plugin.declared import opened
from sandlot.plugin.hooks import (
    ConnectContext,
    DnsContext,
    ExecContext,
    ExecEndContext,
    FlowContext,
    FsContext,
    HttpRequestContext,
    SecretUseContext,
    SnapshotContext,
    StartContext,
    StopContext,
    TerminalContext,
)
from sandlot.plugin.process import ProcessPlugin

if TYPE_CHECKING:
    from sandlot.filesystem.types import FileAccess
    from sandlot.guest.jobs import JobWatch
    from sandlot.guest.process import ExitStatus, GuestProcess
    from sandlot.guest.session import GuestSession
    from sandlot.network.flows import FlowRecord
    from sandlot.network.http.events import RequestHead
    from sandlot.sandbox.owner import Owner
    from sandlot.secrets.substitution import Use
    from sandlot.state.records import SandboxRecord


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Running:
    """A program that was let through, until its end."""

    def __init__(self, chain: Chain, context: ExecContext) -> None:
        self.context = context
        self._chain = chain
        self._began = time.monotonic()
        self._ended = False

    @property
    def recorded(self) -> bool:
        """Whether somebody wants to see its terminal."""
        return self.context.tty is not None and self._chain.listens("on_terminal")

    def terminal(self, kind: str, data: bytes = b"", rows: int = 0, columns: int = 0) -> None:
        """Something of its terminal."""
        self._chain.note(
            TerminalContext(
                sandbox=self._chain.sandbox, id=self.context.id, kind=kind, data=data, rows=rows,
                columns=columns,
            )
        )  # fmt: skip

    def ended(
        self, exit_code: int = -1, user: float = 0.0, system: float = 0.0, memory: int = 0
    ) -> None:
        """It has ended; the first word counts."""
        if self._ended or not self._chain.listens("on_exec_end"):
            return
        self._ended = True
        self._chain.note(
            ExecEndContext(
                sandbox=self._chain.sandbox, id=self.context.id, argv=self.context.argv,
                exit_code=exit_code, duration=time.monotonic() - self._began, user_time=user,
                system_time=system, peak_memory=memory,
            )
        )  # fmt: skip

    def told(self, status: ExitStatus) -> None:
        """How it has ended."""
        self.ended(status.exit_code, status.user_time, status.system_time, status.peak_memory)

    def follow(self, process: GuestProcess) -> None:
        """See what a process of this program does."""
        if self.recorded:
            process.stdout.tap = partial(self.terminal, "output")
            process.stdin.tap = partial(self.terminal, "input")
            process.on_resize = partial(self.terminal, "resize", b"")
        process.on_exit(self._exited)

    def _exited(self, task: asyncio.Task[ExitStatus]) -> None:
        if task.cancelled() or task.exception() is not None:
            self.ended()
        else:
            self.told(task.result())

    async def watch(self, owner: Owner, session: GuestSession, number: int) -> None:
        """See the end of a job, also of one whose machine sleeps meanwhile."""
        status: ExitStatus | None = None
        awake: GuestSession | None = session
        with contextlib.suppress(SandboxError):
            while status is None and awake is not None:
                with contextlib.suppress(SandboxError):
                    watch: JobWatch = await awake.watch(number, offset=None)
                    while await watch.next() is not None:
                        pass
                    status = watch.status
                if status is None:
                    awake = await owner.sleep.awake() if owner.asleep else None
        if status is None:
            self.ended()
        else:
            self.told(status)


class Plugged:
    """The plugins of one owner."""

    def __init__(self, owner: Owner, objects: Sequence[object]) -> None:
        self._owner = owner
        self._plugins = opened(owner.record.plugins, objects)
        self._programs = [each for each in self._plugins if isinstance(each, ProcessPlugin)]
        self.chain = Chain(owner.record.name, self._plugins, self._report)
        self._numbers = itertools.count(1)
        self._open = False
        self._began = time.time()
        self._starts = 0
        self._ending: asyncio.Task[None] | None = None
        self._watches: set[asyncio.Task[None]] = set()

    def _report(self, plugin: str, hook: str, reason: str) -> None:
        self._owner.event("plugin-failed", plugin=plugin, hook=hook, reason=reason[:500])

    # -- the sandbox's life ----------------------------------------------------------------

    async def start(self) -> None:
        """A machine is about to be brought up.

        Raises:
            Refuse: a plugin does not let it.
        """
        owner, record = self._owner, self._owner.record
        if not self._open:
            self._open = True
            for plugin in self._programs:
                await plugin.begin(record.name, partial(self._report, name_of(plugin), "process"))
            self.chain = Chain(record.name, self._plugins, self._report)
        if not self.chain.listens("on_start"):
            return
        kind = "restart" if self._starts else "start"
        if owner.asleep:
            kind = "wake"
        elif owner.folder.saved.exists():
            kind = "restore"
        await self.chain.ask(
            StartContext(
                sandbox=record.name, id=record.id, image=record.image, kind=kind,
                memory=record.memory, cpus=record.cpus, detached=record.detached,
            )
        )  # fmt: skip
        self._starts += 1

    def stopped(self, reason: str) -> None:
        """The sandbox has stopped; `settled` waits until all were told."""
        if not self._open or self._ending is not None:
            return
        self._ending = asyncio.get_running_loop().create_task(self._end(reason))

    async def _end(self, reason: str) -> None:
        try:
            if self._watches:
                await asyncio.wait(self._watches, timeout=1.0)
            for task in self._watches:
                task.cancel()
            if self.chain.listens("on_stop"):
                state = self._owner.folder.run_state()
                self.chain.note(
                    StopContext(
                        sandbox=self.chain.sandbox, reason=reason, exit_code=state.exit_code,
                        duration=max(0.0, time.time() - self._began),
                    )
                )  # fmt: skip
            await self.chain.settle()
        finally:
            for plugin in self._programs:
                await plugin.end()

    async def settled(self) -> None:
        """Wait until the plugins know of the end, and their programs have ended."""
        if self._ending is not None:
            await asyncio.shield(self._ending)

    async def snapshot(self, kind: str, name: str, disk_only: bool, tags: Sequence[str]) -> None:
        """The machine is about to be saved.

        Raises:
            Refuse: a plugin does not let it.
        """
        if self.chain.listens("on_snapshot"):
            await self.chain.ask(
                SnapshotContext(
                    sandbox=self.chain.sandbox, kind=kind, name=name, disk_only=disk_only,
                    tags=tuple(tags),
                )
            )  # fmt: skip

    # -- programs --------------------------------------------------------------------------

    async def exec(self, command: Command) -> tuple[Command, Running | None]:
        """A command as the plugins want it, and what follows its life; None where nobody wants to.

        Raises:
            Refuse: a plugin does not let it be started.
        """
        chain = self.chain
        if not (
            chain.listens("on_exec") or chain.listens("on_exec_end") or chain.listens("on_terminal")
        ):
            return command, None
        context = ExecContext(
            sandbox=chain.sandbox, id=next(self._numbers),
            argv=tuple(_text(each) for each in command.argv),
            env={_text(name): _text(value) for name, value in command.env.items()},
            workdir=_text(command.cwd), user=command.user, tty=command.tty,
            detached=command.detached, timeout=command.timeout, limits=tuple(command.limits),
        )  # fmt: skip
        asked = await chain.ask(context)
        if asked is not context:
            command = dataclasses.replace(
                command, argv=[_bytes(each) for each in asked.argv],
                env={_bytes(name): _bytes(value) for name, value in asked.env.items()},
                cwd=_bytes(asked.workdir), user=asked.user, timeout=asked.timeout,
                limits=asked.limits,
            )  # fmt: skip
        return command, Running(chain, asked)

    async def start_process(self, session: GuestSession, command: Command) -> GuestProcess:
        """Start a program as the plugins want it.

        Raises:
            Refuse: a plugin does not let it be started.
            others as `GuestSession.start`
        """
        command, running = await self.exec(command)
        try:
            process = await session.start(command)
        except BaseException:
            if running is not None:
                running.ended()
            raise
        if running is not None:
            running.follow(process)
        return process

    async def start_job(self, session: GuestSession, command: Command) -> int:
        """Start a job as the plugins want it.

        Raises:
            Refuse: a plugin does not let it be started.
            others as `GuestSession.start_job`
        """
        command, running = await self.exec(command)
        try:
            number = await session.start_job(command)
        except BaseException:
            if running is not None:
                running.ended()
            raise
        if running is not None and self.chain.listens("on_exec_end"):
            self.watch_job(running, session, number)
        return number

    def watch_job(self, running: Running, session: GuestSession, number: int) -> None:
        """Tell the end of a job."""
        task = asyncio.get_running_loop().create_task(running.watch(self._owner, session, number))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    # -- network and files -----------------------------------------------------------------

    def hooks(self, own: Hooks | None) -> Hooks | None:
        """The hooks of the gateway and of volumes: the program's own, and then the plugins."""
        made = dataclasses.replace(own) if own is not None else Hooks()
        for hook, ask in (
            ("on_connect", self._connect), ("on_dns", self._dns), ("on_fs", self._fs),
            ("on_http_request", self._http_request), ("on_secret_use", self._secret_use),
        ):  # fmt: skip
            if self.chain.listens(hook):
                setattr(made, hook, partial(ask, getattr(made, hook)))
        return made

    async def _connect(self, own: Any, flow: Flow, decision: Decision) -> Decision:
        decision = await _own_decision(own, flow, decision)
        return await self._decided(
            ConnectContext(sandbox=self.chain.sandbox, flow=flow, decision=decision)
        )

    async def _dns(self, own: Any, name: str, decision: Decision) -> Decision:
        decision = await _own_decision(own, name, decision)
        return await self._decided(
            DnsContext(sandbox=self.chain.sandbox, name=name, decision=decision)
        )

    async def _decided(self, context: ConnectContext | DnsContext) -> Decision:
        try:
            return (await self.chain.ask(context)).decision
        except Refuse as refusal:
            return Decision(False, f"plugin {refusal.plugin}", refusal.message)

    async def _http_request(self, own: Any, flow: Flow, head: RequestHead) -> None:
        await _own(own, flow, head)
        await self.chain.ask(
            HttpRequestContext(
                sandbox=self.chain.sandbox, flow=flow, method=head.method, target=head.target,
                authority=head.authority, version=head.version,
                headers=tuple(
                    (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.fields
                ),
            )
        )  # fmt: skip

    async def _secret_use(self, own: Any, flow: Flow, use: Use) -> None:
        await _own(own, flow, use)
        await self.chain.ask(
            SecretUseContext(
                sandbox=self.chain.sandbox, flow=flow, secret=use.secret, host=use.host,
                place=use.place, replaced=use.replaced,
            )
        )  # fmt: skip

    async def _fs(self, own: Any, access: FileAccess) -> None:
        await _own(own, access)
        ctx = access.context
        await self.chain.ask(
            FsContext(
                sandbox=self.chain.sandbox, operation=access.operation, path=access.path,
                target=access.target, flags=access.flags, writes=access.writes, pid=ctx.pid,
                uid=ctx.uid, gid=ctx.gid,
            )
        )  # fmt: skip

    @property
    def flow_watcher(self) -> Callable[[FlowRecord], None] | None:
        """What is told of every change of a flow's record, if anybody wants to know."""
        if not self.chain.listens("on_flow"):
            return None
        return lambda record: self.chain.note(
            FlowContext(sandbox=self.chain.sandbox, record=dataclasses.replace(record))
        )

    @property
    def pace(self) -> Callable[[int], float] | None:
        """What is told of every piece of a connection, if anybody wants to know.

        It raises `Stopped` for one that is to go no further.
        """
        return self._paced if self.chain.listens("on_transfer") else None

    def _paced(self, size: int) -> float:
        try:
            return self.chain.transferred(size)
        except Refuse as refusal:
            raise Stopped(refusal.message, "denied") from None


async def ask_about_stopped(
    record: SandboxRecord, objects: Sequence[object], name: str, tags: Sequence[str]
) -> None:
    """The disk of a sandbox that does not run is about to be saved.

    Raises:
        Refuse: a plugin does not let it.
        ConfigError: a plugin is an object of another program.
    """
    plugins = opened(record.plugins, objects)
    programs = [each for each in plugins if isinstance(each, ProcessPlugin)]
    try:
        for each in programs:
            await each.begin(record.name, lambda _: None)
        chain = Chain(record.name, plugins)
        await chain.ask(
            SnapshotContext(sandbox=record.name, name=name, disk_only=True, tags=tuple(tags))
        )
        await chain.settle()
    finally:
        for each in programs:
            await each.end()


async def _own(function: Any, *arguments: object) -> Any:
    if function is None:
        return None
    answer = function(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


async def _own_decision(function: Any, what: object, decision: Decision) -> Decision:
    answer = await _own(function, what, decision)
    return answer if isinstance(answer, Decision) else decision
