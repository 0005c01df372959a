"""The name service: who may ask for what, and what may come back."""

from __future__ import annotations

from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.dns.message import Code
from sandlot.network.dns.pins import GRACE, Pins
from sandlot.network.dns.service import (
    LONGEST_TTL,
    MOST_STRAYS,
    MOST_WAITING,
    SHORTEST_TTL,
    Ask,
    NameService,
    Reply,
)
from sandlot.network.policy import Network
from tests.unit.network.dns.resolver import (
    HOST,
    OTHER,
    OWN,
    PUBLIC,
    ask,
    asking,
    read,
    said,
    service,
    upstream,
)


def test_an_allowed_name_is_asked_answered_and_pinned() -> None:
    one = service()
    question = ask(one, "Example.COM")
    assert (question.name, question.type, question.over_tcp) == ("example.com", "A", False)
    assert one.waiting == 1
    reply = one.answer(question, upstream(question, f"example.com 300 A {PUBLIC}"), 0)
    message = read(reply)
    assert message.id == 77
    assert message.question[0].name == dns.name.from_text("Example.COM")
    assert message.question[0].name.labels == (b"Example", b"COM", b"")
    assert said(message) == [f"Example.COM. 300 IN A {PUBLIC}"]
    assert isinstance(reply, Reply) and reply.lookup is not None
    assert reply.lookup.decision.rule == "allow example.com"
    assert reply.lookup.addresses == (ip_address(PUBLIC),)
    assert one.pins.name_for(ip_address(PUBLIC), 1) == "example.com"
    assert one.waiting == 0


@pytest.mark.parametrize("name", ["evil.org", "xexample.com", "com", "a.b.c.secret-data.evil.org"])
def test_other_names_are_never_asked_of_anybody(name: str) -> None:
    one = service()
    reply = one.ask(asking(name), 0)
    message = read(reply)
    assert message.rcode() == dns.rcode.NXDOMAIN and not message.answer
    (error,) = message.options
    assert error.code == 18 and f"hint: allow {name}" in error.text
    assert isinstance(reply, Reply) and reply.lookup is not None
    assert reply.lookup.decision.hint == f"allow {name}"
    assert one.waiting == 0


@pytest.mark.parametrize(
    "name", ["127.1", "0x7f.1", "2130706433", "017700000001", "127.0.0.1", "0xa9fea9fe"]
)
def test_addresses_that_pose_as_names_are_never_asked(name: str) -> None:
    assert read(service(Network.open()).ask(asking(name), 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name", [r"a\046b.example.com", r"a\000.example.com", r"\195\188.example.com"]
)
def test_what_no_host_can_be_called_is_not_asked(name: str) -> None:
    assert read(service().ask(asking(name), 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["x.onion", "y.invalid"])
def test_names_that_are_not_for_the_dns(name: str) -> None:
    assert read(service(Network.open()).ask(asking(name), 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "type_", "answers"),
    [
        ("localhost", "A", ["127.0.0.1"]),
        ("localhost", "AAAA", ["::1"]),
        ("a.localhost", "A", ["127.0.0.1"]),
        ("box", "A", [str(OWN)]),
        ("BOX", "AAAA", []),
        ("host.sandlot.internal", "A", [str(HOST)]),
        ("localhost", "HTTPS", []),
        ("box", "TXT", []),
    ],
)
def test_our_own_names(name: str, type_: str, answers: list[str]) -> None:
    message = read(service(Network.deny_all()).ask(asking(name, type_), 0))
    assert message.rcode() == dns.rcode.NOERROR
    assert [str(rdata) for rrset in message.answer for rdata in rrset] == answers


def test_addresses_are_named_from_pins_only() -> None:
    one = service()
    question = ask(one, "example.com")
    one.answer(question, upstream(question, f"example.com 60 A {PUBLIC}"), 0)
    question = ask(one, "example.com", "AAAA")
    one.answer(question, upstream(question, "example.com 60 AAAA 2606:2800::1"), 0)

    def name_of(address: str, now: float = 1) -> list[str]:
        name = dns.reversename.from_address(address).to_text()
        message = read(one.ask(asking(name, "PTR"), now))
        assert (message.rcode() == dns.rcode.NXDOMAIN) == (not message.answer)
        return [str(rdata) for rrset in message.answer for rdata in rrset]

    assert name_of(PUBLIC) == ["example.com."]
    assert name_of("2606:2800::1") == ["example.com."]
    assert name_of(PUBLIC, 60 + GRACE + 1) == []
    assert name_of("8.8.8.8") == []
    assert name_of(str(OWN)) == ["box."]
    assert name_of("127.0.0.1") == ["localhost."]
    assert name_of(str(HOST)) == ["host.sandlot.internal."]
    assert one.waiting == 0


@pytest.mark.parametrize(
    "name",
    ["1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.2.3.4.in-addr.arpa", "x.2.3.4.in-addr.arpa",
     "1.2.ip6.arpa", "aa." * 31 + "b.ip6.arpa", "g." * 32 + "ip6.arpa"],
)  # fmt: skip
def test_odd_reverse_names(name: str) -> None:
    one = service(Network.open())
    for type_ in ("PTR", "A", "TXT"):
        assert read(one.ask(asking(name, type_), 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("type_", ["HTTPS", "SVCB", "ANY", "NS", "SOA", "CAA", "DNSKEY", "TYPE999"])
def test_types_that_are_not_carried_are_empty_and_not_asked(type_: str) -> None:
    """HTTPS and SVCB among them: they would bring ECH keys and addresses that nobody judged."""
    one = service()
    message = read(one.ask(asking("example.com", type_), 0))
    assert message.rcode() == dns.rcode.NOERROR and not message.answer
    assert one.waiting == 0
    assert read(one.ask(asking("evil.org", type_), 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("type_", ["AXFR", "IXFR"])
def test_transfers_are_refused(type_: str) -> None:
    query = dns.message.make_query("example.com", "A", id=77)
    query.question[0].rdtype = dns.rdatatype.from_text(type_)
    assert read(service().ask(query.to_wire(), 0, tcp=True)).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("MX", "10 mail.other.org."),
        ("MX", "0 ."),
        ("SRV", "1 2 443 node.other.org."),
        ("TXT", '"v=spf1 -all" "more"'),
        ("CNAME", "other.org."),
        ("AAAA", "2606:2800::1"),
    ],
)
def test_types_that_are_carried(type_: str, data: str) -> None:
    one = service()
    question = ask(one, "example.com", type_)
    message = read(one.answer(question, upstream(question, f"example.com 300 {type_} {data}"), 0))
    assert said(message) == [f"example.com. 300 IN {type_} {data}"]


def test_what_names_point_to_is_not_opened_by_it() -> None:
    one = service()
    question = ask(one, "example.com", "SRV")
    one.answer(question, upstream(question, "example.com 300 SRV 1 2 443 node.other.org."), 0)
    assert read(one.ask(asking("node.other.org"), 0)).rcode() == dns.rcode.NXDOMAIN


def test_a_chain_of_aliases_is_pinned_under_the_asked_name() -> None:
    one = service()
    question = ask(one, "www.example.com")
    reply = upstream(
        question,
        "www.example.com 300 CNAME edge.cdn.net.",
        f"other.example.com 300 A {OTHER}",
        "Edge.cdn.net 20 CNAME node.cdn.net.",
        f"node.cdn.net 60 A {PUBLIC}",
        f"unrelated.net 60 A {OTHER}",
    )
    message = read(one.answer(question, reply, 0))
    assert said(message) == [
        "www.example.com. 30 IN CNAME edge.cdn.net.",
        "edge.cdn.net. 30 IN CNAME node.cdn.net.",
        f"node.cdn.net. 30 IN A {PUBLIC}",
    ]
    assert one.pins.names_for(ip_address(PUBLIC), 1) == ("www.example.com",)
    assert one.pins.names_for(ip_address(OTHER), 1) == ()
    # The names on the way are not allowed by it.
    assert read(one.ask(asking("node.cdn.net"), 1)).rcode() == dns.rcode.NXDOMAIN


def test_an_alias_to_a_denied_name_is_refused() -> None:
    one = service(Network(deny=["*.tracker.net"]))
    question = ask(one, "metrics.site.com")
    answer = upstream(
        question, "metrics.site.com 60 CNAME x.tracker.net.", f"x.tracker.net 60 A {PUBLIC}"
    )
    reply = one.answer(question, answer, 0)
    assert read(reply).rcode() == dns.rcode.NXDOMAIN
    assert isinstance(reply, Reply) and reply.lookup is not None
    assert reply.lookup.decision.rule == "deny *.tracker.net"
    assert not len(one.pins)


def test_aliases_in_a_circle() -> None:
    one = service()
    question = ask(one, "example.com")
    answer = upstream(question, "example.com 60 CNAME b.net.", "b.net 60 CNAME example.com.")
    assert read(one.answer(question, answer, 0)).rcode() == dns.rcode.SERVFAIL
    question = ask(one, "example.com")
    chain = [f"{i or 'example.com'} 60 CNAME {i + 1}." for i in range(30)]
    assert read(one.answer(question, upstream(question, *chain), 0)).rcode() == dns.rcode.SERVFAIL
    question = ask(one, "example.com")
    odd = upstream(question, r"example.com 60 CNAME a\032b.net.")
    assert read(one.answer(question, odd, 0)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    ("type_", "address"),
    [
        ("A", "10.0.0.1"), ("A", "127.0.0.1"), ("A", "169.254.169.254"), ("A", "192.168.1.1"),
        ("A", "0.0.0.0"), ("A", "100.64.0.1"), ("A", "224.0.0.1"), ("A", str(HOST)),
        ("A", "168.63.129.16"), ("AAAA", "::1"), ("AAAA", "::"), ("AAAA", "fe80::1"),
        ("AAAA", "fd00::1"), ("AAAA", "::ffff:127.0.0.1"), ("AAAA", "::ffff:a00:1"),
        ("AAAA", "::10.0.0.1"), ("AAAA", "64:ff9b::a00:1"), ("AAAA", "64:ff9b::a9fe:a9fe"),
        ("AAAA", "64:ff9b:1::a00:1"), ("AAAA", "2002:a00:1::1"), ("AAAA", "fd00:ec2::254"),
        ("AAAA", "2001:0:808:808::f5ff:fffe"),
    ],
)  # fmt: skip
def test_a_public_name_with_a_private_address_is_rebinding(type_: str, address: str) -> None:
    one = service()
    question = ask(one, "example.com", type_)
    good = PUBLIC if type_ == "A" else "2606:2800::1"
    answer = upstream(
        question, f"example.com 60 {type_} {good}", f"example.com 60 {type_} {address}"
    )
    reply = one.answer(question, answer, 0)
    message = read(reply)
    assert message.rcode() == dns.rcode.NXDOMAIN and not message.answer
    assert message.options[0].code == 17
    assert isinstance(reply, Reply) and reply.lookup is not None
    assert reply.lookup.decision.hint.startswith("allow ")
    assert not len(one.pins)


def test_an_answer_that_changes_from_public_to_private_is_refused() -> None:
    one = service()
    for address, code in ((PUBLIC, 0), ("10.0.0.1", 3), (PUBLIC, 0)):
        question = ask(one, "example.com")
        answer = upstream(question, f"example.com 0 A {address}")
        assert read(one.answer(question, answer, 0)).rcode() == code
    assert one.pins.name_for(ip_address("10.0.0.1"), 0) is None


def test_a_private_address_that_a_rule_on_addresses_names_is_answered() -> None:
    one = service(Network(allow=["db.corp", "10.1.0.0/16:5432"]))
    question = ask(one, "db.corp")
    message = read(one.answer(question, upstream(question, "db.corp 60 A 10.1.2.3"), 0))
    assert said(message) == ["db.corp. 60 IN A 10.1.2.3"]
    assert one.pins.name_for(ip_address("10.1.2.3"), 0) == "db.corp"
    question = ask(one, "db.corp")
    answer = upstream(question, "db.corp 60 A 10.2.2.3")
    assert read(one.answer(question, answer, 0)).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("given_", "told"), [(0, SHORTEST_TTL), (1, SHORTEST_TTL), (300, 300), (10**9, LONGEST_TTL)]
)
def test_times_are_bounded_and_pins_outlive_them(given_: int, told: int) -> None:
    one = service()
    question = ask(one, "example.com")
    message = read(
        one.answer(question, upstream(question, f"example.com {given_} A {PUBLIC}"), 1000)
    )
    assert message.answer[0].ttl == told
    assert one.pins.name_for(ip_address(PUBLIC), 1000 + told + GRACE - 1) == "example.com"
    assert one.pins.name_for(ip_address(PUBLIC), 1000 + told + GRACE + 1) is None


def test_an_answer_to_another_question_is_not_heard() -> None:
    one = service()
    question = ask(one, "example.com")
    good = upstream(question, f"example.com 60 A {PUBLIC}")
    other_id = bytes([good[0] ^ 1]) + good[1:]
    other_type = ask(one, "example.com", "AAAA")
    other_name = ask(one, "www.example.com")
    for forged in (
        other_id, b"", b"x" * 40, question.wire,
        question.id.to_bytes(2, "big") + upstream(other_type)[2:],
        question.id.to_bytes(2, "big") + upstream(other_name)[2:],
    ):  # fmt: skip
        if forged is question.wire:  # our own question with the right id: a resolver gone mad
            continue
        assert one.answer(question, forged, 0) is None
    assert one.waiting == 3
    assert said(read(one.answer(question, good, 0)))
    assert one.answer(question, good, 0) is None  # answered already


def test_letters_in_another_case_are_asked_again_over_tcp() -> None:
    one = service()
    question = ask(one, "example.com")
    assert any(65 <= byte <= 90 for label in question.labels for byte in label)
    good = upstream(question, f"example.com 60 A {PUBLIC}")
    lower = good[:12] + good[12:25].lower() + good[25:]
    again = one.answer(question, lower, 0)
    assert isinstance(again, Ask) and again.over_tcp and again.id != question.id
    # Over TCP a resolver may spell it as it likes.
    good = upstream(again, f"example.com 60 A {PUBLIC}")
    assert said(read(one.answer(again, good[:12] + good[12:25].lower() + good[25:], 0)))
    assert one.waiting == 0


def test_many_strays_lead_to_tcp() -> None:
    one = service()
    question = ask(one, "example.com")
    found = [one.answer(question, b"x" * 30, 0) for _ in range(MOST_STRAYS)]
    assert found[:-1] == [None] * (MOST_STRAYS - 1)
    assert isinstance(found[-1], Ask) and found[-1].over_tcp


def test_ids_and_letters_are_fresh() -> None:
    one = service()
    questions = [ask(one, "example.com") for _ in range(50)]
    assert len({question.id for question in questions}) > 45
    assert len({question.labels for question in questions}) > 45


def test_nothing_of_the_guest_s_question_goes_out_but_name_and_type() -> None:
    one = service()
    query = dns.message.make_query(
        "eXaMpLe.com", "TXT", use_edns=0, want_dnssec=True,
        options=[dns.edns.GenericOption(dns.edns.OptionType(65001), b"smuggled")],
    )  # fmt: skip
    question = one.ask(query.to_wire(), 0)
    assert isinstance(question, Ask)
    assert b"smuggled" not in question.wire
    sent = dns.message.from_wire(question.wire)
    assert not sent.options and not sent.ednsflags & dns.flags.DO


def test_a_truncated_answer_is_asked_again_over_tcp() -> None:
    one = service()
    question = ask(one, "example.com")
    again = one.answer(question, upstream(question, flags=dns.flags.TC), 0)
    assert isinstance(again, Ask) and again.over_tcp
    addresses = [f"example.com 60 A 93.184.1.{n}" for n in range(60)]
    message = read(one.answer(again, upstream(again, *addresses), 0))
    assert len(message.answer[0]) == 60
    question = ask(one, "example.com")
    again = one.answer(question, upstream(question, flags=dns.flags.TC), 0)
    assert isinstance(again, Ask)
    broken = one.answer(again, upstream(again, flags=dns.flags.TC), 0)
    assert read(broken).rcode() == dns.rcode.SERVFAIL


def test_a_large_answer_is_cut_for_udp_and_whole_for_tcp() -> None:
    one = service()
    addresses = [f"example.com 60 A 93.184.1.{n}" for n in range(60)]
    for tcp in (False, True):
        question = one.ask(asking("example.com", use_edns=False), 0, tcp=tcp)
        assert isinstance(question, Ask)
        reply = one.answer(question, upstream(question, *addresses), 0)
        message = read(reply)
        assert isinstance(reply, Reply)
        if tcp:
            assert len(message.answer[0]) == 60
        else:
            assert message.flags & dns.flags.TC and len(reply.wire) <= 512


def test_a_resolver_without_edns_is_asked_without() -> None:
    one = service()
    question = ask(one, "example.com")
    again = one.answer(question, upstream(question, code=1), 0)
    assert isinstance(again, Ask) and not again.edns
    assert dns.message.from_wire(again.wire).edns == -1
    assert read(one.answer(again, upstream(again, code=1), 0)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(("code", "told"), [(0, 0), (3, 3), (2, 2), (5, 2), (9, 2)])
def test_codes_of_the_resolver(code: int, told: int) -> None:
    one = service()
    question = ask(one, "example.com")
    assert read(one.answer(question, upstream(question, code=code), 0)).rcode() == told
    assert one.waiting == 0


def test_a_damaged_answer_and_none_at_all_fail() -> None:
    one = service()
    question = ask(one, "example.com")
    good = upstream(question, f"example.com 60 A {PUBLIC}")
    assert read(one.answer(question, good[:40], 0)).rcode() == dns.rcode.SERVFAIL
    question = ask(one, "example.com")
    reply = one.fail(question)
    assert read(reply).rcode() == dns.rcode.SERVFAIL
    assert reply.lookup is not None and reply.lookup.code is Code.SERVFAIL
    assert one.waiting == 0


def test_a_policy_that_changes_while_the_resolver_is_asked() -> None:
    one = service()
    question = ask(one, "example.com")
    one.policy = Network.deny_all().compile()
    answer = upstream(question, f"example.com 60 A {PUBLIC}")
    assert read(one.answer(question, answer, 0)).rcode() == dns.rcode.NXDOMAIN
    assert not len(one.pins)


def test_waiting_questions_are_bounded() -> None:
    one = service()
    for number in range(MOST_WAITING):
        ask(one, f"n{number}.example.com")
    assert read(one.ask(asking("more.example.com"), 0)).rcode() == dns.rcode.SERVFAIL
    assert one.waiting == MOST_WAITING


def test_what_is_no_question_is_told_so_or_dropped() -> None:
    one = service()
    assert one.ask(b"", 0) is None
    assert one.ask(asking("example.com")[:2] + b"\x80" + asking("example.com")[3:], 0) is None
    assert read(one.ask(asking("example.com") + b"x", 0)).rcode() == dns.rcode.FORMERR
    chaos = dns.message.make_query("version.bind", "TXT", "CH").to_wire()
    assert read(one.ask(chaos, 0)).rcode() == dns.rcode.REFUSED


def test_a_sandbox_with_an_odd_name_still_has_localhost() -> None:
    policy = Network().compile()
    one = NameService(policy, hostname="", addresses=[OWN], pins=Pins())
    assert said(read(one.ask(asking("localhost"), 0))) == ["localhost. 10 IN A 127.0.0.1"]


@given(st.data())
def test_whatever_the_resolver_says_only_what_is_public_is_pinned(data: st.DataObject) -> None:
    one = service()
    question = ask(one, "example.com")
    wire = bytearray(
        upstream(
            question, "example.com 60 CNAME b.net.", f"b.net 60 A {PUBLIC}", f"b.net 60 A {OTHER}"
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(st.integers(0, 255))
    reply = one.answer(question, bytes(wire), 0)
    if isinstance(reply, Reply):
        dns.message.from_wire(reply.wire)
        assert reply.lookup is not None
        for address in reply.lookup.addresses:
            assert one.policy.may_answer(address).allowed
            assert one.pins.name_for(address, 1) == "example.com"
        assert len(one.pins) == len(set(reply.lookup.addresses))


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_of_the_guest(data: bytes, tcp: bool) -> None:
    found = service().ask(data, 0, tcp=tcp)
    assert found is None or isinstance(found, Reply)


def test_peers_are_named_by_ourselves() -> None:
    one = NameService(
        Network(default="deny", peers={"db": "shop-db"}).compile(), hostname="box", addresses=[OWN]
    )
    address = ip_address("10.231.128.1")
    one.peers = {"db": address}.get
    for kind, expected in (("A", [str(address)]), ("AAAA", [])):
        reply = one.ask(asking("DB", kind), 0)
        assert isinstance(reply, Reply) and reply.lookup is not None
        assert [each.split()[-1] for each in said(read(reply))] == expected
        assert reply.lookup.decision.rule == "peer db"
    assert one.waiting == 0
