"""What a saved sandbox may bring along from another machine: what it is, and nothing of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandlot.engine.config import DEVICE_SIZE, MIB
from sandlot.errors import ConfigError, SnapshotDamaged
from sandlot.sandbox.options import LARGEST_MEMORY, check_env
from sandlot.sandbox.policy import RestartPolicy, check_policy
from sandlot.sandbox.sizes import check_hostname, check_name
from sandlot.snapshot.checking import typed
from sandlot.state.records import SandboxRecord

SHORTEST_PLACEHOLDER = 16


def without_host(source: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a sandbox without what its host gave it: sources of secrets, name servers, the
    file of certificates, addresses of published ports, plugins."""
    return {
        **source, "upstream_ca": "", "dns": [], "snapshot": "",
        # Names of programs to run on the host.
        "plugins": [],
        "secrets": {
            name: {**secret, "source": {"given": "value"}, "refresh": None}
            for name, secret in source.get("secrets", {}).items()
        },
        "ports": [
            {**port, "address": "127.0.0.1", "host_port": 0} for port in source.get("ports", [])
        ],
        # Folders of a host are nothing that another one may open.
        "volumes": [
            {"path": each["path"], "kind": "given", "what": str(each.get("what", ""))[:80]}
            for each in source.get("volumes", [])
        ],
    }  # fmt: skip


def checked_source(data: Mapping[str, Any]) -> tuple[SandboxRecord, list[str]]:
    """The record of a saved sandbox from elsewhere, and the rules that its policy has no more.

    A policy that somebody else wrote opens no private network of this host, and not the host.

    Raises:
        SnapshotDamaged: it says what no sandbox can be.
    """
    try:
        record = typed(SandboxRecord, without_host(data), "the sandbox's record")
        fields, dropped = _checked(record)
    except (ConfigError, AttributeError, TypeError, KeyError, ValueError) as error:
        message = error.message if isinstance(error, ConfigError) else str(error)
        raise SnapshotDamaged(f"the sandbox's record says what cannot be: {message}") from None
    import dataclasses

    return dataclasses.replace(record, **fields), dropped


def _checked(record: SandboxRecord) -> tuple[dict[str, Any], list[str]]:
    from sandlot.network.inspected import inspected_rules
    from sandlot.network.published import parse_ports
    from sandlot.secrets import Secret
    from sandlot.volume.declared import checked_path

    check_name(record.name)
    check_hostname(record.hostname)
    check_env(record.env)
    RestartPolicy.parse(record.restart)
    limits = check_policy(
        pids=record.pids, idle_timeout=record.idle_timeout or None,
        max_duration=record.max_duration or None, stop_grace=record.stop_grace or 0,
        stop_signal=record.stop_signal, labels=record.labels, idle_action=record.idle_action,
    )  # fmt: skip
    del limits["restart"]
    for what, size, most in (
        ("memory", record.memory, LARGEST_MEMORY), ("disk", record.disk, DEVICE_SIZE)
    ):  # fmt: skip
        if not 0 < size <= most or size % MIB:
            raise ValueError(f"{what} of {size} bytes")
    if not 1 <= record.cpus <= 64 or record.connections < 0 or record.bandwidth < 0:
        raise ValueError("a number of processors, connections or bytes that cannot be")
    for name, secret in record.secrets.items():
        Secret.from_record(secret)
        # A short one would be found everywhere, and its value put there.
        if len(record.placeholders.get(name, "")) < SHORTEST_PLACEHOLDER:
            raise ValueError(f"secret {name[:40]} has no placeholder, or too short a one")
    if record.placeholders.keys() != record.secrets.keys():
        raise ValueError("placeholders of no secret")
    ports = [
        port.to_json() for each in record.ports
        for port in parse_ports(f"{int(each['port'])}/{each['protocol']}")
    ]  # fmt: skip
    for each in record.volumes:
        checked_path(each["path"])
    policy, dropped = _narrowed(record.network)
    inspect = [str(rule) for rule in inspected_rules(record.inspect)]
    own = {
        "ports": ports, "network": policy, "inspect": inspect, "runtime": {}, "started_by": "",
        "read_only": False,
    }  # fmt: skip
    return {**limits, **own}, dropped


def _narrowed(stored: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A policy without what opens more than the public internet, and the rules left out."""
    from sandlot.network.addresses import SPECIAL
    from sandlot.network.policy import Network
    from sandlot.network.rules import Target

    if not stored:
        return {}, []
    network = Network.from_json(stored)
    dropped = []
    for verb, rule in network.rules:
        inner = rule.network
        special = inner is not None and any(
            inner.version == each.network.version and inner.overlaps(each.network)
            for each in SPECIAL
        )
        if verb == "allow" and (rule.target is Target.HOST or special):
            dropped.append(str(rule))
    dropped += [f"peer {name}" for name in network.peers]
    if network.default == "open":
        dropped.append("open")
    narrowed = Network(
        [each for each in network.allow if each not in dropped], network.deny,
        "public" if network.default == "open" else network.default,
        hidden_names=network.hidden_names, ceiling=network.ceiling,
    )  # fmt: skip
    return narrowed.to_json(), dropped
