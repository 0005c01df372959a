"""What may stand in a Sandboxfile. The JSON Schema is made from these models. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sandlot.errors import ConfigError
from sandlot.fleet.words import (
    Bandwidth,
    Command,
    Duration,
    Grace,
    HostList,
    HostName,
    MountPath,
    Name,
    Named,
    Port,
    Restart,
    Rule,
    Size,
    Text,
    TextList,
    Whole,
    by_name,
)

CONDITIONS = ("started", "healthy", "completed")


class Model(BaseModel):
    """Base of all: nothing unknown, nothing guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Dns(Model):
    """How names are looked up."""

    rebind_protection: Literal["strict"] = "strict"
    """Public names that lead to private addresses are refused; there is no other way."""


class NetworkModel(Model):
    """What a sandbox may reach."""

    allow: list[Rule] | None = None
    """Rules of what may be reached; given, everything else is refused."""
    deny: list[Rule] = Field(default_factory=list)
    """Rules of what may not be reached."""
    default: Literal["deny", "public", "open"] | None = None
    """What becomes of the rest: `deny` when `allow` is given, `public` otherwise."""
    hidden_names: bool = False
    """Let pass what hides the name that it asks for."""
    dns: Dns = Field(default_factory=Dns)
    """How names are looked up."""


def _network(value: Any) -> Any:
    words = {"none": "deny", "bridge": "public"}
    return {"default": words.get(value, value)} if isinstance(value, str) else value


NetworkField = Annotated[
    NetworkModel,
    BeforeValidator(
        _network, json_schema_input_type=NetworkModel | Literal["deny", "none", "public", "open"]
    ),
]


class SecretModel(Model):
    """A value that a sandbox uses but never holds."""

    hosts: HostList = Field(default_factory=list)
    """Who may get it; the names under `network.allow` when there is none."""
    env: str | None = None
    """The variable of this machine that has the value; the secret's own name otherwise."""
    file: str | None = None
    """A file that has the value."""
    command: Text | list[str] | None = None
    """A command on this machine that prints the value."""
    inject: TextList = Field(default_factory=lambda: ["credentials"])
    """Where in a request it is put in."""
    on_misuse: Literal["pass", "refuse"] = "pass"
    """What becomes of a request that has the placeholder elsewhere."""
    plain_http: bool = False
    """Also in requests without TLS."""
    mask_echo: bool = False
    """Put the placeholder back where an answer holds the value."""
    refresh: float | int | None = None
    """Seconds for which a value is used before its source is asked again."""


def _secret(value: Any) -> Any:
    return {"hosts": value} if isinstance(value, str | list) else ({} if value is None else value)


SecretField = Annotated[
    SecretModel,
    BeforeValidator(_secret, json_schema_input_type=SecretModel | str | list[str] | None),
]


def _secrets(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for each in value:
        if isinstance(each, str):
            name, at, hosts = each.partition("@")
            found[name] = {"hosts": hosts.split(",")} if at else {}
        elif isinstance(each, dict):
            found |= each
        else:
            return value
    return found


Secrets = Annotated[
    dict[str, SecretField],
    BeforeValidator(
        _secrets,
        json_schema_input_type=dict[str, SecretField] | list[str | dict[str, SecretField]],
    ),
]


class Mount(Model):
    """What is mounted at a path."""

    type: Literal["bind", "volume", "tmpfs"] = "volume"
    """A folder or file of this machine, a named volume, or memory."""
    source: str = ""
    """The folder or file, or the name of the volume; empty for one of the sandbox's own."""
    target: MountPath
    """The path in the sandbox."""
    readonly: bool = False
    """The sandbox cannot change anything."""
    cache: Literal["coherent", "fast", "none"] = "coherent"
    """What of it the sandbox keeps."""
    size: Size | None = None
    """How much a tmpfs may hold."""


_NOTHING = {"z", "Z", "cached", "delegated", "consistent", "nocopy"}


def mount(value: Any) -> Any:
    """The short form `SOURCE:PATH[:OPTIONS]` as the long one.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3 or not all(parts):
        raise ConfigError(f"{value!r} is no volume", hint="use SOURCE:/path[:ro]")
    source, path = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    found: dict[str, Any] = {
        "type": "bind" if source[:1] in ("/", ".", "~") and source else "volume",
        "source": source, "target": path,
    }  # fmt: skip
    for word in parts[2].split(",") if len(parts) == 3 else ():
        key, _, said = word.partition("=")
        if word in ("ro", "rw"):
            found["readonly"] = word == "ro"
        elif key == "cache":
            found["cache"] = said
        elif word not in _NOTHING:
            raise ConfigError(f"the option {word!r} of {value!r} is not known",
                              hint="use ro, rw and cache=coherent|fast|none")  # fmt: skip
    return found


MountField = Annotated[Mount, BeforeValidator(mount, json_schema_input_type=Mount | str)]


class VolumeModel(Model):
    """A named volume, which outlives the fleet."""

    size: Size | None = None
    """How much it may hold."""
    kind: Literal["folder", "disk"] = "folder"
    """A folder that sandboxes may share, or a disk for one at a time."""
    name: str | None = None
    """The volume's own name; FLEET-NAME otherwise."""
    external: bool = False
    """It is there already, and `down -v` leaves it."""
    labels: Named = Field(default_factory=dict)
    """Names and values of your own."""


VolumeField = Annotated[
    VolumeModel,
    BeforeValidator(
        lambda value: {} if value is None else value, json_schema_input_type=VolumeModel | None
    ),
]


class Dependency(Model):
    """When a member that another one needs is there."""

    condition: Literal["started", "healthy", "completed"] = "started"
    """`started`; `healthy` by its check; or `completed`: its command ended with 0."""


Dependencies = Annotated[
    dict[str, Dependency],
    BeforeValidator(by_name, json_schema_input_type=dict[str, Dependency] | list[str]),
]


class HealthModel(Model):
    """How to find out whether a member works."""

    command: Command
    """Run in the sandbox; the member is healthy when it ends with 0."""
    interval: Duration = "5s"
    """How long to wait between two checks."""
    timeout: Duration = "30s"
    """How long one check may take."""
    retries: Annotated[int, Field(ge=1)] = 3
    """After how many failures in a row it is unhealthy."""
    start_period: Grace = "0"
    """For how long after its start failures do not count."""


class BuildModel(Model):
    """An image that is built from a Dockerfile."""

    context: str = "."
    """The folder that the Dockerfile copies from."""
    dockerfile: str | None = None
    """The Dockerfile, from the context; `Dockerfile` otherwise."""
    args: Named = Field(default_factory=dict)
    """Values for ARG."""
    target: str = ""
    """The stage to build; the last one otherwise."""
    labels: Named = Field(default_factory=dict)
    """Labels of the image."""
    memory: Size = "2G"
    """Memory of the machine of a RUN."""
    disk: Size = "16G"
    """The size of the writable disk of a RUN."""
    network: NetworkField | None = None
    """What a RUN may reach."""


BuildField = Annotated[
    BuildModel,
    BeforeValidator(
        lambda value: {"context": value} if isinstance(value, str) else value,
        json_schema_input_type=BuildModel | str,
    ),
]


class RuntimeModel(Model):
    """What the programs of a sandbox may start beside it."""

    max_sandboxes: Annotated[Whole, Field(ge=1, le=256)] = 1
    """How many may exist at once."""
    images: TextList = Field(default_factory=list)
    """Names of images that may be used."""
    memory: Size = "1G"
    """Memory of all of them together."""
    cpus: Annotated[Whole, Field(ge=1, le=64)] = 1
    """The most virtual processors of one of them."""
    disk: Size = "4G"
    """The most disk of one of them."""
    network: NetworkField | None = None
    """The most that they may reach; nothing otherwise."""
    secrets: TextList = Field(default_factory=list)
    """Names of the sandbox's own secrets that they may use too."""
    max_depth: Annotated[Whole, Field(ge=1, le=8)] = 1
    """1 when they may start nothing themselves."""
    lifetime: Literal["owner", "detached"] = "owner"
    """Whether they end with the sandbox that started them, or live on."""


class SandboxModel(Model):
    """One member of the fleet. What `Sandbox.create` takes has the same name here."""

    image: str | None = None
    """The name of an image, in the store or in a registry; what `build` makes is called so."""
    build: BuildField | None = None
    """Build the image from a Dockerfile."""
    from_snapshot: str | None = None
    """Go on from this snapshot instead."""
    command: Command | None = None
    """What runs in it: text is a line for its shell, a list is argv. Without one, it stays up."""
    entrypoint: Command | None = None
    """What the command is given to; the image's own with `image_command`."""
    image_command: bool = False
    """Run the image's own entrypoint and command, where none is named here."""
    scripts: dict[str, Text] = Field(default_factory=dict)
    """Lines for its shell, by name: `sandlot fleet run NAME`. `start` is its command."""
    memory: Size | None = None
    """Memory of the machine; 1G otherwise."""
    cpus: Annotated[Whole, Field(ge=1, le=64)] | None = None
    """Virtual processors; 1 otherwise."""
    disk: Size | None = None
    """The size of its writable disk; 4G otherwise."""
    env: Named = Field(default_factory=dict)
    """Variables of its programs; one without a value has this machine's."""
    env_file: TextList = Field(default_factory=list)
    """Files with variables of its programs, and with values of its secrets."""
    workdir: str | None = None
    """Where its commands start."""
    user: Text | None = None
    """Who its commands run as: `name|uid[:group|gid]`."""
    hostname: HostName | None = None
    """Its host name; its name otherwise."""
    pids: Annotated[int, Field(ge=0)] = 0
    """How many processes it may have; 0 is what the machine allows."""
    idle_timeout: Duration | None = None
    """After how long without work it is stopped, or hibernated."""
    idle_action: Literal["stop", "hibernate"] = "stop"
    """What becomes of an idle one."""
    max_duration: Duration | None = None
    """After how long it is stopped in any case."""
    restart: Restart = "no"
    """`no`, `on-failure[:N]`, `always` or `unless-stopped`."""
    stop_signal: str | None = None
    """What `stop` sends its command."""
    stop_grace: Grace | None = None
    """How long it has to end before it is killed; 10s otherwise."""
    labels: Named = Field(default_factory=dict)
    """Names and values of your own, for listings."""
    detached: Literal[True] = True
    """Members of a fleet always live on by themselves."""
    pull: Literal["missing", "always", "never"] | None = None
    """When a registry is asked for the image."""
    platform: str | None = None
    """Such as `linux/amd64`, for an image that is pulled."""
    network: NetworkField | None = None
    """What it may reach; the public internet otherwise."""
    networks: list[Name] = Field(default_factory=list)
    """Private networks that it is in: members of one reach each other by name, over TCP."""
    ports: list[Port] = Field(default_factory=list)
    """Published ports: `HOST_PORT:SANDBOX_PORT`, on 127.0.0.1 unless an address is named."""
    connections: Annotated[int, Field(ge=0)] = 0
    """How many connections it may have at once; 0 is 1024."""
    bandwidth: Bandwidth = "0"
    """Bytes a second of all its connections; 0 is no limit."""
    dns: TextList = Field(default_factory=list)
    """Name servers that are asked."""
    secrets: Secrets = Field(default_factory=dict)
    """Values that it uses but never holds, by the names of their variables."""
    upstream_ca: str = ""
    """A file of certificates that are trusted besides this machine's own."""
    inspect: TextList = Field(default_factory=list)
    """Hosts whose HTTP is looked into."""
    volumes: list[MountField] = Field(default_factory=list)
    """What is mounted: `./folder:/path[:ro]`, `name:/path`, `/path`, or the long form."""
    depends_on: Dependencies = Field(default_factory=dict)
    """Members that have to be there first."""
    health: HealthModel | None = None
    """How to find out whether it works."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many there are of it, each with a number after its name."""
    profiles: TextList = Field(default_factory=list)
    """It is there only when one of these is asked for."""
    plugins: TextList = Field(default_factory=list)
    """What observes, refuses and changes what it does: `audit-log=audit.jsonl`."""
    plugin_processes: TextList = Field(default_factory=list)
    """Programs that are plugins: `node ./monitor.js`."""
    runtime: RuntimeModel | None = None
    """What its programs may start."""


class Sandboxfile(Model):
    """A Sandboxfile: the sandboxes of one fleet, and what they share."""

    model_config = ConfigDict(title="Sandboxfile")

    name: Name | None = None
    """The name of the fleet; that of the file's folder otherwise."""
    sandboxes: dict[Name, SandboxModel]
    """The members, by name."""
    volumes: dict[Name, VolumeField] = Field(default_factory=dict)
    """Named volumes."""
    secrets: dict[str, SecretField] = Field(default_factory=dict)
    """Secrets that members name."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a Sandboxfile, for editors."""
    schema = Sandboxfile.model_json_schema(by_alias=True, mode="validation")
    # `extends` is followed before anything is checked; in a file it may stand.
    schema["$defs"]["SandboxModel"]["properties"]["extends"] = {
        "description": "Begin with what another member says, of this file or of another one.",
        "anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": False,
             "properties": {"file": {"type": "string"}, "sandbox": {"type": "string"},
                            "service": {"type": "string"}}},
        ],
    }  # fmt: skip
    # Names that begin with x- are yours, as in compose files: for anchors and notes.
    schema["patternProperties"] = {"^x-": {}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
