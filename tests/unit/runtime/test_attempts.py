"""What a guest that was lent a runtime tries, to have more of it than was granted; without machines.

Each attempt is a row of docs/security/runtime.md. Those with real guests are in
tests/vm/test_runtime_attempts.py.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError, GuestProtocolError
from sandlot.network.flow import Flow
from sandlot.network.policy import Network
from sandlot.network.router import ROUTER4
from sandlot.runtime.checking import Permit, Refusal, Share, permit
from sandlot.runtime.grant import MIB, RuntimeAccess
from sandlot.runtime.requests import Start, parse_request

GRANT = RuntimeAccess(
    3, images=["one", "two/base:1"], memory="1G", cpus=2, disk="1G", secrets=["K"], max_depth=2,
    network=Network(allow=["api.example.com:443"]),
)  # fmt: skip
TAKEN = [Share("taken", 1, 512 * MIB)]
"""So two more are left, of 512M together."""
ONE: dict[str, Any] = {"image": "one"}

# id: what is asked for. None of it is to be had.
STARTS: dict[str, dict[str, Any]] = {
    "name-again": {**ONE, "name": "taken"},
    "one-too-many-within": {**ONE, "runtime": {"max_sandboxes": 2}},
    "memory-of-others": {**ONE, "memory": "513M"},
    "memory-rounded-up": {**ONE, "memory": 512 * MIB + 1},
    "memory-terabytes": {**ONE, "memory": "9" * 30 + "T"},
    "memory-long-number": {**ONE, "memory": 10**4000},
    "memory-float": {**ONE, "memory": 1e300},
    "memory-infinite": {**ONE, "memory": float("inf")},
    "memory-no-number": {**ONE, "memory": float("nan")},
    "memory-negative": {**ONE, "memory": -(1 << 40)},
    "memory-zero": {**ONE, "memory": 0},
    "memory-true": {**ONE, "memory": True},
    "memory-exponent": {**ONE, "memory": "1e30"},
    "memory-hexadecimal": {**ONE, "memory": "0xffffffffff"},
    "memory-kelvin": {**ONE, "memory": "1\u212a"},
    "memory-other-digits": {**ONE, "memory": "\u0661\u0662\u0663T"},
    "memory-list": {**ONE, "memory": ["1G"]},
    "cpus-too-many": {**ONE, "cpus": 3},
    "cpus-text": {**ONE, "cpus": "1"},
    "cpus-float": {**ONE, "cpus": 2.5},
    "cpus-negative": {**ONE, "cpus": -1},
    "disk-too-large": {**ONE, "disk": "1025M"},
    "disk-too-small": {**ONE, "disk": "1M"},
    "disk-negative": {**ONE, "disk": -1},
    "image-another": {"image": "three"},
    "image-none": {},
    "image-empty": {"image": ""},
    "image-case": {"image": "ONE"},
    "image-blank": {"image": "one "},
    "image-tag": {"image": "one:latest"},
    "image-digest": {"image": "one@sha256:" + "0" * 64},
    "image-path": {"image": "./one"},
    "image-parent": {"image": "../images/one"},
    "image-registry": {"image": "registry.example:5000/one"},
    "image-wide-letters": {"image": "\uff4f\uff4e\uff45"},
    "image-zero-width": {"image": "one\u200b"},
    "image-cut": {"image": "two/base"},
    "image-nul": {"image": "one\0"},
    "image-list": {"image": ["one"]},
    "secret-another": {**ONE, "secrets": ["L"]},
    "secret-case": {**ONE, "secrets": ["k"]},
    "secret-star": {**ONE, "secrets": ["*"]},
    "secret-nested": {**ONE, "secrets": [["K"]]},
    "secret-with-value": {**ONE, "secrets": {"K": "mine"}},
    "secret-as-variable": {**ONE, "secrets": ["K"], "env": {"K": "mine"}},
    "name-parent": {**ONE, "name": ".."},
    "name-path": {**ONE, "name": "../victim"},
    "name-dot": {**ONE, "name": "fleet.member"},
    "name-hidden": {**ONE, "name": ".new-0123"},
    "name-line-end": {**ONE, "name": "a\n"},
    "name-escape": {**ONE, "name": "\x1b]0;owned\x07"},
    "name-letters": {**ONE, "name": "\u0430dmin"},
    "name-long": {**ONE, "name": "a" * 33},
    "env-equals": {**ONE, "env": {"A=B": "c"}},
    "env-no-name": {**ONE, "env": {"": "c"}},
    "env-nul": {**ONE, "env": {"A": "b\0c"}},
    "env-no-characters": {**ONE, "env": {"A": "\udcff"}},
    "env-number": {**ONE, "env": {"A": 1}},
    "env-many": {**ONE, "env": {f"A{n}": "" for n in range(513)}},
    "user-nul": {**ONE, "user": "root\0"},
    "workdir-long": {**ONE, "workdir": "/" * 5000},
    "command-nothing": {**ONE, "command": []},
    "command-text": {**ONE, "command": "id"},
    "field-labels": {**ONE, "labels": {"sandlot.fleet": "shop", "sandlot.fleet.member": "db"}},
    "field-ports": {**ONE, "ports": {"22": 22}},
    "field-volumes": {**ONE, "volumes": {"/host": "/"}},
    "field-detached": {**ONE, "detached": True},
    "field-lifetime": {**ONE, "lifetime": "detached"},
    "field-restart": {**ONE, "restart": "always"},
    "field-plugins": {**ONE, "plugins": []},
    "field-hooks": {**ONE, "hooks": {}},
    "field-hostname": {**ONE, "hostname": "victim"},
    "field-started-by": {**ONE, "started_by": ""},
    "field-caller": {**ONE, "caller_id": ""},
    "field-pids": {**ONE, "pids": 0},
    "field-inspect": {**ONE, "inspect": []},
    "field-dns": {**ONE, "dns": ["192.0.2.1"]},
    "field-upstream-ca": {**ONE, "upstream_ca": "/etc/shadow"},
    "field-pull": {**ONE, "pull": "always"},
    "network-peers": {**ONE, "network": {"peers": {"db": "shop-db"}}},
    "network-ceiling": {**ONE, "network": {"ceiling": None}},
    "network-default": {**ONE, "network": {"default": "all"}},
    "network-hidden-number": {**ONE, "network": {"hidden_names": 1}},
    "network-text": {**ONE, "network": "open"},
    "network-rules-text": {**ONE, "network": {"allow": "*"}},
    "depth-deeper": {**ONE, "runtime": {"max_depth": 2}},
    "depth-zero": {**ONE, "runtime": {"max_depth": 0}},
    "within-image": {**ONE, "runtime": {"images": ["three"]}},
    "within-secret": {**ONE, "runtime": {"secrets": ["K"]}},
    "within-lifetime": {**ONE, "runtime": {"lifetime": "detached"}},
    "within-disk": {**ONE, "runtime": {"disk": "1T"}},
    "within-memory": {**ONE, "memory": "256M", "runtime": {"memory": "512M"}},
    "within-hundreds": {**ONE, "runtime": {"max_sandboxes": 256}},
}


def outcome(fields: dict[str, Any]) -> object:
    """What becomes of a request to start: a permit, a refusal, or an error that blames the guest."""
    data = json.dumps({"version": 1, "op": "start", **fields}).encode()
    try:
        request = parse_request(data)
    except (ConfigError, GuestProtocolError) as error:
        return error
    assert isinstance(request, Start)
    return permit(request, GRANT, TAKEN, "chosen")


@pytest.mark.parametrize("attempt", STARTS)
def test_no_start_exceeds_the_grant(attempt: str) -> None:
    found = outcome(STARTS[attempt])
    assert isinstance(found, Refusal | ConfigError | GuestProtocolError), found


def test_what_is_left_of_the_grant_can_be_had() -> None:
    """So that none of the attempts fails for another reason."""
    found = outcome({**ONE, "name": "a", "memory": "512M", "cpus": 2, "disk": "1G"})
    assert isinstance(found, Permit)
    assert found.network == GRANT.network


WORDS = st.sampled_from(["one", "1G", "K", "\u212a", "1\u212a", "", "\0", "\udcff", "\x1b[2J"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "name", "image", "command", "memory", "cpus", "disk", "env", "workdir", "user", "network",
    "secrets", "runtime",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_any_value_in_any_field_is_understood_or_refused(fields: dict[str, Any]) -> None:
    found = outcome({**ONE, **fields})
    if isinstance(found, Permit):
        assert found.share.sandboxes <= 2 and found.share.memory <= 512 * MIB
        assert found.image in GRANT.images and set(found.secrets) <= {"K"}
        assert found.cpus <= 2 and found.disk <= 1 << 30
    else:
        assert isinstance(found, Refusal | ConfigError | GuestProtocolError)


# -- the network ---------------------------------------------------------------------------------

CEILING = Network(
    allow=["api.example.com:443", "10.1.2.0/24:5432"], deny=["10.1.2.9"], peers={"db": "shop-db"}
)
FORBIDDEN = [
    Flow("tcp", ip_address(address), port, name)
    for address, port, name in [
        ("93.184.216.34", 443, None), ("93.184.216.34", 443, "evil.example"),
        ("93.184.216.34", 80, "api.example.com"), ("93.184.216.34", 443, "x.api.example.com"),
        ("10.1.2.9", 5432, None), ("10.1.2.3", 22, None), ("10.1.3.3", 5432, None),
        ("10.1.2.9", 443, "api.example.com"), ("169.254.169.254", 80, None),
        ("127.0.0.1", 22, None), (str(ROUTER4), 22, None), ("::ffff:10.1.2.9", 5432, None),
        ("64:ff9b::a01:209", 5432, None), ("10.231.128.1", 80, None), ("fd00::5", 80, None),
    ]
]  # fmt: skip
REACHES: dict[str, dict[str, Any]] = {
    "everything": {"allow": ["*"]},
    "open": {"default": "open"},
    "public": {"default": "public"},
    "whole-families": {"allow": ["0.0.0.0/0", "::/0"]},
    "more-specific": {"allow": ["10.1.2.9:5432", "10.1.2.9/32"]},
    "metadata": {"allow": ["169.254.169.254"]},
    "host": {"allow": ["host", "host:22"]},
    "router": {"allow": [str(ROUTER4)]},
    "loopback": {"allow": ["127.0.0.1", "[::1]"]},
    "suffix": {"allow": ["*.example.com", "*.evil.example", "evil.example"]},
    "every-port": {"allow": ["api.example.com", "api.example.com:1-65535"]},
    "mapped": {"allow": ["::ffff:10.1.2.9", "64:ff9b::a01:209"]},
    "range-of-peers": {"allow": ["10.231.128.0/17", "db"]},
    "unique-local": {"allow": ["fc00::/7"]},
}


@pytest.mark.parametrize("attempt", REACHES)
def test_no_policy_reaches_more_than_the_grants(attempt: str) -> None:
    grant = RuntimeAccess(9, images=["one"], memory="4G", max_depth=3, network=CEILING)
    for _ in range(3):  # also what is passed on, and passed on again
        asked = {"image": "one", "network": REACHES[attempt], "runtime": {
            "max_depth": max(1, grant.max_depth - 1), "network": REACHES[attempt],
            "max_sandboxes": grant.max_sandboxes - 1, "memory": grant.memory - 128 * MIB,
        }, "memory": "128M"}  # fmt: skip
        if grant.max_depth == 1:
            del asked["runtime"]
        request = parse_request(json.dumps({"version": 1, "op": "start", **asked}).encode())
        assert isinstance(request, Start)
        given_ = permit(request, grant, [], "n")
        assert isinstance(given_, Permit), given_
        # As it is written down, and read by who starts the machine.
        policy = Network.from_json(given_.network.to_json()).compile([ROUTER4])
        for flow in FORBIDDEN:
            assert not policy.decide(flow).allowed, flow
        assert not policy.may_resolve("evil.example").allowed
        assert not given_.network.peers and not given_.network.hidden_names
        if given_.runtime is None:
            return
        grant = RuntimeAccess.from_json(given_.runtime.to_json())
    raise AssertionError("deeper than was granted")
