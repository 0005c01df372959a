"""What may be reached."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.network.addresses import SPECIAL, Kind
from sandlot.network.flow import Flow
from sandlot.network.policy import Network, Policy

PUBLIC = "93.184.216.34"
HOST = [ip_address(each) for each in ("192.168.7.5", "172.17.0.1", "2a01:4f8::5", "198.18.0.9")]


def flow(text: str, name: str | None = None) -> Flow:
    """`93.184.216.34:443`, `[::1]:53/udp`."""
    where, _, protocol = text.partition("/")
    address, _, port = where.rpartition(":")
    return Flow(protocol or "tcp", ip_address(address.strip("[]")), int(port), name)  # type: ignore[arg-type]


def allowed(network: Network, where: str, name: str | None = None) -> bool:
    return network.compile(HOST).decide(flow(where, name)).allowed


def test_with_no_policy_the_public_internet_is_reached_and_nothing_else() -> None:
    for network in (Network(), Network.public()):
        assert allowed(network, f"{PUBLIC}:443")
        assert allowed(network, f"{PUBLIC}:443", "example.com")
        assert allowed(network, "[2606:4700:4700::1111]:53/udp")
        assert allowed(network, "[64:ff9b::8.8.8.8]:53/udp")
        for where in ("10.0.0.1:80", "127.0.0.1:22", "169.254.169.254:80", "[fe80::1]:80"):
            assert not allowed(network, where)
            assert not allowed(network, where, "example.com")


def test_deny_all_is_an_air_gap() -> None:
    for network in (Network.deny_all(), Network(allow=[])):
        assert not allowed(network, f"{PUBLIC}:443")
        assert not allowed(network, f"{PUBLIC}:443", "example.com")
        assert not network.compile().may_resolve("example.com").allowed


def test_open_opens_private_networks_but_not_the_host_nor_the_cloud() -> None:
    network = Network.open()
    for where in (f"{PUBLIC}:1", "10.0.0.1:80", "192.168.7.6:1", "100.64.0.1:9", "[fd00::1]:80"):
        assert allowed(network, where)
    for where in (
        "192.168.7.5:80", "172.17.0.1:80", "127.0.0.1:80", "[::1]:80", "169.254.169.254:80",
        "100.100.100.200:80", "[fd00:ec2::254]:80", "224.0.0.1:80", "[fe80::1]:80", "0.0.0.0:80",
    ):  # fmt: skip
        assert not allowed(network, where), where


def test_allow_means_deny_all_else() -> None:
    network = Network(allow=["api.example.com"])
    assert allowed(network, f"{PUBLIC}:443", "api.example.com")
    assert not allowed(network, f"{PUBLIC}:443", "example.com")
    assert not allowed(network, f"{PUBLIC}:443", "x.api.example.com")
    assert not allowed(network, f"{PUBLIC}:443")


def test_the_product_page_s_policy() -> None:
    network = Network(allow=["api.openai.com", "*.packages.example:443"], deny=["10.0.0.0/8"])
    assert allowed(network, f"{PUBLIC}:80", "api.openai.com")
    assert allowed(network, f"{PUBLIC}:443", "files.packages.example")
    assert not allowed(network, f"{PUBLIC}:80", "files.packages.example")
    assert not allowed(network, f"{PUBLIC}:443", "packages.example")
    assert not allowed(network, "10.0.0.1:443", "files.packages.example")


@pytest.mark.parametrize(
    "where",
    [
        "10.0.0.1:443", "172.16.0.1:443", "192.168.0.1:443", "100.64.0.1:443", "127.0.0.1:443",
        "169.254.1.1:443", "169.254.169.254:443", "168.63.129.16:443", "224.0.0.1:443",
        "255.255.255.255:443", "0.0.0.0:443", "240.0.0.1:443", "192.168.7.5:443", "[::1]:443",
        "[::]:443", "[fe80::1]:443", "[fc00::1]:443", "[ff02::1]:443", "[2a01:4f8::5]:443",
        "[::ffff:10.0.0.1]:443", "[::ffff:192.168.7.5]:443", "[64:ff9b::10.0.0.1]:443",
        "[64:ff9b::192.168.7.5]:443", "[2002:7f00:1::]:443", "[2002:c0a8:705::1]:443",
        "[2001:0:808:808::f5ff:fffe]:443", "[64:ff9b:1::7f00:1]:443",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "network",
    [
        Network(),
        Network(allow=["*.example.com"]),
        Network(allow=["a.example.com:443"]),
        Network(allow=["*"]),
        Network(allow=["0.0.0.0/0", "::/0", "*:443"]),
        Network(allow=["*.example.com"], default="public"),
    ],
    ids=lambda network: f"{network.allow}",
)
def test_no_name_and_no_star_opens_what_is_not_public(network: Network, where: str) -> None:
    assert not allowed(network, where, "a.example.com")
    decision = network.compile(HOST).decide(flow(where))
    assert not decision.allowed
    assert decision.rule.startswith("built-in ")
    assert decision.hint.startswith("allow ")


def test_an_address_rule_opens_a_private_address_for_any_name_that_is_allowed() -> None:
    network = Network(allow=["db.corp", "10.0.0.0/8:5432"])
    assert allowed(network, "10.1.2.3:5432", "db.corp")
    assert allowed(network, "10.1.2.3:5432")
    assert not allowed(network, "10.1.2.3:22", "db.corp")
    assert network.compile().may_answer(ip_address("10.1.2.3")).allowed
    assert not network.compile().may_answer(ip_address("192.168.1.1")).allowed


def test_what_is_named_has_to_be_named_as_closely_as_it_is_refused() -> None:
    assert not allowed(Network(allow=["169.254.0.0/16"]), "169.254.169.254:80")
    assert allowed(Network(allow=["169.254.169.254"]), "169.254.169.254:80")
    assert not allowed(Network(allow=["192.168.0.0/16"]), "192.168.7.5:80")
    assert allowed(Network(allow=["192.168.0.0/16"]), "192.168.7.6:80")
    assert allowed(Network(allow=["192.168.7.5:80"]), "192.168.7.5:80")
    assert not allowed(Network(allow=["0.0.0.0/1"]), "10.0.0.1:80")


def test_host_names_every_address_of_the_host() -> None:
    network = Network(allow=["host:8080"])
    for address in HOST:
        spelled = f"[{address}]" if address.version == 6 else str(address)
        assert allowed(network, f"{spelled}:8080")
        assert not allowed(network, f"{spelled}:8081")
    assert not allowed(network, "192.168.7.6:8080")
    assert not allowed(network, "127.0.0.1:8080")
    decision = Network().compile(HOST).decide(flow("192.168.7.5:8080/udp"))
    assert decision.hint == "allow host:8080/udp"
    assert not allowed(Network(allow=["host"], deny=["host:22"]), "192.168.7.5:22")


def test_the_most_specific_rule_counts() -> None:
    network = Network(
        allow=["*.example.com", "bad.evil.example.com", "10.0.0.0/8", "10.1.1.0/24"],
        deny=["*.evil.example.com", "shop.example.com:22", "10.1.0.0/16", "10.2.0.0/16:22"],
    )
    assert allowed(network, f"{PUBLIC}:22", "www.example.com")
    assert not allowed(network, f"{PUBLIC}:22", "shop.example.com")
    assert allowed(network, f"{PUBLIC}:23", "shop.example.com")
    assert not allowed(network, f"{PUBLIC}:23", "x.evil.example.com")
    assert allowed(network, f"{PUBLIC}:23", "bad.evil.example.com")
    assert allowed(network, "10.3.0.1:1")
    assert not allowed(network, "10.1.0.1:1")
    assert allowed(network, "10.1.1.1:1")
    assert not allowed(network, "10.2.0.1:22") and allowed(network, "10.2.0.1:23")


def test_between_equals_and_between_name_and_address_deny_wins() -> None:
    assert not allowed(Network(["a.com"], ["a.com"]), f"{PUBLIC}:1", "a.com")
    assert not allowed(Network(["a.com"], ["93.184.0.0/16"]), f"{PUBLIC}:1", "a.com")
    assert not allowed(Network(["93.184.0.0/16"], ["a.com"]), f"{PUBLIC}:1", "a.com")
    assert allowed(Network(["93.184.0.0/16"], ["a.com"]), f"{PUBLIC}:1")


def test_a_star_speaks_last() -> None:
    network = Network(allow=["a.com", "1.2.3.4", "*:443"], deny=["*", "b.com:443"])
    assert allowed(network, f"{PUBLIC}:80", "a.com")
    assert allowed(network, "1.2.3.4:80")
    assert allowed(network, f"{PUBLIC}:443", "c.com")
    assert not allowed(network, f"{PUBLIC}:80", "c.com")
    assert not allowed(network, f"{PUBLIC}:443", "b.com")
    only4 = Network(allow=["0.0.0.0/0"])
    assert allowed(only4, f"{PUBLIC}:80") and not allowed(only4, "[2606:4700::1]:80")


def test_protocols() -> None:
    network = Network(allow=["a.com:443/tcp", "1.1.1.1:53/udp"])
    assert allowed(network, f"{PUBLIC}:443", "a.com")
    assert not allowed(network, f"{PUBLIC}:443/udp", "a.com")
    assert allowed(network, "1.1.1.1:53/udp") and not allowed(network, "1.1.1.1:53")


def test_a_flow_by_one_of_several_names() -> None:
    policy = Network(allow=["a.com:443", "b.com:80"]).compile()
    address = ip_address(PUBLIC)
    chosen, decision = policy.choose("tcp", address, 80, ["a.com", "b.com"])
    assert (chosen.name, decision.allowed) == ("b.com", True)
    chosen, decision = policy.choose("tcp", address, 22, ["a.com", "b.com"])
    assert (chosen.name, decision.allowed) == ("a.com", False)
    chosen, decision = policy.choose("tcp", address, 22, [])
    assert (chosen.name, decision.allowed) == (None, False)


def test_names_that_may_be_looked_up() -> None:
    policy = Network(
        allow=["a.com:443", "*.b.com:53/udp", "c.b.com", "10.0.0.0/8"],
        deny=["a.com:1-442", "x.b.com", "*.c.b.com", "y.b.com:53"],
    ).compile()
    assert policy.may_resolve("a.com").allowed
    assert policy.may_resolve("z.b.com").allowed
    assert policy.may_resolve("c.b.com").allowed
    for name in ("x.b.com", "d.c.b.com", "b.com", "com", "other.org"):
        assert not policy.may_resolve(name).allowed, name
    assert not policy.may_resolve("y.b.com").allowed  # its one port is denied
    assert policy.may_resolve("other.org").hint == "allow other.org"
    assert not Network(deny=["*"]).compile().may_resolve("a.com").allowed
    assert Network(deny=["*:80"]).compile().may_resolve("a.com").allowed
    assert Network(deny=["0.0.0.0/0"]).compile().may_resolve("a.com").allowed
    assert Network(allow=["*:443"]).compile().may_resolve("a.com").allowed


@pytest.mark.parametrize(
    "name",
    ["0x7f.1", "127.1", "2130706433", "017700000001", "127.0.0.1", "a.0x7f000001", "1.2.3.4.5"],
)
@pytest.mark.parametrize("network", [Network(), Network.open(), Network(allow=["*"])])
def test_addresses_that_pose_as_names_are_never_looked_up(network: Network, name: str) -> None:
    assert not network.compile().may_resolve(name).allowed


def test_names_that_deny_rules_cover() -> None:
    policy = Network(deny=["bad.com", "*.worse.com", "some.com:80"]).compile()
    denied = policy.denies_name("bad.com")
    assert denied is not None and denied.rule == "deny bad.com"
    assert policy.denies_name("x.worse.com") is not None
    assert policy.denies_name("some.com") is None
    assert policy.denies_name("good.com") is None
    assert Network(allow=["a.com"]).compile().denies_name("good.com") is None


def test_answers_that_are_refused() -> None:
    policy = Network(deny=["93.184.0.0/16"]).compile(HOST)
    assert policy.may_answer(ip_address(PUBLIC)).allowed  # the flow is refused, with its rule
    for text in ("10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "192.168.7.5", "2a01:4f8::5"):
        refused = policy.may_answer(ip_address(text))
        assert not refused.allowed and refused.hint.startswith("allow ")
    assert Network(["host:80"]).compile(HOST).may_answer(HOST[0]).allowed


def test_decisions_say_rule_reason_and_remedy() -> None:
    policy = Network(allow=["*.example.com:443"], deny=["bad.example.com"]).compile(HOST)
    yes = policy.decide(flow(f"{PUBLIC}:443", "a.example.com"))
    assert (yes.rule, yes.hint) == ("allow *.example.com:443", "")
    no = policy.decide(flow(f"{PUBLIC}:80", "a.example.com"))
    assert (no.rule, no.hint) == ("default deny", "allow a.example.com:80")
    assert "a.example.com:80" in no.reason
    denied = policy.decide(flow(f"{PUBLIC}:443", "bad.example.com"))
    assert denied.rule == "deny bad.example.com" and "deny bad.example.com" in denied.hint
    private = policy.decide(flow("10.0.0.1:443", "a.example.com"))
    assert (
        private.rule == "built-in 10.0.0.0/8" and "10.0.0.1 is a private address" in private.reason
    )
    inside = policy.decide(flow("[64:ff9b::a00:1]:443"))
    assert "10.0.0.1, which 64:ff9b::a00:1 holds, is a private address" in inside.reason
    assert not policy.decide(flow("8.8.8.8:0")).allowed


ADDRESS = (
    st.integers(0, 2**32 - 1).map(IPv4Address)
    | st.integers(0, 2**128 - 1).map(IPv6Address)
    | st.sampled_from([r.network.network_address for r in SPECIAL] + HOST)
)
FLOW = st.builds(
    Flow,
    st.sampled_from(["tcp", "udp"]), ADDRESS, st.integers(1, 65535),
    st.none() | st.sampled_from(["a.com", "b.a.com", "c.org"]),
)  # fmt: skip
RULE = st.sampled_from(
    [
        "a.com",
        "*.a.com:1-1024",
        "*",
        "*:443",
        "10.0.0.0/8",
        "0.0.0.0/1",
        "host:80",
        "fe80::/10",
        "::/1",
    ]
)
POLICY = st.builds(
    Network,
    st.none() | st.lists(RULE, max_size=3), st.lists(RULE, max_size=2),
    st.sampled_from([None, "deny", "public", "open"]),
)  # fmt: skip


@given(POLICY, FLOW)
def test_the_hint_is_the_rule_that_opens_it(network: Network, one: Flow) -> None:
    decision = network.compile(HOST).decide(one)
    assert decision.rule and decision.reason
    for _ in range(4):  # an address inside of another has to be opened too
        if decision.allowed or not decision.hint.startswith("allow "):
            break
        allow = [*network.allow, decision.hint.removeprefix("allow ")]
        network = Network(allow, network.deny, network.default)
        decision = network.compile(HOST).decide(one)
    assert decision.allowed or "deny" in decision.hint


@given(POLICY, FLOW)
def test_a_name_that_may_not_be_looked_up_opens_nothing(network: Network, one: Flow) -> None:
    """Whatever is allowed by a name can be looked up: the two questions agree."""
    policy = network.compile(HOST)
    if one.name and policy.decide_name(one.name, one.port, one.protocol).allowed:
        assert policy.may_resolve(one.name).allowed


@given(POLICY)
def test_json_gives_the_same_policy(network: Network) -> None:
    again = Network.from_json(json.loads(json.dumps(network.to_json())))
    assert again == network and hash(again) == hash(network)


@pytest.mark.parametrize(
    "data",
    [
        None, [], "x", {}, {"default": "deny"}, {"default": "deny", "allow": [], "deny": [], "x": 1},
        {"default": None, "allow": [], "deny": []}, {"default": "all", "allow": [], "deny": []},
        {"default": "deny", "allow": "a.com", "deny": []},
        {"default": "deny", "allow": [], "deny": [], "hidden_names": 1},
        {"default": "deny", "allow": [1], "deny": []}, {"default": "deny", "allow": 5, "deny": []},
    ],
)  # fmt: skip
def test_other_json_is_refused(data) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        Network.from_json(data)
    assert caught.value.hint


def test_the_json_of_earlier_versions_hides_no_names() -> None:
    data = {"default": "deny", "allow": ["a.com"], "deny": []}
    assert Network.from_json(data) == Network(["a.com"])
    assert Network.from_json({**data, "hidden_names": True}).hidden_names


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="not a list of rules"):
        Network(allow="a.com")
    with pytest.raises(ConfigError, match="'deny-all' is not known"):
        Network(default="deny-all")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'https://a\.com' is a URL"):
        Network(deny=["https://a.com"])


def test_a_policy_is_shown_as_it_can_be_written() -> None:
    network = Network(allow=["A.com"], deny=["10.0.0.0/8"])
    assert (
        repr(network)
        == "Network(allow=('a.com',), deny=('10.0.0.0/8',), default='deny', hidden_names=False)"
    )
    assert isinstance(network.compile(), Policy)


def test_every_special_range_is_refused_by_default() -> None:
    policy = Network().compile()
    for each in SPECIAL:
        if each.kind is not Kind.TRANSLATED:
            assert not policy.decide(Flow("tcp", each.network.network_address, 80)).allowed
            assert not policy.decide(Flow("udp", each.network.broadcast_address, 80)).allowed


def test_peers_are_reached_whatever_the_rules_are_but_for_those_on_their_names() -> None:
    network = Network(deny=["db:22", "10.0.0.0/8"], default="deny", peers={"db": "shop-db"})
    here = "10.231.128.1"
    assert allowed(network, f"{here}:5432", "db")
    assert not allowed(network, f"{here}:22", "db")
    assert not allowed(network, f"{here}:5432/udp", "db")
    # Neither without the name, nor by it at an address that is not one of theirs.
    assert not allowed(network, f"{here}:5432")
    assert not allowed(network, f"{here}:5432", "api")
    assert not allowed(network, f"{PUBLIC}:5432", "db")
    policy = network.compile()
    assert policy.may_resolve("db").allowed and not policy.may_resolve("api").allowed
    assert policy.decide_name("db", 5432).allowed and not policy.decide_name("db", 22).allowed
    assert Network.from_json(json.loads(json.dumps(network.to_json()))) == network
    assert network.with_peers({}) == Network(deny=network.deny, default="deny") != network
    assert hash(network) == hash(network.with_peers({}))


def test_a_ceiling_holds_for_peers_too() -> None:
    wide = Network(peers={"db": "shop-db", "api": "shop-api"})
    low = Network(peers={"db": "shop-db", "api": "another"})
    both = wide.within(low)
    assert both.peers == {"db": ("shop-db",)}
    assert allowed(both, "10.231.128.1:1", "db") and not allowed(both, "10.231.128.1:1", "api")
    assert wide.within(Network()).peers == {}
