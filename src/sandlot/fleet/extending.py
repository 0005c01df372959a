"""`extends`: a member that begins with what another one says. Pure, on trees."""

from __future__ import annotations

from sandlot.fleet.document import Node, mapping, scalar, sequence

_NAMED = ("env", "labels", "args")
_JOINED = ("ports", "volumes", "dns", "env_file", "inspect", "profiles")
_BY_NAME = ("depends_on", "secrets")


def merged(base: Node, over: Node, name: str = "") -> Node:
    """What `over` says, and what only `base` says.

    Mappings are merged, lists of ports, volumes and the like joined; of anything else that both
    say, `over` counts.
    """
    if name in _NAMED:
        base, over = _named(base), _named(over)
    elif name in _BY_NAME:
        base, over = _by_name(base), _by_name(over)
    elif name in _JOINED:
        return _joined(base, over, name)
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        values = dict(base.value)
        keys = {**base.keys, **over.keys}
        for key, node in over.value.items():
            values[key] = merged(values[key], node, key) if key in values else node
        return Node(values, over.place, keys=keys)
    return over


def _named(node: Node) -> Node:
    """`[A=1]` as `{A: 1}`."""
    if not isinstance(node.value, list):
        return node
    found: dict[str, Node] = {}
    for each in node.value:
        if not isinstance(each.value, str):
            return node
        key, equals, text = each.text.partition("=")
        found[key] = scalar(text if equals else None, each.place)
    return mapping(found, node.place)


def _by_name(node: Node) -> Node:
    """`[a, b]` as `{a: {}, b: {}}`."""
    if not isinstance(node.value, list):
        return node
    found: dict[str, Node] = {}
    for each in node.value:
        if isinstance(each.value, str):
            key, at, hosts = each.text.partition("@")
            inner = {"hosts": scalar(hosts, each.place)} if at else {}
            found[key] = mapping(inner, each.place)
        elif isinstance(each.value, dict):
            found |= each.value
        else:
            return node
    return mapping(found, node.place)


def _joined(base: Node, over: Node, name: str) -> Node:
    both = [*(base.each() or [base]), *(over.each() or [over])]
    found: dict[str, Node] = {}
    for each in both:
        found[_target(each) if name == "volumes" else repr(each.plain())] = each
    return sequence(list(found.values()), over.place)


def _target(node: Node) -> str:
    """The path at which a volume is mounted."""
    if isinstance(node.value, dict):
        return str(node.value["target"].value) if "target" in node.value else repr(node.plain())
    parts = str(node.value).split(":")
    return parts[0] if len(parts) == 1 else parts[1]
