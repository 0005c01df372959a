"""A compose file as a Sandboxfile: what maps is mapped, what does not is named. Pure, on trees."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sandlot.fleet.document import Node, mapping, scalar, sequence
from sandlot.fleet.problems import Problems
from sandlot.fleet.spec import DEFAULT_NETWORK

_SAME = {
    "image", "labels", "restart", "platform", "hostname", "profiles", "user", "dns", "extends",
}  # fmt: skip
_RENAMED = {
    "environment": "env", "working_dir": "workdir", "stop_signal": "stop_signal",
    "stop_grace_period": "stop_grace", "pull_policy": "pull", "cpus": "cpus",
    "mem_limit": "memory", "pids_limit": "pids", "scale": "replicas",
}  # fmt: skip
# What is so in every sandbox, or means nothing here.
_MEANS_NOTHING = {
    "container_name": "sandboxes are named after the fleet",
    "init": "every sandbox has an init",
    "tty": "commands of a fleet have no terminal",
    "stdin_open": "commands of a fleet have no input",
    "logging": "there is one log; see `sandlot fleet logs`",
    "security_opt": "a sandbox has a kernel of its own",
    "cap_add": "a sandbox has a kernel of its own, and root in it every capability",
    "cap_drop": "a sandbox has a kernel of its own",
    "privileged": "a sandbox has a kernel of its own, and root in it every right",
    "shm_size": "the memory of the machine is the limit",
    "oom_kill_disable": "the memory of the machine is the limit",
}
# Of whom members of a network reach by which name, and when, there is nothing to say.
_IMPLIED = {"expose"}
_CONDITIONS = {
    "service_started": "started", "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}  # fmt: skip
_PULLS = {"if_not_present": "missing", "missing": "missing", "always": "always", "never": "never"}


def is_compose(tree: Node) -> bool:
    """Whether a file is a compose file."""
    return tree.get("services") is not None and tree.get("sandboxes") is None


def as_sandboxfile(tree: Node, problems: Problems) -> Node:
    """The same fleet as a Sandboxfile; every value keeps its place."""
    found: dict[str, Node] = {}
    for key, node in tree.items():
        if key == "services":
            members = {
                name: _service(name, each, problems) if isinstance(each.value, dict) else each
                for name, each in node.items()
            }
            if isinstance(node.value, dict):
                found["sandboxes"] = Node(members, node.place, keys=node.keys)
            else:
                found["sandboxes"] = node
        elif key == "volumes":
            found["volumes"] = _volumes(node, problems)
        elif key == "name":
            found["name"] = node
        elif key == "networks":
            _declared(node, problems)
        elif key in ("secrets", "configs"):
            problems.warn(
                tree.key_place(key), f"{key} is left out: files are not put into sandboxes",
                "a Sandboxfile's secrets never enter the sandbox; or mount a file with volumes",
            )  # fmt: skip
        elif key != "version" and not key.startswith("x-"):
            problems.warn(tree.key_place(key), f"{key} is not known, and left out")
    return Node(found, tree.place, keys={**tree.keys, "sandboxes": tree.key_place("services")})


def _service(name: str, node: Node, problems: Problems) -> Node:
    found: dict[str, Node] = {}
    keys = dict(node.keys)

    def out(key: str, why: str, hint: str = "") -> None:
        problems.warn(node.key_place(key), f"{name}: {key} is left out: {why}", hint)

    for key, value in node.items():
        if key in _RENAMED:
            new = _RENAMED[key]
            keys[new] = keys[key]
            found[new] = value
            if new == "pull":
                found[new] = scalar(_PULLS.get(value.text, value.value), value.place)
            elif new == "stop_grace":
                found[new] = _duration(value)
            elif new == "cpus":
                found[new] = _processors(name, value, problems)
            if new == "pids" and isinstance(value.value, int):
                found[new] = scalar(max(value.value, 0), value.place)
        elif key in ("command", "entrypoint"):
            if value.value is not None:
                found[key] = _words(value)
        elif key == "env_file":
            found[key] = _env_files(value)
        elif key == "volumes":
            found[key] = _mounts(name, value, problems)
        elif key == "ports":
            found[key] = sequence([_port(each) for each in value.each()], value.place)
        elif key in _SAME:
            if value.value is not None:
                found[key] = value
        elif key == "build":
            found[key] = _build(value, out)
        elif key == "depends_on":
            found[key] = _depends(value, out)
        elif key == "healthcheck":
            if (check := _health(value, out)) is not None:
                found["health"] = check
                keys["health"] = keys[key]
        elif key == "network_mode":
            if value.value == "none":
                found["network"] = scalar("deny", value.place)
            elif value.value != "bridge":
                out(key, "a sandbox has a network of its own")
        elif key == "networks":
            found[key] = _networks(name, value, problems)
        elif key == "tmpfs":
            given = value.each() or [value]
            mounts = [_tmpfs(each) for each in given]
            before = found.get("volumes")
            found["volumes"] = sequence([*(before.each() if before else []), *mounts], value.place)
        elif key == "deploy":
            _deploy(value, found, out)
            if "cpus" in found:
                found["cpus"] = _processors(name, found["cpus"], problems)
        elif key in _IMPLIED:
            pass
        elif key in _MEANS_NOTHING:
            if value.value not in (False, [], None):
                out(key, _MEANS_NOTHING[key])
        elif not key.startswith("x-"):
            out(key, "a sandbox has nothing like it")
    if "networks" not in found and node.get("network_mode") is None:
        found["networks"] = sequence([scalar(DEFAULT_NETWORK, node.place)], node.place)
    # Containers run what their image says; a list of words is not given to a shell.
    if "entrypoint" not in found or "command" not in found:
        found["image_command"] = scalar(True, node.place)
    return Node(found, node.place, keys=keys)


def _networks(name: str, value: Node, problems: Problems) -> Node:
    """The names of networks, in either of the two forms."""
    if not isinstance(value.value, dict):
        return value
    names = []
    for network, each in value.items():
        names.append(scalar(network, value.key_place(network)))
        for key, _ in each.items() if isinstance(each.value, dict) else ():
            problems.warn(
                each.key_place(key),
                f"{name}: {key} of a network is left out: members are reached by their names",
            )
    return sequence(names, value.place)


def _declared(value: Node, problems: Problems) -> None:
    """Networks need no declaration; what one says besides its name is told."""
    for name, each in value.items() if isinstance(value.value, dict) else ():
        for key, _ in each.items() if isinstance(each.value, dict) else ():
            if key != "name":
                problems.warn(
                    each.key_place(key),
                    f"{key} of the network {name} is left out: a network is only who is in it",
                )


def _words(value: Node) -> Node:
    """A command as a list: a text is divided into words, no shell is asked."""
    if not isinstance(value.value, str):
        return value
    from sandlot.fleet.words import plain_words

    try:
        words = plain_words(value.value)
    except ValueError:
        words = value.value.split()
    return sequence([scalar(word, value.place) for word in words], value.place)


def _duration(value: Node) -> Node:
    """`1m30s` as seconds."""
    if not re.fullmatch(r"(\d+(\.\d+)?(h|m|s|ms|us))+", value.text):
        return value
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us)", value.text)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    return scalar(f"{seconds:g}", value.place)


def _env_files(value: Node) -> Node:
    """`{path: FILE}` as the file."""
    return sequence([each.get("path") or each for each in value.each() or [value]], value.place)


def _port(value: Node) -> Node:
    """Compose publishes on every address; here that has to be said, and is kept to this machine."""
    if not isinstance(value.value, dict):
        return value
    parts = [
        node.text for node in (value.get("host_ip"), value.get("published"), value.get("target"))
        if node is not None
    ]  # fmt: skip
    protocol = value.get("protocol")
    return scalar(":".join(parts) + (f"/{protocol.text}" if protocol else ""), value.place)


def _mounts(name: str, value: Node, problems: Problems) -> Node:
    found: list[Node] = []
    for each in value.each():
        if not isinstance(each.value, dict):
            found.append(each)
            continue
        values: dict[str, Node] = {}
        for key, node in each.items():
            if key in ("type", "source", "target"):
                values[key] = node
            elif key in ("read_only", "readonly"):
                values["readonly"] = node
            elif key == "tmpfs" and (size := node.get("size")):
                values["size"] = size
            elif key not in ("bind", "volume", "tmpfs", "consistency"):
                problems.warn(each.key_place(key), f"{name}: {key} of a volume is left out")
        found.append(Node(values, each.place, keys=each.keys))
    return sequence(found, value.place) if isinstance(value.value, list) else value


def _tmpfs(value: Node) -> Node:
    path, _, words = value.text.partition(":")
    values = {"type": scalar("tmpfs", value.place), "target": scalar(path, value.place)}
    for word in words.split(","):
        if word.startswith("size="):
            values["size"] = scalar(word.removeprefix("size="), value.place)
    return mapping(values, value.place)


def _build(value: Node, out: Callable[..., None]) -> Node:
    if not isinstance(value.value, dict):
        return value
    kept = {}
    for key, node in value.items():
        if key in ("context", "dockerfile", "args", "target", "labels"):
            kept[key] = node
        else:
            out("build", f"{key} is not known to builds here")
    return Node(kept, value.place, keys=value.keys)


def _depends(value: Node, out: Callable[..., None]) -> Node:
    if not isinstance(value.value, dict):
        return value
    found: dict[str, Node] = {}
    for name, each in value.items():
        condition = each.get("condition")
        values: dict[str, Node] = {}
        if condition is not None:
            values["condition"] = scalar(
                _CONDITIONS.get(condition.text, condition.value), condition.place
            )
        for key, node in each.items():
            harmless = (key == "required" and node.value is True) or (
                key == "restart" and node.value is False
            )
            if key != "condition" and not harmless:
                out("depends_on", f"{key} of {name} has no meaning here")
        found[name] = Node(values, each.place, keys=each.keys)
    return Node(found, value.place, keys=value.keys)


def _health(value: Node, out: Callable[..., None]) -> Node | None:
    off = value.get("disable")
    test = value.get("test")
    if (off is not None and off.value is True) or test is None:
        return None
    words = test.each()
    if words and words[0].value == "NONE":
        return None
    command = test
    if words and words[0].value == "CMD":
        command = sequence(words[1:], test.place)
    elif words and words[0].value == "CMD-SHELL":
        command = words[1] if len(words) > 1 else scalar("", test.place)
    values = {"command": command}
    for key, node in value.items():
        if key in ("interval", "timeout", "start_period"):
            values[key] = _duration(node)
        elif key == "retries":
            values[key] = node
        elif key not in ("test", "disable"):
            out("healthcheck", f"{key} is not known to health checks here")
    if "interval" not in values:
        values["interval"] = scalar("30s", value.place)
    return Node(values, value.place, keys=value.keys)


def _processors(name: str, value: Node, problems: Problems) -> Node:
    """A part of a processor becomes a whole one."""
    try:
        number = float(value.text)
    except ValueError:
        return value
    if not 0 < number < 1000 or number.is_integer():
        return value
    problems.warn(
        value.place, f"{name}: cpus {value.text} becomes {math.ceil(number)}",
        "a machine has whole processors",
    )  # fmt: skip
    return scalar(math.ceil(number), value.place)


def _deploy(value: Node, found: dict[str, Node], out: Callable[..., None]) -> None:
    for key, node in value.items():
        if key == "replicas":
            found["replicas"] = node
        elif key == "resources":
            for kind, inner in node.items():
                if kind != "limits":
                    out("deploy", f"{kind} of resources: a machine has what it is given")
                    continue
                for name, each in inner.items():
                    if name in ("memory", "pids", "cpus"):
                        found[name] = each
                    else:
                        out("deploy", f"{name} of resources is not known")
        else:
            out("deploy", f"{key} has no meaning on one machine")


def _volumes(value: Node, problems: Problems) -> Node:
    found: dict[str, Node] = {}
    for name, each in value.items():
        kept: dict[str, Node] = {}
        for key, node in each.items():
            if key in ("name", "external", "labels"):
                kept[key] = node
            elif not (key == "driver" and node.value == "local"):
                problems.warn(each.key_place(key), f"{key} of the volume {name} is left out")
        found[name] = Node(kept, each.place, keys=each.keys)
    return Node(found, value.place, keys=value.keys) if isinstance(value.value, dict) else value
