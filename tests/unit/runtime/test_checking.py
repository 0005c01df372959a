"""Nothing that a guest is given exceeds what its owner granted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot import Network
from sandlot.network.flow import Flow
from sandlot.runtime.checking import Permit, Refusal, Share, permit
from sandlot.runtime.grant import MIB, RuntimeAccess
from sandlot.runtime.requests import Start, Wanted

NAMES = ["a.example", "api.a.example", "b.example", "x.b.example"]
ADDRESSES = ["1.2.3.4", "10.1.2.3", "10.1.9.9", "169.254.169.254", "2001:db8::1"]
RULES = [
    *NAMES, "*.a.example", "*.b.example:443", "10.0.0.0/8", "10.1.0.0/16:80-443", "10.1.2.3", "*",
    "1.2.3.4/tcp", "*:443", "host",
]  # fmt: skip
IMAGES, SECRETS = ["one", "two", "three"], ["K", "L", "M"]
networks = st.builds(
    Network, st.none() | st.lists(st.sampled_from(RULES), max_size=4),
    st.lists(st.sampled_from(RULES), max_size=3),
    st.sampled_from([None, "deny", "public", "open"]), hidden_names=st.booleans(),
)  # fmt: skip
flows = st.builds(
    Flow, st.sampled_from(["tcp", "udp"]), st.sampled_from([ip_address(a) for a in ADDRESSES]),
    st.sampled_from([22, 80, 443]), st.none() | st.sampled_from(NAMES),
)  # fmt: skip
sizes = st.sampled_from([1, 64, 100, 128, 200, 256, 512, 700, 1024, 4096]).map(lambda n: n * MIB)
grants = st.builds(
    RuntimeAccess, st.integers(1, 5), images=st.lists(st.sampled_from(IMAGES)),
    memory=sizes.filter(lambda n: n >= 128 * MIB), cpus=st.integers(1, 4), disk=sizes,
    network=st.none() | networks, secrets=st.lists(st.sampled_from(SECRETS)),
    max_depth=st.integers(1, 3), lifetime=st.sampled_from(["owner", "detached"]),
)  # fmt: skip
chosen_names = st.lists(st.sampled_from(SECRETS), unique=True).map(tuple)
wanted = st.builds(
    Wanted, max_sandboxes=st.integers(1, 5), memory=st.none() | sizes,
    images=st.none() | st.lists(st.sampled_from(IMAGES), unique=True).map(tuple),
    network=st.none() | networks, secrets=st.none() | chosen_names, max_depth=st.integers(1, 3),
)  # fmt: skip
starts = st.builds(
    Start, name=st.none() | st.sampled_from(["a", "b", "c", "d"]),
    image=st.none() | st.sampled_from(IMAGES), memory=st.none() | sizes, cpus=st.integers(1, 6),
    disk=st.none() | sizes, network=st.none() | networks, secrets=chosen_names,
    env=st.dictionaries(st.sampled_from(["K", "E"]), st.text(max_size=3)),
    runtime=st.none() | wanted,
)  # fmt: skip


@given(grants, st.lists(starts, max_size=8), flows)
def test_nothing_that_is_permitted_exceeds_the_grant(
    grant: RuntimeAccess, asked: list[Start], flow: Flow
) -> None:
    shares: list[Share] = []
    started = 0
    for number, each in enumerate(asked):
        outcome = permit(each, grant, shares, f"chosen-{number}")
        if isinstance(outcome, Refusal):
            assert outcome.reason
            continue
        assert outcome.name not in [share.name for share in shares]
        shares.append(outcome.share)
        started += 1 + (outcome.runtime.max_sandboxes if outcome.runtime else 0)
        _stays_below(outcome, grant, flow)
    assert started == sum(share.sandboxes for share in shares) <= grant.max_sandboxes
    assert sum(share.memory for share in shares) <= grant.memory


def _stays_below(given_: Permit, grant: RuntimeAccess, flow: Flow) -> None:
    assert given_.image in grant.images
    assert given_.cpus <= grant.cpus
    assert given_.disk <= grant.disk
    assert set(given_.secrets) <= set(grant.secrets)
    assert not set(given_.secrets) & set(given_.env)
    below = given_.runtime.memory if given_.runtime else 0
    assert given_.share.memory == given_.memory + below
    assert given_.memory.bit_count() == 1
    _reaches_no_more(given_.network, grant.network, flow)
    if (own := given_.runtime) is not None:
        assert own.max_depth < grant.max_depth
        assert set(own.images) <= set(grant.images)
        assert set(own.secrets) <= set(given_.secrets)
        assert (own.cpus, own.disk, own.lifetime) == (grant.cpus, grant.disk, "owner")
        _reaches_no_more(own.network, grant.network, flow)


def _reaches_no_more(network: Network, ceiling: Network, flow: Flow) -> None:
    # As it is written down, and read again by who starts the machine.
    policy = Network.from_json(network.to_json()).compile([ip_address("10.1.2.3")])
    above = ceiling.compile([ip_address("10.1.2.3")])
    if policy.decide(flow).allowed:
        assert above.decide(flow).allowed
    if flow.name is not None:
        if policy.decide_name(flow.name, flow.port, flow.protocol).allowed:
            assert above.decide_name(flow.name, flow.port, flow.protocol).allowed
        if policy.may_resolve(flow.name).allowed:
            assert above.may_resolve(flow.name).allowed
        if policy.denies_name(flow.name) is None:
            assert above.denies_name(flow.name) is None
    if policy.may_answer(flow.address).allowed:
        assert above.may_answer(flow.address).allowed
    assert ceiling.hidden_names or not network.hidden_names


GRANT = RuntimeAccess(2, images=["one"], memory="1G", secrets=["K"])


def test_what_is_left_out_is_chosen() -> None:
    outcome = permit(Start(), GRANT, [], "readable-name")
    assert isinstance(outcome, Permit)
    assert (outcome.name, outcome.image, outcome.memory) == ("readable-name", "one", 512 * MIB)
    assert outcome.network == Network.deny_all()
    assert outcome.runtime is None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Start(image="two"), "image 'two' was not granted"),
        (Start(secrets=("L",)), "the secret 'L' was not granted"),
        (Start(secrets=("K",), env={"K": "x"}), "a secret and a variable"),
        (Start(cpus=2), "at most 1 were granted"),
        (Start(disk=1 << 40), "were granted"),
        (Start(memory=2 << 30), "1024M were granted for all"),
        (Start(memory=700 * MIB, name="b"), "512M of 1024M are left"),
        (Start(name="a"), "there is a sandbox 'a' already"),
        (Start(runtime=Wanted()), "may not start sandboxes themselves"),
    ],
)
def test_a_refusal_says_why(asked: Start, reason: str) -> None:
    outcome = permit(asked, GRANT, [Share("a", 1, 512 * MIB)], "n")
    assert isinstance(outcome, Refusal)
    assert reason in outcome.reason


def test_the_number_is_counted_with_what_peers_may_start() -> None:
    grant = RuntimeAccess(3, images=["one"], memory="4G", max_depth=2)
    first = permit(Start(runtime=Wanted(max_sandboxes=1)), grant, [], "a")
    assert isinstance(first, Permit)
    assert first.share == Share("a", 2, 512 * MIB + 128 * MIB)
    assert isinstance(permit(Start(), grant, [first.share], "b"), Permit)
    again = permit(Start(runtime=Wanted(max_sandboxes=1)), grant, [first.share], "b")
    assert isinstance(again, Refusal)
    assert "2 of 3 sandboxes are taken, and this one would take 2" in again.reason
