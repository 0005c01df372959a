"""One-line delegations; tests/unit/sync/test_facade.py holds the signatures to the asynchronous ones."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, overload

from sandlot.engine.base import MachineStats
from sandlot.errors import SandboxError
from sandlot.network.hooks import Hooks
from sandlot.network.policy import Network
from sandlot.remote.remote import Remote
from sandlot.remote.versions import Pushed
from sandlot.runtime.grant import RuntimeAccess
from sandlot.runtime.lent_sync import Runtime
from sandlot.sandbox import job as jobs
from sandlot.sandbox import process as asynchronous
from sandlot.sandbox import sandbox as origin
from sandlot.sandbox.arguments import explained
from sandlot.sandbox.log import LogEntry
from sandlot.sandbox.metrics import Metrics
from sandlot.sandbox.result import ExecResult
from sandlot.sandbox.streaming import KEEP, LOOK
from sandlot.state.events import Event
from sandlot.state.records import SandboxFolder, SandboxRecord
from sandlot.sync.files import Files
from sandlot.sync.live import Follow, LivePush
from sandlot.sync.network import SandboxNetwork
from sandlot.sync.portal import drained, run
from sandlot.sync.processes import Job, Process
from sandlot.sync.snapshots import Snapshot
from sandlot.sync.volumes import SandboxVolumes


class Sandbox:
    """See `sandlot.Sandbox`. `create` starts at once; `with` stops and removes at the end."""

    def __init__(self, sandbox: origin.Sandbox) -> None:
        self._sandbox = sandbox

    def __repr__(self) -> str:
        return repr(self._sandbox)

    @classmethod
    @explained
    def create(
        cls, name: str | None = None, *, image: str, memory: int | str = origin.DEFAULT_MEMORY,
        cpus: int = 1, disk: int | str = origin.DEFAULT_DISK, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, hostname: str | None = None,
        pids: int = 0, idle_timeout: float | str | None = None, idle_action: str = "stop",
        max_duration: float | str | None = None, restart: str = "no",
        stop_signal: str | None = None, labels: Mapping[str, str] | None = None,
        detached: bool = False, pull: str | None = None, platform: str | None = None,
        network: Network | None = None, ports: object = None, connections: int = 0,
        bandwidth: int | str = 0, dns: Sequence[str] = (), hooks: Hooks | None = None,
        secrets: Mapping[str, object] | None = None, upstream_ca: str | os.PathLike[str] = "",
        inspect: Sequence[str] = (), volumes: Mapping[str, object] | None = None,
        plugins: Sequence[object] = (), plugin_processes: Sequence[object] = (),
        runtime: RuntimeAccess | None = None,
    ) -> Sandbox:  # fmt: skip
        """See `sandlot.Sandbox.create`."""

        async def make() -> origin.Sandbox:
            return await origin.Sandbox.create(
                name, image=image, memory=memory, cpus=cpus, disk=disk, env=env, workdir=workdir,
                user=user, hostname=hostname, pids=pids, idle_timeout=idle_timeout,
                idle_action=idle_action, max_duration=max_duration, restart=restart,
                stop_signal=stop_signal, labels=labels, detached=detached, pull=pull,
                platform=platform, network=network, ports=ports, connections=connections,
                bandwidth=bandwidth, dns=dns, hooks=hooks,
                secrets=secrets, upstream_ca=upstream_ca, inspect=inspect,
                volumes=volumes, plugins=plugins, plugin_processes=plugin_processes,
                runtime=runtime,
            )  # fmt: skip

        return cls(run(make()))

    @classmethod
    def get(cls, name: str) -> Sandbox:
        """See `sandlot.Sandbox.get`."""
        return cls(run(origin.Sandbox.get(name)))

    @classmethod
    def current_runtime(cls) -> Runtime:
        """See `sandlot.Sandbox.current_runtime`."""
        return Runtime(run(origin.Sandbox.current_runtime()))

    @property
    def name(self) -> str:
        """See `sandlot.Sandbox.name`."""
        return self._sandbox.name

    @property
    def network(self) -> SandboxNetwork:
        """See `sandlot.Sandbox.network`."""
        return SandboxNetwork(self._sandbox.network)

    @property
    def ports(self) -> dict[int, int]:
        """See `sandlot.Sandbox.ports`."""
        return self._sandbox.ports

    @property
    def published(self) -> list[dict[str, Any]]:
        """See `sandlot.Sandbox.published`."""
        return self._sandbox.published

    @property
    def id(self) -> str:
        """See `sandlot.Sandbox.id`."""
        return self._sandbox.id

    @property
    def image(self) -> str:
        """See `sandlot.Sandbox.image`."""
        return self._sandbox.image

    @property
    def folder(self) -> SandboxFolder:
        """See `sandlot.Sandbox.folder`."""
        return self._sandbox.folder

    @property
    def record(self) -> SandboxRecord:
        """See `sandlot.Sandbox.record`."""
        return self._sandbox.record

    @property
    def status(self) -> str:
        """See `sandlot.Sandbox.status`."""
        return self._sandbox.status

    @property
    def files(self) -> Files:
        """See `sandlot.Sandbox.files`."""
        return Files(self._sandbox.files)

    def info(self) -> origin.SandboxInfo:
        """See `sandlot.Sandbox.info`."""
        return self._sandbox.info()

    def inspect(self) -> dict[str, Any]:
        """See `sandlot.Sandbox.inspect`."""
        return self._sandbox.inspect()

    def metrics(self) -> Metrics:
        """See `sandlot.Sandbox.metrics`."""
        return run(self._sandbox.metrics())

    def logs(
        self, *, follow: bool = False, since: float = 0.0, tail: int | None = None,
        console: bool = False,
    ) -> Iterator[LogEntry]:  # fmt: skip
        """See `sandlot.Sandbox.logs`."""
        return drained(self._sandbox.logs(follow=follow, since=since, tail=tail, console=console))

    @classmethod
    def events(cls, *, since: float = 0.0, follow: bool = False) -> Iterator[Event]:
        """See `sandlot.Sandbox.events`."""
        return drained(origin.Sandbox.events(since=since, follow=follow))

    def note_exit(self, code: int, signal: int | None = None, *, oom: bool = False) -> None:
        """See `sandlot.Sandbox.note_exit`."""
        self._sandbox.note_exit(code, signal, oom=oom)

    def stats(self) -> MachineStats:
        """See `sandlot.Sandbox.stats`."""
        return self._sandbox.stats()

    def start(
        self, *, secrets: object = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
    ) -> None:  # fmt: skip
        """See `sandlot.Sandbox.start`."""
        run(
            self._sandbox.start(secrets=secrets, plugins=plugins, plugin_processes=plugin_processes)
        )

    def stop(self, *, grace: float | str | None = None, kill: bool = False) -> None:
        """See `sandlot.Sandbox.stop`."""
        run(self._sandbox.stop(grace=grace, kill=kill))

    def kill(self, signal: int | str = signals.SIGKILL) -> None:
        """See `sandlot.Sandbox.kill`."""
        run(self._sandbox.kill(signal))

    def restart(self, *, grace: float | str | None = None) -> None:
        """See `sandlot.Sandbox.restart`."""
        run(self._sandbox.restart(grace=grace))

    def pause(self) -> None:
        """See `sandlot.Sandbox.pause`."""
        run(self._sandbox.pause())

    def resume(self) -> None:
        """See `sandlot.Sandbox.resume`."""
        run(self._sandbox.resume())

    def snapshot(
        self, name: str | None = None, *, disk_only: bool = False, tags: Sequence[str] = ()
    ) -> Snapshot:
        """See `sandlot.Sandbox.snapshot`."""
        return Snapshot(run(self._sandbox.snapshot(name, disk_only=disk_only, tags=tags)))

    @property
    def volumes(self) -> SandboxVolumes:
        """See `sandlot.Sandbox.volumes`."""
        return SandboxVolumes(self._sandbox.volumes)

    def push(
        self, to: str | Remote | None = None, name: str | None = None, *, memory: bool = False,
        keep: int = 10, force: bool = False, level: int = 1,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Pushed:  # fmt: skip
        """See `sandlot.Sandbox.push`."""
        return run(
            self._sandbox.push(
                to, name, memory=memory, keep=keep, force=force, level=level, progress=progress
            )
        )

    def pulled(self) -> None:
        """See `sandlot.Sandbox.pulled`."""
        run(self._sandbox.pulled())

    @classmethod
    def pull(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        disk_only: bool = False, fallback: bool = False, lazy: bool = False, start: bool = True,
        env: Mapping[str, str] | None = None, hostname: str | None = None,
        network: Network | None = None, ports: object = None, secrets: object = None,
        labels: Mapping[str, str] | None = None, disk: int | str | None = None,
        detached: bool = False, volumes: Mapping[str, object] | None = None,
        hooks: Hooks | None = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Sandbox:  # fmt: skip
        """See `sandlot.Sandbox.pull`."""

        async def make() -> origin.Sandbox:
            return await origin.Sandbox.pull(
                source, name, remote=remote, disk_only=disk_only, fallback=fallback, lazy=lazy,
                start=start, env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
                labels=labels, disk=disk, detached=detached, volumes=volumes, hooks=hooks,
                plugins=plugins, plugin_processes=plugin_processes, progress=progress,
            )  # fmt: skip

        return cls(run(make()))

    def push_live(
        self, to: str | Remote | None = None, name: str | None = None, *,
        interval: float | str | None = None, after_exec: bool = False, memory: bool = False,
        keep: int = KEEP, force: bool = False, level: int = 1,
        told: Callable[[Pushed], object] | None = None,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> LivePush:  # fmt: skip
        """See `sandlot.Sandbox.push_live`."""
        return LivePush(
            self._sandbox.push_live(
                to, name, interval=interval, after_exec=after_exec, memory=memory, keep=keep,
                force=force, level=level, told=told, progress=progress,
            )
        )  # fmt: skip

    @classmethod
    def follow(
        cls, source: str = "", name: str | None = None, *, remote: str | Remote | None = None,
        interval: float | str = LOOK, keep: bool = False,
        progress: Callable[[str, float | None], object] | None = None,
    ) -> Follow:  # fmt: skip
        """See `sandlot.Sandbox.follow`."""
        return Follow(
            origin.Sandbox.follow(
                source, name, remote=remote, interval=interval, keep=keep, progress=progress
            )
        )  # fmt: skip

    def fork(
        self, name: str | None = None, *, env: Mapping[str, str] | None = None,
        hostname: str | None = None, network: Network | None = None, ports: object = None,
        secrets: object = None, labels: Mapping[str, str] | None = None,
        disk: int | str | None = None, detached: bool = False, hooks: Hooks | None = None,
        volumes: Mapping[str, object] | None = None, plugins: Sequence[object] | None = None,
        plugin_processes: Sequence[object] | None = None,
    ) -> Sandbox:  # fmt: skip
        """See `sandlot.Sandbox.fork`."""

        async def make() -> origin.Sandbox:
            return await self._sandbox.fork(
                name, env=env, hostname=hostname, network=network, ports=ports, secrets=secrets,
                labels=labels, disk=disk, detached=detached, hooks=hooks, volumes=volumes,
                plugins=plugins, plugin_processes=plugin_processes,
            )  # fmt: skip

        return Sandbox(run(make()))

    def fork_many(
        self, count: int, *, names: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None, detached: bool = False,
    ) -> list[Sandbox]:  # fmt: skip
        """See `sandlot.Sandbox.fork_many`."""
        made = run(self._sandbox.fork_many(count, names=names, env=env, detached=detached))
        return [Sandbox(each) for each in made]

    def rename(self, name: str) -> None:
        """See `sandlot.Sandbox.rename`."""
        run(self._sandbox.rename(name))

    def remove(self, *, volumes: bool = False) -> None:
        """See `sandlot.Sandbox.remove`."""
        run(self._sandbox.remove(volumes=volumes))

    def wait(self) -> int | None:
        """See `sandlot.Sandbox.wait`."""
        return run(self._sandbox.wait())

    @explained
    def exec(
        self, command: str | Sequence[str | bytes], *, stdin: bytes | str | None = None,
        timeout: float | str | None = None, check: bool = False,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, max_output: int | str = origin.MAX_OUTPUT,
    ) -> ExecResult:  # fmt: skip
        """See `sandlot.Sandbox.exec`."""
        return run(
            self._sandbox.exec(
                command, stdin=stdin, timeout=timeout, check=check, env=env, workdir=workdir,
                user=user, limits=limits, max_output=max_output,
            )
        )  # fmt: skip

    @overload
    def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: Literal[False] = False,
    ) -> Process: ...  # fmt: skip

    @overload
    def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: Literal[True],
    ) -> Job: ...  # fmt: skip

    @explained
    def spawn(
        self, command: str | Sequence[str | bytes], *, stdin: bool = False,
        tty: bool | tuple[int, int] = False, timeout: float | str | None = None,
        env: Mapping[str, str] | None = None, workdir: str | None = None, user: str | None = None,
        limits: Mapping[str, int | str] | None = None, detached: bool = False,
    ) -> Process | Job:  # fmt: skip
        """See `sandlot.Sandbox.spawn`."""

        async def start() -> asynchronous.Process | jobs.Job:
            if detached:
                return await self._sandbox.spawn(
                    command, stdin=stdin, tty=tty, timeout=timeout, env=env, workdir=workdir,
                    user=user, limits=limits, detached=True,
                )  # fmt: skip
            return await self._sandbox.spawn(
                command, stdin=stdin, tty=tty, timeout=timeout, env=env, workdir=workdir,
                user=user, limits=limits,
            )  # fmt: skip

        made = run(start())
        return Job(made) if isinstance(made, jobs.Job) else Process(made)

    def jobs(self) -> list[Job]:
        """See `sandlot.Sandbox.jobs`."""
        return [Job(job) for job in run(self._sandbox.jobs())]

    def main_job(self) -> Job:
        """See `sandlot.Sandbox.main_job`."""
        return Job(run(self._sandbox.main_job()))

    def job(self, id: str) -> Job:
        """See `sandlot.Sandbox.job`."""
        return Job(run(self._sandbox.job(id)))

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self.remove()

    @classmethod
    def list(
        cls, *, unreadable: Callable[[SandboxError], None] | None = None
    ) -> list[origin.SandboxInfo]:
        """See `sandlot.Sandbox.list`."""
        return run(origin.Sandbox.list(unreadable=unreadable))
