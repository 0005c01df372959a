"""From a model that fits to members with all references followed and all clashes found."""

from __future__ import annotations

import dataclasses
import graphlib
from collections.abc import Mapping
from pathlib import Path

from sandlot.errors import ConfigError
from sandlot.fleet.document import Node
from sandlot.fleet.models import Sandboxfile, SandboxModel, SecretModel
from sandlot.fleet.problems import Place, Problems, nearest
from sandlot.fleet.spec import DEFAULT_NETWORK, FleetSpec, Member, MountSpec, VolumeSpec
from sandlot.network.published import parse_ports
from sandlot.network.rules import Target, parse_rule
from sandlot.plugin.declared import NamedPlugin, declared
from sandlot.sandbox.sizes import check_name

# What a sandbox that goes on from a snapshot may say; the rest is as it was saved.
_RESTORED = {
    "from_snapshot", "env", "env_file", "hostname", "network", "networks", "ports", "secrets", "labels",
    "disk", "idle_timeout", "max_duration", "volumes", "memory", "cpus", "depends_on", "health",
    "scripts", "replicas", "profiles", "detached", "plugins", "plugin_processes",
}  # fmt: skip
_ANY = {"0.0.0.0", "::"}


class Resolving:
    """The work on one file."""

    def __init__(
        self, tree: Node, model: Sandboxfile, problems: Problems, name: str,
        variables: Mapping[str, str], profiles: frozenset[str], environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._tree = tree
        self._model = model
        self._problems = problems
        self._name = name
        self._variables = variables
        self._environment = environment
        self._profiles = profiles
        self._secret_variables: set[str] = set()

    def secret_variables(self) -> set[str]:
        """The variables of this machine that hold values of secrets."""
        return self._secret_variables

    def spec(self, file: Path) -> FleetSpec:
        """The fleet. What is wrong goes to the problems."""
        try:
            check_name(self._name, "fleet")
        except ConfigError as error:
            self._problems.fault(self._place("name"), error)
        volumes = {
            name: VolumeSpec(each.name or (name if each.external else f"{self._name}-{name}"), each)
            for name, each in self._model.volumes.items()
        }
        for name, each in volumes.items():
            if each.model.kind == "disk" and each.model.external and each.model.size:
                place = self._place("volumes", name, "size")
                self._problems.add(place, "a volume that is there already has its size")
        on = {name for name, each in self._model.sandboxes.items() if self._active(each)}
        members = {
            name: self._member(name, each, volumes)
            for name, each in self._model.sandboxes.items()
        }  # fmt: skip
        self._dependencies(members, on)
        wanted = self._networks({name: each for name, each in members.items() if name in on})
        self._clashes(wanted)
        self._shared_disks(wanted, volumes)
        return FleetSpec(
            name=self._name, file=file, members=wanted, volumes=volumes,
            others=frozenset(set(members) - on), warnings=tuple(sorted(self._problems.warnings)),
        )  # fmt: skip

    def _networks(self, members: dict[str, Member]) -> dict[str, Member]:
        """The same members, each with the peers that share a network with it."""
        within: dict[str, list[str]] = {}
        for name, member in members.items():
            for network in dict.fromkeys(member.model.networks):
                within.setdefault(network, []).append(name)
        for network, names in within.items():
            if len(names) == 1 and len(members) > 1 and network != DEFAULT_NETWORK:
                others = [each for each in within if each != network]
                self._problems.warn(
                    self._place("sandboxes", names[0], "networks"),
                    f"{names[0]} is alone in the network {network}", nearest(network, others),
                )  # fmt: skip
        found = {}
        for name, member in members.items():
            near = {other for network in member.model.networks for other in within[network]}
            peers = {
                other: members[other].sandboxes
                for other in sorted(near - {name}) if members[other].sandboxes
            }  # fmt: skip
            found[name] = dataclasses.replace(member, peers=peers)
        return found

    def _place(self, *path: object) -> Place:
        return self._tree.place_of(*path)

    def _active(self, model: SandboxModel) -> bool:
        return (
            not model.profiles or "*" in self._profiles or bool(self._profiles & {*model.profiles})
        )

    def _folder(self, *path: object) -> Path:
        """The folder that a path in the file begins from: that of the file it stands in."""
        return Path(self._place(*path).file).absolute().parent

    def _member(self, name: str, model: SandboxModel, volumes: Mapping[str, VolumeSpec]) -> Member:
        here = ("sandboxes", name)
        self._begins_with_one(name, model)
        self._plugins(name, model)
        count = model.replicas
        base = f"{self._name}-{name}"
        names = (base,) if count is None else tuple(f"{base}-{i + 1}" for i in range(count))
        for each in names[-1:]:
            try:
                check_name(each)
            except ConfigError as error:
                self._problems.fault(self._place(*here), error)
        files = self._env_files(name, model)
        secrets, values = self._secrets(name, model, files)
        env = self._env(name, model, files, secrets)
        build = model.build
        if build is not None:
            root = self._folder(*here, "build", "context")
            context = str((root / Path(build.context).expanduser()).resolve())
            build = build.model_copy(update={"context": context})
            if not Path(context).is_dir():
                self._problems.add(
                    self._place(*here, "build", "context"), f"{context} is not a folder",
                    "name the folder of the build's files",
                )  # fmt: skip
        image = model.image or (f"{self._name}-{name}".lower() if build is not None else "")
        if model.upstream_ca:
            root = self._folder(*here, "upstream_ca")
            path = str((root / Path(model.upstream_ca).expanduser()).resolve())
            model = model.model_copy(update={"upstream_ca": path})
        return Member(
            name=name, sandboxes=names, model=model, image=image, build=build,
            folder=str(self._folder(*here)),
            command=self._command(name, model), env=env, secrets=secrets, values=values,
            mounts=self._mounts(name, model, volumes),
            needs={other: each.condition for other, each in model.depends_on.items()},
        )  # fmt: skip

    def _plugins(self, name: str, model: SandboxModel) -> None:
        folder = str(self._folder("sandboxes", name))
        for index, each in enumerate(model.plugins):
            try:
                declared([NamedPlugin(each, folder)], (), detached=True)
            except ConfigError as error:
                self._problems.fault(self._place("sandboxes", name, "plugins", index), error)
        for index, each in enumerate(model.plugin_processes):
            try:
                declared((), [each], detached=True)
            except ConfigError as error:
                place = self._place("sandboxes", name, "plugin_processes", index)
                self._problems.fault(place, error)
        for index, secret in enumerate(model.runtime.secrets if model.runtime else ()):
            if secret not in model.secrets:
                self._problems.add(
                    self._place("sandboxes", name, "runtime", "secrets", index),
                    f"{name} does not have the secret {secret}", "name it under its secrets too",
                )  # fmt: skip

    def _begins_with_one(self, name: str, model: SandboxModel) -> None:
        here = ("sandboxes", name)
        if model.from_snapshot is None:
            if model.image is None and model.build is None:
                self._problems.add(
                    self._place(*here), f"{name} has no image",
                    "use image:, build: or from_snapshot:",
                )  # fmt: skip
            return
        for key in sorted(model.model_fields_set - _RESTORED):
            self._problems.add(
                self._place(*here, key), f"{key} is as it was saved in a sandbox from_snapshot",
                f"leave {key} out, or begin with an image",
            )  # fmt: skip
        if "start" in model.scripts:
            self._problems.add(
                self._place(*here, "scripts", "start"),
                "a sandbox from_snapshot goes on with the programs that it had: start is not run",
                "give the script another name",
            )

    def _command(self, name: str, model: SandboxModel) -> tuple[str, ...]:
        start = model.scripts.get("start")
        if model.command is not None and start is not None:
            self._problems.add(
                self._place("sandboxes", name, "command"),
                f"{name} has a command and a script start, which is one as well", "leave one out",
            )  # fmt: skip
        words = model.command or []
        if start is not None:
            words = ["/bin/sh", "-c", start]
        return (*(model.entrypoint or []), *words)

    def _env_files(self, name: str, model: SandboxModel) -> dict[str, str]:
        from sandlot.fleet.reading import read_variables

        found: dict[str, str] = {}
        for number, file in enumerate(model.env_file):
            path = ("sandboxes", name, "env_file", number)
            try:
                found |= read_variables(self._folder(*path) / Path(file).expanduser())
            except ConfigError as error:
                self._problems.fault(self._place(*path), error)
        return found

    def _env(
        self, name: str, model: SandboxModel, files: Mapping[str, str],
        secrets: Mapping[str, SecretModel],
    ) -> dict[str, str]:  # fmt: skip
        taken = {*secrets, *self._secret_variables}
        found = {key: value for key, value in files.items() if key not in taken}
        for key, value in model.env.items():
            place = self._place("sandboxes", name, "env", key)
            if not key:
                self._problems.add(place, "a variable has a name", "use NAME: value")
            elif key in secrets:
                self._problems.add(place, f"{key} is a secret and in env", "leave it out of env")
            elif value is not None:
                found[key] = value
            elif key in self._secret_variables:
                self._problems.add(
                    place,
                    f"{key} is the value of a secret",
                    "name it under secrets of this one too",
                )
            elif key in self._variables:
                found[key] = self._variables[key]
        return found

    def _secrets(
        self, name: str, model: SandboxModel, files: Mapping[str, str]
    ) -> tuple[dict[str, SecretModel], dict[str, str]]:
        found: dict[str, SecretModel] = {}
        values: dict[str, str] = {}
        own = [
            rule.partition("/")[0] for rule in (model.network and model.network.allow) or ()
            if parse_rule(rule).target in (Target.NAME, Target.SUFFIX)
            and "-" not in rule.rpartition(":")[2][:6]
        ]  # fmt: skip
        for key, secret in model.secrets.items():
            place = self._place("sandboxes", name, "secrets", key)
            shared = self._model.secrets.get(key)
            if shared is not None:
                said = secret.model_dump(exclude_unset=True)
                if not said.get("hosts"):
                    said.pop("hosts", None)
                secret = shared.model_copy(update={k: getattr(secret, k) for k in said})
            if not secret.hosts:
                secret = secret.model_copy(update={"hosts": own})
            if not secret.hosts:
                known = self._model.secrets
                self._problems.add(
                    place, f"the secret {key} names no host that may get it",
                    (nearest(key, known) if known and key not in known else "")
                    or f"use secrets: {{{key}: {{hosts: [api.example.com]}}}}, "
                    "or name hosts under network.allow",
                )  # fmt: skip
            sources = [
                each for each in (secret.env, secret.file, secret.command) if each is not None
            ]
            if len(sources) > 1:
                self._problems.add(place, f"the secret {key} has one source: env, file or command")
            if secret.file is not None:
                root = self._folder("sandboxes", name, "secrets", key)
                where = str((root / Path(secret.file).expanduser()).resolve())
                secret = secret.model_copy(update={"file": where})
            elif secret.command is None:
                variable = secret.env or key
                self._secret_variables.add(variable)
                if variable in files:
                    values[key] = files[variable]
                elif variable not in self._environment and variable in self._variables:
                    values[key] = self._variables[variable]
            found[key] = secret
        return found, values

    def _mounts(
        self, name: str, model: SandboxModel, volumes: Mapping[str, VolumeSpec]
    ) -> tuple[MountSpec, ...]:
        found: dict[str, MountSpec] = {}
        for number, each in enumerate(model.volumes):
            path = ("sandboxes", name, "volumes", number)
            source = each.source
            if each.type == "bind":
                if not source:
                    self._problems.add(self._place(*path), "a bind names its source")
                    continue
                source = str((self._folder(*path) / Path(source).expanduser()).resolve())
                if not Path(source).exists():
                    self._problems.add(
                        self._place(*path), f"{source} does not exist on this machine",
                        f"make it first: `mkdir -p {source}`",
                    )  # fmt: skip
            elif each.type == "volume" and source:
                if source not in volumes:
                    self._problems.add(
                        self._place(*path), f"no volume {source!r} is declared",
                        nearest(source, volumes) or f"add it: volumes: {{{source}: {{}}}}",
                    )  # fmt: skip
                    continue
                source = volumes[source].name
            if each.target in found:
                self._problems.add(
                    self._place(*path), f"two volumes are mounted at {each.target}", "leave one out"
                )
            found[each.target] = MountSpec(
                each.type, source, each.target, each.readonly, each.cache, each.size
            )
        return tuple(found.values())

    def _dependencies(self, members: Mapping[str, Member], on: set[str]) -> None:
        for name, member in members.items():
            for other, condition in member.needs.items():
                place = self._place("sandboxes", name, "depends_on", other)
                known = [each for each in members if each != name]
                if other not in members:
                    self._problems.add(
                        place, f"no sandbox {other!r} is declared", nearest(other, known)
                    )
                    continue
                target = members[other]
                if name in on and other not in on:
                    profiles = ", ".join(target.model.profiles)
                    self._problems.add(
                        place, f"{name} needs {other}, which is only there in profile {profiles}",
                        f"use --profile {target.model.profiles[0]}",
                    )  # fmt: skip
                if condition == "healthy" and target.health is None:
                    self._problems.add(
                        place,
                        f"{other} has no health check",
                        f"give {other} one: health: {{command: ...}}",
                    )
                ends = target.command or target.model.image_command
                if condition == "completed" and not ends:
                    self._problems.add(
                        place, f"{other} has no command that could complete",
                        f"give {other} one: scripts: {{start: ...}}",
                    )  # fmt: skip
        graph = {name: {each for each in m.needs if each in members} for name, m in members.items()}
        while True:
            try:
                graphlib.TopologicalSorter(graph).prepare()
                return
            except graphlib.CycleError as error:
                cycle = list(reversed(error.args[1]))  # from who needs to what is needed
                least = min(range(len(cycle) - 1), key=lambda i: cycle[i])
                cycle = [*cycle[least:-1], *cycle[: least + 1]]
                place = self._place("sandboxes", cycle[0], "depends_on")
                self._problems.add(place, f"a cycle: {' needs '.join(cycle)}", "leave one out")
                graph[cycle[0]] = graph[cycle[0]] - {cycle[1]}

    def _clashes(self, members: Mapping[str, Member]) -> None:
        ports: list[tuple[str, int, str, str]] = []
        names: dict[str, str] = {}
        for name, member in members.items():
            for each in member.sandboxes:
                if names.setdefault(each, name) != name:
                    self._problems.add(
                        self._place("sandboxes", name),
                        f"{name} and {names[each]} both are the sandbox {each}", "rename one",
                    )  # fmt: skip
            for number, text in enumerate(member.model.ports):
                place = self._place("sandboxes", name, "ports", number)
                for port in parse_ports(text):
                    if not port.host_port:
                        continue
                    what = f"port {port.host_port}/{port.protocol} of this machine"
                    if len(member.sandboxes) > 1:
                        self._problems.add(
                            place, f"{what} cannot be that of {len(member.sandboxes)} replicas",
                            f"name the sandbox's port alone: {port.port}",
                        )  # fmt: skip
                    for address, number_, protocol, other in ports:
                        same = address == port.address or {address, port.address} & _ANY
                        if (number_, protocol) == (port.host_port, port.protocol) and same:
                            self._problems.add(place, f"{what} is published by {other} already",
                                               "use another one")  # fmt: skip
                    ports.append((port.address, port.host_port, port.protocol, name))

    def _shared_disks(
        self, members: Mapping[str, Member], volumes: Mapping[str, VolumeSpec]
    ) -> None:
        disks = {each.name for each in volumes.values() if each.model.kind == "disk"}
        users: dict[str, str] = {}
        for name, member in members.items():
            for number, mount in enumerate(member.mounts):
                if mount.type != "volume" or mount.source not in disks:
                    continue
                if mount.source in users or len(member.sandboxes) > 1:
                    by = users.get(mount.source, f"each replica of {name}")
                    self._problems.add(
                        self._place("sandboxes", name, "volumes", number),
                        f"the volume is a disk, for one sandbox at a time, and {by} has it too",
                        "use kind: folder, which sandboxes may share",
                    )  # fmt: skip
                users[mount.source] = name
