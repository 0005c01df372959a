"""`Sandbox`: one microVM, as users hold it. Its parts are in looking.py, programs.py and life.py."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sandlot.errors import ConfigError, SandboxError, WrongState
from sandlot.sandbox.arguments import explained, flag, text, text_or_none
from sandlot.sandbox.host import DEFAULT_DISK, Host
from sandlot.sandbox.life import STOP_GRACE
from sandlot.sandbox.listing import SandboxInfo, list_sandboxes
from sandlot.sandbox.policy import check_policy
from sandlot.sandbox.process import signal_number
from sandlot.sandbox.programs import MAX_OUTPUT, Programs
from sandlot.sandbox.streaming import Streaming

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.network.hooks import Hooks
    from sandlot.network.policy import Network
    from sandlot.runtime.grant import RuntimeAccess
    from sandlot.runtime.lent import Runtime
    from sandlot.secrets import Secret
    from sandlot.state.lock import FileLock
    from sandlot.state.records import SandboxFolder, SandboxRecord

DEFAULT_MEMORY = "1G"


class Sandbox(Programs, Streaming):
    """One microVM with its own kernel, files and processes.

        async with Sandbox.create(image="demo") as sb:
            result = await sb.exec(["python3", "-c", "print(6 * 7)"])
            print(result.text)

    Made by `create`, found by `get`. The sandbox lives in this program unless it is detached: when
    the program ends, however it ends, so does the machine; its disk stays until `remove`.
    """

    @classmethod
    @explained
    def create(
        cls, name: str | None = None, *, image: str, memory: int | str = DEFAULT_MEMORY,
        cpus: int = 1, disk: int | str = DEFAULT_DISK, env: Mapping[str, str] | None = None,
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
    ) -> SandboxCreation:  # fmt: skip
        """Make a sandbox and start it.

        Await the result for a sandbox that stays until it is removed, or use it in `async with`,
        which stops and removes it at the end.

        Args:
            name: unique on this machine; a readable one is chosen when it is None.
            image: the name of an image, in the store or in a registry.
            memory: bytes or text such as `"512M"`; pages cost the host only when touched.
            cpus: virtual processors.
            disk: the size of the writable disk, which is sparse on the host.
            env: added to the image's environment.
            workdir: where commands start; the image's, or `/`.
            user: `name|uid[:group|gid]`; the image's, or root.
            hostname: the name when None.
            pids: how many processes its programs may have together; 0 is what the machine allows.
            idle_timeout: seconds, or text such as `"10m"`, after which it is stopped when nobody
                runs a program in it and no job runs; its main command does not count.
            idle_action: `"stop"`, which keeps the disk, or `"hibernate"`, which saves memory too and
                gives it back to the host: the next call of any kind, or a connection to a published
                port, lets it go on where it was.
            max_duration: seconds, or text, after which it is stopped in any case.
            restart: `"no"`, `"on-failure[:N]"`, `"always"` or `"unless-stopped"`: whether the keeper
                of a detached one runs its main command again, in a new machine on the same disk.
            stop_signal: what `stop` sends the main command; the image's, or SIGTERM.
            labels: names and values of your own, for listings.
            detached: let a process of its own keep it, so that it outlives this program.
            pull: `"missing"` asks the registry when the image is not here, `"always"` each time,
                `"never"` not at all; SANDLOT_PULL or `"missing"` when None.
            platform: such as `"linux/amd64"`, for an image that is pulled; the host's when None.
            network: what it may reach; the public internet when None.
            ports: published ports: host port to sandbox port, on 127.0.0.1 unless the key is
                `(address, port)`; host port 0 for any that is free; or a list of texts as in
                `["8000:80", "53:53/udp"]`.
            connections: how many TCP connections it may have at once; 0 is 1024.
            bandwidth: bytes a second, or text such as `"1M"`, of all its connections; 0 is no limit.
            dns: name servers that are asked, as `ADDRESS` or `ADDRESS:PORT`; the host's own when
                empty.
            secrets: values that it uses but never holds: name of the variable to `(value, host)`,
                `(value, [host, ...])` or a `Secret`. The variable holds a placeholder, and the
                gateway puts the value into requests to the hosts over verified TLS.
            upstream_ca: a file of certificates (PEM) that are trusted besides the host's own when
                such a host is verified.
            inspect: hosts whose HTTP is looked into without a secret for them, as in
                `["api.example.com", "*.example.com:443"]`, or `["*"]`: their requests are in the
                flows, and have to ask for the host that was looked up.
            hooks: functions that are asked before something is reached; not for a detached one.
            volumes: what is mounted in it: path to a `FileSystem` (`HostFs`, `MemFs`, your own), to
                the name of a named volume, or to a host folder.
            plugins: what observes, refuses and changes what it does, in this order: objects with
                some of the hooks (`sandlot.plugin.hooks`), or text such as
                `"audit-log=audit.jsonl"` for one that is found by name. A detached one cannot have
                objects.
            plugin_processes: programs that are plugins, asked after those: commands such as
                `"node ./monitor.js"`, or `PluginProcess`.
            runtime: what its programs may start: sandboxes beside it, within this grant.

        Raises:
            Refuse: a plugin does not let it start.
            ImageNotFound, RegistryError, ImageError, NameTaken, ConfigError, ResourceError,
            StateError, EngineUnavailable, KernelUnavailable, BootError
        """

        async def make() -> Sandbox:
            made = await cls._make(
                name=name, image=image, memory=memory, cpus=cpus, disk=disk, env=env,
                workdir=workdir, user=user, hostname=hostname, detached=detached, hold=True,
                pids=pids, idle_timeout=idle_timeout, idle_action=idle_action,
                max_duration=max_duration, restart=restart, stop_signal=stop_signal, labels=labels,
                pull=pull, platform=platform, network=network, ports=ports,
                connections=connections, bandwidth=bandwidth, dns=dns, hooks=hooks,
                secrets=secrets, upstream_ca=upstream_ca, inspect=inspect, volumes=volumes,
                plugins=plugins, plugin_processes=plugin_processes,
                runtime=runtime,
            )  # fmt: skip
            try:
                await made.start()
            except BaseException:
                with contextlib.suppress(SandboxError):
                    await made.remove()
                raise
            return made

        return SandboxCreation(make)

    @classmethod
    async def _make(
        cls, *, name: str | None, image: str, memory: int | str = DEFAULT_MEMORY, cpus: int = 1,
        disk: int | str = DEFAULT_DISK, env: Mapping[str, str] | None = None,
        workdir: str | None = None, user: str | None = None, hostname: str | None = None,
        detached: bool = False, pull: str | None = None, platform: str | None = None,
        command: Sequence[str] = (), tty: bool = False, auto_remove: bool = False,
        stdin: bool = False, hold: bool = False, stop_signal: str | None = None,
        network: Network | None = None, ports: object = None, connections: int = 0,
        bandwidth: int | str = 0, dns: Sequence[str] = (), hooks: Hooks | None = None,
        secrets: Mapping[str, object] | None = None, upstream_ca: str | os.PathLike[str] = "",
        inspect: Sequence[str] = (), volumes: object = None,
        plugins: Sequence[object] = (), plugin_processes: Sequence[object] = (),
        runtime: RuntimeAccess | None = None, started_by: str = "",
        inherited: tuple[Sequence[dict[str, Any]], tuple[object, ...]] = ((), ()),
        **policy: Any,
    ) -> Sandbox:  # fmt: skip
        """A new sandbox that is not started yet; what the command line's `create` makes.

        With `hold` it is about to be started: its owner's lock is kept until then. `inherited` are
        the plugins of who asks for it: as a record lists them, and the objects among them.
        """
        from sandlot.sandbox.lifecycle import create_folder
        from sandlot.sandbox.options import ca_file, check_env, make_record, network_options
        from sandlot.sandbox.pulling import find_image

        text(image, "image", 'image="python:3.12", or the name of an Image')
        for what, value, example in (
            ("workdir", workdir, '"/tmp"'), ("user", user, '"nobody" or "1000:1000"'),
            ("hostname", hostname, '"box"'), ("stop_signal", stop_signal, '"SIGINT"'),
            ("pull", pull, '"always"'), ("platform", platform, '"linux/amd64"'),
        ):  # fmt: skip
            text_or_none(value, what, f"{what}={example}")
        flag(detached, "detached")
        own = check_env(env)
        host = Host.current()
        found = await find_image(host, image, pull=pull, platform=platform)
        config = found.config
        chosen = stop_signal if stop_signal is not None else config.stop_signal
        if chosen:
            signal_number(chosen)
        checked = check_policy(
            detached=detached, auto_remove=auto_remove, stop_signal=chosen, **policy
        )
        if hooks is not None and detached:
            raise ConfigError(
                "hooks cannot be called for a detached sandbox: it outlives this program",
                hint="leave detached=True out",
            )
        checked = {
            **checked,
            **network_options(network, ports, connections, bandwidth, dns, inspect),
        }
        hidden: dict[str, Secret] = {}
        variables: dict[str, str] = {}
        if secrets or inspect or upstream_ca:
            from sandlot.sandbox.secrecy import checked_secrets, secret_options

            hidden = checked_secrets(secrets, own, detached)
            fields, variables = await secret_options(hidden, looks=bool(inspect))
            looks = bool(hidden or inspect)
            checked = {**checked, **fields, "upstream_ca": ca_file(upstream_ca, used=looks)}
        lent: dict[str, str] = {}
        if runtime is not None:
            from sandlot.sandbox.lending import runtime_options

            fields, lent = runtime_options(runtime, {**config.env, **own}, hidden, hooks)
            checked = {**checked, **fields}
        given: dict[str, FileSystem] = {}
        if volumes:
            from sandlot.volume.declared import GIVEN, declared

            listed, given = declared(volumes)
            if detached and any(each["kind"] == GIVEN for each in listed):
                raise ConfigError(
                    "a file system of this program cannot be mounted in a detached sandbox",
                    hint="leave detached=True out, or use a host folder or a named volume",
                )
            checked = {**checked, "volumes": listed}
        extensions = inherited[1]
        if inherited[0]:
            checked = {**checked, "plugins": list(inherited[0])}
        if plugins or plugin_processes:
            from sandlot.plugin.declared import declared as declared_plugins

            listed, extensions = declared_plugins(plugins, plugin_processes, detached)
            checked = {**checked, "plugins": listed}
            if extensions and runtime is not None and runtime.lifetime == "detached":
                raise ConfigError(
                    "plugins that are objects cannot be asked about sandboxes that outlive this "
                    "program",
                    hint='leave lifetime="detached" out, or name them as text',
                )
        record = make_record(
            name=name, image=found.title, image_digest=found.id, memory=memory, cpus=cpus, disk=disk,
            env={**variables, **config.env, **own, **{n: variables[n] for n in hidden}, **lent},
            workdir=workdir if workdir is not None else config.working_dir,
            user=user if user is not None else config.user,
            hostname=hostname, command=command, tty=tty, stdin=stdin, auto_remove=auto_remove,
            detached=detached, data=host.paths.sandboxes,
            policy={**checked, "started_by": started_by},
        )  # fmt: skip
        # The image's own was made with the image.
        record = dataclasses.replace(record, make_workdir=workdir not in (None, "", "/"))
        folder, lock = await create_folder(host, record, starts=hold)
        made = cls._from_folder(host, folder, record, lock if hold else None, hooks, hidden)
        made._objects, made._plugins = given, extensions
        if not hold:
            lock.release()
        return made

    @classmethod
    def _from_folder(
        cls, host: Host, folder: SandboxFolder, record: SandboxRecord, lock: FileLock | None,
        hooks: Hooks | None, secrets: dict[str, Secret],
    ) -> Sandbox:  # fmt: skip
        """A sandbox that was just made and is about to be started."""
        made = cls(host, folder, record)
        made._hooks, made._secrets, made._lock = hooks, secrets, lock
        return made

    @classmethod
    async def get(cls, name: str) -> Sandbox:
        """A sandbox that exists, by name or id, running or not.

        Raises:
            SandboxNotFound: there is none.
        """
        host = Host.current()
        folder = host.sandboxes.find(name)
        return cls(host, folder, folder.record())

    @classmethod
    async def list(
        cls, *, unreadable: Callable[[SandboxError], None] | None = None
    ) -> list[SandboxInfo]:
        """Every sandbox of this user, by name.

        Args:
            unreadable: is told of each whose record cannot be read, which is left out.
        """
        return list_sandboxes(unreadable)

    @classmethod
    async def current_runtime(cls) -> Runtime:
        """For a program that runs in a sandbox: the runtime that its owner lends it.

            rt = await Sandbox.current_runtime()
            researcher = await rt.start("researcher", image="python:3.12")

        Raises:
            WrongState: this program runs in no sandbox, or nothing was lent to it.
        """
        from sandlot.runtime import lent

        try:
            return await lent.current_runtime()
        except lent.WrongState as error:
            raise WrongState(error.message, hint=error.hint) from None

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.remove()


class SandboxCreation:
    """What `Sandbox.create` returns: await it, or use it in `async with`."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._sandbox: Sandbox | None = None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a sandbox has {name!r} only after `await` or in `async with`")

    def __await__(self) -> Generator[Any, None, Sandbox]:
        made: Generator[Any, None, Sandbox] = self._make().__await__()
        return made

    async def __aenter__(self) -> Sandbox:
        self._sandbox = await self._make()
        return self._sandbox

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._sandbox is not None:
            await self._sandbox.remove()


__all__ = [
    "DEFAULT_DISK",
    "DEFAULT_MEMORY",
    "MAX_OUTPUT",
    "STOP_GRACE",
    "Sandbox",
    "SandboxCreation",
    "SandboxInfo",
]
