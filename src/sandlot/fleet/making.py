"""From a member to a sandbox that is about to start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sandlot.errors import ConfigError
from sandlot.fleet.models import NetworkModel, RuntimeModel, SecretModel
from sandlot.fleet.spec import FleetSpec, Member, MountSpec, VolumeSpec
from sandlot.fleet.state import labels
from sandlot.network.policy import Network
from sandlot.plugin.declared import NamedPlugin
from sandlot.plugin.process import PluginProcess
from sandlot.runtime.grant import RuntimeAccess
from sandlot.sandbox.host import DEFAULT_DISK, Host
from sandlot.sandbox.sandbox import DEFAULT_MEMORY, Sandbox
from sandlot.sandbox.snapshots import Snapshot
from sandlot.secrets import Secret
from sandlot.sizes import parse_size
from sandlot.volume.declared import Memory, NamedVolume
from sandlot.volume.volume import Volume

if TYPE_CHECKING:
    from sandlot.image import Image

Progress: TypeAlias = "Callable[[str, float | None], None]"


async def make(
    spec: FleetSpec, member: Member, sandbox: str, progress: Progress | None = None
) -> Sandbox:
    """Make and start a sandbox of the fleet.

    Raises:
        SandboxError: as `Sandbox.create` and `Snapshot.restore` do.
    """
    for each in {
        mount.source for mount in member.mounts if mount.type == "volume" and mount.source
    }:
        await _volume(next(v for v in spec.volumes.values() if v.name == each))
    if member.model.from_snapshot is not None:
        return await _restored(spec, member, sandbox)
    found = await image(member, progress, again=False)
    made = await Sandbox._make(
        name=sandbox, **{**arguments(spec, member, sandbox), "image": found.name, "pull": "never"},
        command=main(member, found), hold=True,
    )  # fmt: skip
    try:
        await made.start()
    except BaseException:
        # It never lived; one that is started again would only fail in the same way.
        await made.remove(volumes=True)
        raise
    return made


def arguments(spec: FleetSpec, member: Member, sandbox: str) -> dict[str, Any]:
    """The arguments of `Sandbox.create`, without its command."""
    model = member.model
    return {
        "image": member.image, "memory": model.memory or DEFAULT_MEMORY,
        "cpus": model.cpus or 1, "disk": model.disk or DEFAULT_DISK, "env": dict(member.env),
        "workdir": model.workdir, "user": model.user, "hostname": model.hostname,
        "pids": model.pids, "idle_timeout": model.idle_timeout, "idle_action": model.idle_action,
        "max_duration": model.max_duration, "restart": model.restart,
        "stop_signal": model.stop_signal, "stop_grace": model.stop_grace,
        "labels": labels(spec, member, sandbox), "detached": True,
        "pull": "never" if member.build is not None else model.pull,
        "platform": model.platform, "network": reaching(member), "ports": model.ports or None,
        "connections": model.connections, "bandwidth": model.bandwidth, "dns": model.dns,
        "secrets": secrets(member) or None, "upstream_ca": model.upstream_ca,
        "inspect": model.inspect, "volumes": volumes(member) or None, **plugins(member),
        "runtime": runtime(model.runtime),
    }  # fmt: skip


async def image(member: Member, progress: Progress | None = None, *, again: bool = True) -> Image:
    """The image of a member, from a registry when it is not here, or with `again` when the file
    says so.

    Raises:
        ImageNotFound, RegistryError, ImageError
    """
    from sandlot.sandbox.pulling import find_image

    model = member.model
    pull = "never" if member.build is not None else model.pull
    if pull == "always" and not again:
        pull = "missing"
    return await find_image(
        Host.current(), member.image, pull=pull, platform=model.platform, progress=progress
    )


def main(member: Member, found: Image) -> list[str]:
    """What runs in it: as it is named, or with `image_command` what its image says."""
    if not member.model.image_command or member.model.entrypoint is not None:
        return list(member.command)
    return [*found.config.entrypoint, *(member.command or found.config.cmd)]


def network(model: NetworkModel | None) -> Network | None:
    """What it may reach."""
    if model is None:
        return None
    return Network(model.allow, model.deny, model.default, hidden_names=model.hidden_names)


def reaching(member: Member) -> Network | None:
    """What a member may reach, its peers too."""
    found = network(member.model.network)
    return (found or Network.public()).with_peers(member.peers) if member.peers else found


def plugins(member: Member) -> dict[str, list[Any]]:
    """Its plugins, whose paths begin from the file's folder."""
    return {
        "plugins": [NamedPlugin(each, member.folder) for each in member.model.plugins],
        "plugin_processes": [
            PluginProcess(each, folder=member.folder) for each in member.model.plugin_processes
        ],
    }


def runtime(model: RuntimeModel | None) -> RuntimeAccess | None:
    """What its programs may start."""
    if model is None:
        return None
    return RuntimeAccess(**{**dict(model), "network": network(model.network)})


def secrets(member: Member) -> dict[str, Secret]:
    """Its secrets, with the values that stand in env files."""
    return {name: _secret(name, each, member.values) for name, each in member.secrets.items()}


def _secret(name: str, model: SecretModel, values: Mapping[str, str]) -> Secret:
    options: dict[str, Any] = {
        "hosts": model.hosts, "inject": model.inject, "on_misuse": model.on_misuse,
        "plain_http": model.plain_http, "mask_echo": model.mask_echo, "refresh": model.refresh,
    }  # fmt: skip
    if model.file is not None:
        return Secret(file=model.file, **options)
    if model.command is not None:
        return Secret(command=model.command, **options)
    if name in values:
        return Secret(values[name], **options)
    return Secret(env=model.env or name, **options)


def given_secrets(member: Member) -> dict[str, Secret]:
    """The secrets whose values this program has to give at every start."""
    return {name: secret for name, secret in secrets(member).items() if name in member.values}


def volumes(member: Member) -> dict[str, object]:
    """What is mounted in it."""
    return {each.target: _mounted(each) for each in member.mounts}


def _mounted(mount: MountSpec) -> object:
    if mount.type == "tmpfs":
        return Memory(parse_size(mount.size, "size") if mount.size else 0)
    if mount.type == "bind":
        from sandlot.filesystem.host.hostfs import HostFs

        fs = HostFs(Path(mount.source), mount.readonly, mount.cache)
        fs.check()
        return fs
    return NamedVolume(mount.source, mount.readonly, mount.cache)


async def _volume(spec: VolumeSpec) -> None:
    """See to it that a named volume is there, and is what the file says."""
    from sandlot.errors import NameTaken, VolumeNotFound

    model = spec.model
    try:
        found = await Volume.get(spec.name)
    except VolumeNotFound:
        if model.external:
            raise ConfigError(
                f"the external volume {spec.name!r} does not exist",
                hint=f"make it with `sandlot volume create {spec.name}`",
            ) from None
        marks = {name: value or "" for name, value in model.labels.items()}
        try:
            await Volume.create(spec.name, size=model.size, kind=model.kind, labels=marks or None)
        except NameTaken:
            await _volume(spec)  # another member made it at this moment
        return
    if model.external:
        return
    if found.kind != model.kind:
        raise ConfigError(
            f"the volume {spec.name!r} is there as a {found.kind}, not a {model.kind}",
            hint=f"remove it with `sandlot volume rm {spec.name}`, which loses what is in it",
        )
    if model.size is not None and found.size != parse_size(model.size):
        raise ConfigError(
            f"the volume {spec.name!r} has another size than {model.size}",
            hint=f"remove it with `sandlot volume rm {spec.name}`, which loses what is in it",
        )


async def _restored(spec: FleetSpec, member: Member, sandbox: str) -> Sandbox:
    model = member.model
    snapshot = await Snapshot.get(model.from_snapshot or "")
    source = snapshot.record.sandbox_record
    for what, asked, saved in (
        ("memory", parse_size(model.memory) if model.memory else None, source.memory),
        ("cpus", model.cpus, source.cpus),
    ):
        if asked is not None and asked != saved and snapshot.kind == "machine":
            shown = f"{saved >> 20}M" if what == "memory" else str(saved)
            raise ConfigError(
                f"{what} of the snapshot {snapshot.name!r} is {shown}, and cannot be changed",
                hint=f"leave {what} out, or save a sandbox that has it",
            )
    given = plugins(member)
    return await snapshot.restore(
        sandbox, env=dict(member.env) or None, hostname=model.hostname,
        network=reaching(member), ports=model.ports or None,
        secrets=secrets(member) or None, labels={**source.labels, **labels(spec, member, sandbox)},
        disk=model.disk, detached=True, idle_timeout=model.idle_timeout,
        max_duration=model.max_duration, volumes=volumes(member) or None,
        plugins=given["plugins"] or None, plugin_processes=given["plugin_processes"] or None,
    )  # fmt: skip
