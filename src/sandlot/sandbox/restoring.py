"""A new sandbox that goes on where another one was saved."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandlot.engine.config import MIB
from sandlot.errors import ConfigError, SnapshotError, SnapshotNotFound
from sandlot.sandbox.arguments import flag
from sandlot.sandbox.capture import clear, link_folder, to_the_end
from sandlot.sandbox.lazy import LAZY
from sandlot.sandbox.naming import readable_name
from sandlot.sandbox.options import check_env, disk_size, network_options
from sandlot.sandbox.policy import check_policy
from sandlot.sandbox.saving import cache_limit, full_disk, new_overlay
from sandlot.sandbox.sizes import check_hostname, check_name
from sandlot.snapshot.cache import bound
from sandlot.snapshot.record import MachineRecord
from sandlot.snapshot.store import SnapshotFolder
from sandlot.state.lock import FileLock, locked
from sandlot.state.records import SandboxFolder, SandboxRecord, write_json
from sandlot.state.sparse import link_or_copy

if TYPE_CHECKING:
    from sandlot.filesystem.base import FileSystem
    from sandlot.network.policy import Network
    from sandlot.sandbox.host import Host
    from sandlot.sandbox.secrecy import Grants
    from sandlot.secrets import Secret


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a restored sandbox has otherwise than the one that was saved; None is: the same."""

    env: Mapping[str, str] | None = None
    hostname: str | None = None
    network: Network | None = None
    ports: object = None
    secrets: object = None
    volumes: Mapping[str, object] | None = None
    labels: Mapping[str, str] | None = None
    disk: int | str | None = None
    detached: bool = False
    auto_remove: bool = False
    idle_timeout: float | str | None = None
    max_duration: float | str | None = None
    plugins: Sequence[object] | None = None
    plugin_processes: Sequence[object] | None = None


@dataclass(frozen=True)
class Origin:
    """Where a sandbox goes on from: the files, and what is known of them."""

    folder: SnapshotFolder
    source: SandboxRecord
    layers: list[str]
    machine: MachineRecord | None
    snapshot: str = ""
    """The snapshot's id and name, empty for a fork."""
    title: str = ""
    created: float = 0.0


async def child_record(
    origin: Origin, name: str | None, changes: Changes, grants: Grants
) -> tuple[SandboxRecord, Grants]:
    """The record of a new sandbox, and what it is given of those grants and changes.

    Raises:
        ConfigError: an option is wrong.
        SecretUnavailable: the value of a secret cannot be had.
    """
    flag(changes.detached, "detached")
    source = origin.source
    chosen = check_name(name) if name is not None else readable_name()
    hostname = changes.hostname
    own = check_env(changes.env)
    for variable in own:
        if variable in source.secrets:
            raise ConfigError(f"{variable} is a secret and in env=", hint="use secrets=")
    fields: dict[str, Any] = {}
    if changes.disk is not None:
        fields["disk"] = _grown(source.disk, changes.disk)
    if changes.network is not None:
        fields["network"] = network_options(changes.network, None, 0, 0)["network"]
        if source.runtime:
            from sandlot.runtime.grant import RuntimeAccess

            grant = RuntimeAccess.from_json(source.runtime)
            fields["runtime"] = grant.narrowed(network=changes.network).to_json()
    if changes.ports is not None:
        fields["ports"] = network_options(None, changes.ports, 0, 0)["ports"]
    else:
        # The parent has its ports still, and so would every other child.
        fields["ports"] = [{**port, "host_port": 0} for port in source.ports]
    limits: dict[str, Any] = {}
    if changes.idle_timeout is not None:
        limits["idle_timeout"] = changes.idle_timeout
    if changes.max_duration is not None:
        limits["max_duration"] = changes.max_duration
    checked = check_policy(
        detached=changes.detached, auto_remove=changes.auto_remove, labels=changes.labels, **limits
    )
    fields |= {name: checked[name] for name in limits}
    if changes.labels is not None:
        fields["labels"] = checked["labels"]
    hidden, secret_fields = _secrets(source, changes.secrets, grants.secrets, changes.detached)
    fields["volumes"], given = child_volumes(source, changes, grants.volumes)
    fields["plugins"], extensions = child_plugins(source, changes, grants.plugins)
    fields |= secret_fields
    env = {**fields.pop("env", source.env), **own}
    record = dataclasses.replace(
        source, id=secrets.token_hex(6), name=chosen, created=time.time(),
        hostname=check_hostname(hostname) if hostname
        else chosen.replace("_", "-").strip(".-")[:63],
        machine_id=secrets.token_hex(16), env=env,
        detached=changes.detached, auto_remove=changes.auto_remove, make_workdir=False,
        restart=source.restart if changes.detached and not changes.auto_remove else "no",
        snapshot=origin.snapshot, started_by="", **fields,
    )  # fmt: skip
    return record, dataclasses.replace(grants, secrets=hidden, volumes=given, plugins=extensions)


def _grown(saved: int, wanted: int | str) -> int:
    """The size of a child's disk: a file system with files in it only grows."""
    size = disk_size(wanted)
    if size < saved:
        raise ConfigError(
            f"disk {wanted} is smaller than the saved disk of {saved // MIB}M; it can only grow",
            hint="leave disk= out, or ask for more",
        )
    return size


def _secrets(
    source: SandboxRecord, given: object, grants: Mapping[str, Secret], detached: bool
) -> tuple[dict[str, Secret], dict[str, Any]]:
    """The secrets that a child is given, and the fields about them.

    Its processes hold the placeholders of the one that was saved, so those stay; who names secrets
    narrows them to those.
    """
    if given is None:
        return dict(grants), {}
    from sandlot.sandbox.secrecy import checked_secrets

    wanted = checked_secrets(given, {}, detached)
    for name in wanted:
        if name not in source.secrets:
            raise ConfigError(
                f"the saved sandbox {source.name!r} had no secret {name}",
                hint=f"it had: {', '.join(source.secrets) or 'none'}",
            )
    return wanted, {
        "secrets": {name: secret.to_record() for name, secret in wanted.items()},
        "placeholders": {name: source.placeholders[name] for name in wanted},
        "env": {
            name: value for name, value in source.env.items()
            if name not in source.secrets or name in wanted
        },
    }  # fmt: skip


def child_volumes(
    source: SandboxRecord, changes: Changes, grants: Mapping[str, FileSystem]
) -> tuple[list[dict[str, Any]], dict[str, FileSystem]]:
    """The volumes of a child: those of the one that was saved, or those that are named instead.

    Raises:
        ConfigError: one is an object of a program, and not of this one.
    """
    if changes.volumes is None and not source.volumes:
        return [], {}
    from sandlot.volume.declared import GIVEN, declared

    if changes.volumes is not None:
        listed, given = declared(changes.volumes)
    else:
        # What the machine holds itself was saved with it, and each child has its own.
        listed = [
            {"path": each["path"], "kind": "memory", **each["held"]} if "held" in each else each
            for each in source.volumes
        ]
        given = {each["path"]: grants[each["path"]] for each in listed
                 if each["kind"] != "memory" and each["path"] in grants}  # fmt: skip
    for each in listed:
        path = each["path"]
        if each["kind"] == GIVEN and (changes.detached or path not in given):
            why = "which a detached sandbox cannot have" if changes.detached else "not of this one"
            raise ConfigError(
                f"the volume at {path} is an object of a program, {why}",
                hint=f'give another one: -v NAME:{path} (volumes={{"{path}": "name"}}), or none: '
                "volumes={}",
            )
    return listed, {path: fs for path, fs in given.items() if not changes.detached}


def child_plugins(
    source: SandboxRecord, changes: Changes, grants: tuple[object, ...]
) -> tuple[list[dict[str, Any]], tuple[object, ...]]:
    """The plugins of a child: those of the one that was saved, or those that are named instead.

    Raises:
        ConfigError: one is an object of a program, and not of this one, or the child is detached.
    """
    if changes.plugins is not None or changes.plugin_processes is not None:
        from sandlot.plugin.declared import declared

        return declared(changes.plugins, changes.plugin_processes, changes.detached)
    objects = [each["given"] for each in source.plugins if "given" in each]
    if objects and (changes.detached or len(grants) != len(objects)):
        why = "which a detached sandbox cannot have" if changes.detached else "and not of this one"
        raise ConfigError(
            f"the plugin {objects[0]} is an object of a program, {why}",
            hint="give others with plugins=[...], or go without: plugins=[] (--no-plugins)",
        )
    return list(source.plugins), grants if objects else ()


async def make_child(
    host: Host, origin: Origin, record: SandboxRecord, env: Mapping[str, str]
) -> tuple[SandboxFolder, FileLock]:
    """The folder of a new sandbox that goes on from `origin`, whose lock the caller holds.

    Raises:
        NameTaken, ResourceError, StateError
        SnapshotNotFound: the snapshot was removed at this moment.
        SnapshotDamaged: a file of it is not what it was.
        SnapshotMismatch: the saved machine does not fit this host.
    """
    if origin.machine is not None:
        origin.machine.check((await host.engine()).facts)
        await _whole_memory(host, origin)
    with full_disk(), host.sandboxes.creating(record) as (folder, lock):
        try:
            if origin.machine is not None:
                await _link_memory(host, origin, folder)
            await to_the_end(asyncio.to_thread(_link, origin, folder, record, env))
        except FileNotFoundError as error:
            if origin.folder.path.exists():
                raise
            raise SnapshotNotFound(
                f"snapshot {origin.title!r} was removed at this moment"
            ) from error
        folder.write_run_state()
    return folder, lock


async def _link_memory(host: Host, origin: Origin, folder: SandboxFolder) -> None:
    memory = origin.folder.memory
    for last in (False, False, True):
        try:
            await to_the_end(asyncio.to_thread(memory.link_to, folder.memory))
            return
        except FileNotFoundError:
            if last or memory.full.exists() or not origin.folder.path.exists():
                raise
            # Somebody who needed the room dropped it at this moment.
            clear(folder.memory)
            await _whole_memory(host, origin)


async def _whole_memory(host: Host, origin: Origin) -> None:
    """See to it that the memory is there in one file, which one program makes for all."""
    memory = origin.folder.memory
    if memory.full_is_right():
        memory.note_use()
        return
    limit = cache_limit(host)
    async with locked(origin.folder.lock_path):
        if not origin.folder.path.exists():
            raise SnapshotNotFound(f"snapshot {origin.title!r} was removed at this moment")
        if not memory.full_is_right():
            with full_disk():
                await asyncio.to_thread(origin.folder.verify, whole=True)
                await to_the_end(asyncio.to_thread(memory.make_full))
    if origin.snapshot:
        await asyncio.to_thread(bound, host.snapshots, limit, keep=origin.folder)


def _link(
    origin: Origin, folder: SandboxFolder, record: SandboxRecord, env: Mapping[str, str]
) -> None:
    link_folder(origin.folder.image, folder.image.parent)
    (folder.path / "disk").mkdir(mode=0o700)
    for name in origin.layers:
        link_or_copy(origin.folder.disk / name, folder.path / "disk" / name)
    if (origin.folder.path / LAZY).exists():
        shutil.copytree(origin.folder.path / LAZY, folder.path / LAZY)
    folder.write_disk_files(origin.layers, new_overlay(folder, record.disk, len(origin.layers)))
    if origin.machine is None:
        return
    folder.saved.mkdir(mode=0o700)
    link_or_copy(origin.folder.state, folder.saved / "state")
    if origin.folder.volumes.exists():
        for path in (origin.folder.volumes, *origin.folder.contents()):
            link_or_copy(path, folder.saved / path.name)
    write_json(
        folder.saved / "machine.json",
        {
            "machine": dataclasses.asdict(origin.machine),
            "restored": {
                **described(record, env), "snapshot": origin.title,
                "from": origin.source.name, "saved": origin.created,
            },
        },
    )  # fmt: skip


def described(record: SandboxRecord, env: Mapping[str, str]) -> dict[str, Any]:
    """What a guest is told of the sandbox that it is now."""
    return {
        "name": record.name, "id": record.id, "hostname": record.hostname,
        "snapshot_id": record.snapshot, "restored": time.time(), "env": dict(env),
    }  # fmt: skip


def origin_of(folder: SnapshotFolder, *, disk_only: bool = False) -> Origin:
    """Where sandboxes go on that are restored from a snapshot.

    Raises:
        SnapshotNotFound, SnapshotDamaged
    """
    record = folder.record()
    folder.verify(disk_only=disk_only)
    machine = None if disk_only else record.machine_record
    try:
        source = record.sandbox_record
    except TypeError as error:
        raise SnapshotError(
            f"snapshot {record.name!r} was made by another version: {error}"
        ) from error
    return Origin(
        folder, source, record.layers, machine, record.id, record.name, created=record.created
    )
