"""Running programs in a sandbox: the part of `Sandbox` that starts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, overload

from sandlot.errors import WrongState
from sandlot.guest.process import GuestProcess
from sandlot.guest.session import Command, GuestSession
from sandlot.sandbox.arguments import explained, flag
from sandlot.sandbox.execution import (
    describe,
    input_bytes,
    make_command,
    run_to_end,
    terminal_size,
)
from sandlot.sandbox.job import Job
from sandlot.sandbox.looking import Looking
from sandlot.sandbox.process import Process
from sandlot.sandbox.result import ExecResult
from sandlot.sandbox.sizes import parse_duration, parse_size
from sandlot.wire.messages import Watch

MAX_OUTPUT = 256 * 1024 * 1024


class Programs(Looking):
    """Base of `Sandbox`: `exec`, `spawn` and jobs."""

    @explained
    async def exec(
        self, command: str | Sequence[str | bytes], *, stdin: bytes | str | None = None,
        timeout: float | str | None = None, check: bool = False,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, max_output: int | str = MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """Run a program to its end and return what it said.

        Cancelling the call kills everything that it started.

        Args:
            command: a list is argv; a string is a line for `/bin/sh`.
            stdin: what it reads; nothing (`/dev/null`) when None.
            timeout: seconds, or text such as `"10m"`, after which all that it started is killed.
            check: raise `ProcessError` when it fails.
            env, workdir, user: for this program only.
            limits: of setrlimit(2), such as `{"nofile": 256, "as": "1073741824:unlimited"}`.
            max_output: bytes of stdout or stderr that are kept; more is an error.

        Raises:
            CommandNotFound, CommandNotExecutable, ConfigError: it cannot be started.
            ExecTimeout: it ran too long.
            ProcessError: it failed and `check` was asked, or wrote too much.
            SandboxDied, GuestProtocolError: the sandbox ended.
            Refuse: a plugin does not let it be started.
            WrongState: the sandbox does not run.
        """
        data = input_bytes(stdin)
        session = await self._session()
        made = make_command(
            self._record, command, env=env, workdir=workdir, user=user, limits=limits,
            stdin=data is not None, timeout=parse_duration(timeout),
        )  # fmt: skip
        name = describe(command)
        result = await run_to_end(
            session, made, stdin=data, name=name, start=self._start_process,
            max_output=parse_size(max_output, "max_output"),
        )  # fmt: skip
        return result.check(name) if check else result

    @overload
    async def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: Literal[False] = False,
    ) -> Process: ...  # fmt: skip

    @overload
    async def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: Literal[True],
    ) -> Job: ...  # fmt: skip

    @explained
    async def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: bool = False,
    ) -> Process | Job:  # fmt: skip
        """Start a program and return at once; its streams have back-pressure.

        Args:
            stdin: whether it gets an input; a terminal always has one.
            detached: start a `Job`: it goes on when this program ends, as long as the sandbox runs,
                and is found again by `jobs` and `job`.
            tty: give it a terminal, of (rows, columns) or 24 x 80.
            Others as in `exec`.
        """
        flag(stdin, "stdin", "write to the input of the process, or use exec(..., stdin=...)")
        flag(detached, "detached")
        size = terminal_size(tty)
        made = make_command(
            self._record, command, env=env, workdir=workdir, user=user, limits=limits, tty=size,
            stdin=stdin or size is not None, timeout=parse_duration(timeout), detached=detached,
        )  # fmt: skip
        session = await self._session()
        if detached:
            return await self._start_job(session, made)
        return Process(await self._start_process(session, made))

    async def _start_process(self, session: GuestSession, command: Command) -> GuestProcess:
        # Where another program runs the sandbox, that one asks its plugins.
        plugged = self._owner.plugged if self._owner is not None else None
        if plugged is None:
            process = await session.start(command)
        else:
            process = await plugged.start_process(session, command)
        if self._owner is not None:
            hearing = self._owner.hearing
            process.on_exit(lambda _: hearing.ended())
        return process

    async def _start_job(self, session: GuestSession, command: Command) -> Job:
        plugged = self._owner.plugged if self._owner is not None else None
        if plugged is None:
            number = await session.start_job(command)
        else:
            number = await plugged.start_job(session, command)
        if self._owner is not None:
            self._owner.hearing.job(session, number)
        watch = await session.watch(number, flags=Watch.STATUS)
        watch.close()
        return Job(self._session, watch.job)

    async def jobs(self) -> list[Job]:
        """The jobs of this run of the sandbox, running and ended ones, the oldest first.

        Raises:
            WrongState: the sandbox does not run.
        """
        return [Job(self._session, job) for job in await (await self._session()).jobs()]

    async def job(self, id: str) -> Job:
        """A job by its id, or by the unique beginning of it.

        Raises:
            WrongState: there is none, or the sandbox does not run.
        """
        found = [job for job in await self.jobs() if id and job.id.startswith(id)]
        if len(found) == 1:
            return found[0]
        many = "more than one job begins with" if found else "there is no job"
        raise WrongState(
            f"{many} {id!r} in sandbox {self.name!r}", hint=f"`sandlot jobs {self.name}` lists them"
        )
