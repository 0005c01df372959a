"""Which names an address was given for, and until when."""

from __future__ import annotations

import json
from functools import partial
from ipaddress import IPv4Address, ip_address
from operator import ne

from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.dns.pins import GRACE, MOST_ADDRESSES, MOST_NAMES, Pins

A, B = ip_address("93.184.216.34"), ip_address("2606:2800::1")


def test_a_pin_lives_as_long_as_its_ttl_and_a_grace() -> None:
    pins = Pins()
    pins.pin("a.com", [A, B], 60, 1000)
    for address in (A, B):
        assert pins.name_for(address, 1000) == "a.com"
        assert pins.name_for(address, 1000 + 60 + GRACE - 1) == "a.com"
        assert pins.name_for(address, 1000 + 60 + GRACE) is None
    assert pins.name_for(ip_address("1.2.3.4"), 1000) is None


def test_a_shorter_answer_does_not_shorten_a_pin() -> None:
    pins = Pins()
    pins.pin("a.com", [A], 3600, 0)
    pins.pin("a.com", [A], 30, 1)
    assert pins.name_for(A, 3600) == "a.com"
    assert len(pins) == 1


def test_the_last_name_comes_first() -> None:
    pins = Pins()
    for name in ("a.com", "b.com", "a.com", "c.com"):
        pins.pin(name, [A], 30, 0)
    assert pins.names_for(A, 0) == ("c.com", "a.com", "b.com")
    assert pins.name_for(A, 0) == "c.com"


def test_mapped_addresses_are_the_same() -> None:
    pins = Pins()
    pins.pin("a.com", [ip_address("::ffff:93.184.216.34")], 30, 0)
    assert pins.name_for(A, 0) == "a.com"
    assert pins.name_for(ip_address("::ffff:93.184.216.34"), 0) == "a.com"


def test_an_open_flow_keeps_its_pin() -> None:
    pins = Pins()
    pins.pin("a.com", [A], 30, 0)
    pins.used("a.com", A, 600)
    assert pins.name_for(A, 600 + GRACE - 1) == "a.com"
    pins.used("b.com", A, 600)  # was never given
    pins.used("a.com", B, 600)
    assert pins.names_for(A, 601) == ("a.com",) and not pins.names_for(B, 601)


def test_other_names_go_when_the_policy_changes() -> None:
    pins = Pins()
    pins.pin("a.com", [A, B], 30, 0)
    pins.pin("b.com", [A], 30, 0)
    pins.retain(lambda name: name == "b.com")
    assert pins.names_for(A, 0) == ("b.com",) and pins.names_for(B, 0) == ()
    assert len(pins) == 1


def test_a_snapshot_carries_them_to_another_clock() -> None:
    pins = Pins()
    pins.pin("a.com", [A], 30, 1000)
    pins.pin("b.com", [A], 60, 1000)
    pins.pin("old.com", [B], 0, 0)
    again = Pins.from_json(json.loads(json.dumps(pins.to_json(1010))), 5)
    assert again.names_for(A, 5) == ("b.com", "a.com")
    assert again.names_for(A, 5 + GRACE + 20) == ("b.com",)
    assert len(again) == 2


def test_endless_names_of_one_domain_do_not_push_out_others() -> None:
    pins = Pins(most=200)
    pins.pin("api.example.com", [A], 30, 0)
    for number in range(5000):
        pins.pin(f"x{number}.evil.test", [IPv4Address(number + 1)], 3600, 0)
    assert len(pins) == 200
    assert pins.name_for(A, 0) == "api.example.com"


def test_what_has_expired_makes_room_first() -> None:
    pins = Pins(most=10)
    for number in range(10):
        pins.pin(f"x{number}.a.com", [IPv4Address(number + 1)], 0, 0)
    pins.pin("new.a.com", [A], 0, GRACE + 1)
    assert len(pins) == 1


def test_one_name_and_one_address_have_bounds() -> None:
    pins = Pins()
    pins.pin("a.com", [IPv4Address(n + 1) for n in range(MOST_ADDRESSES + 9)], 30, 0)
    assert len(pins) == MOST_ADDRESSES
    assert pins.name_for(IPv4Address(1), 0) is None
    pins = Pins()
    for number in range(MOST_NAMES + 9):
        pins.pin(f"n{number}.com", [A], 30, 0)
    assert len(pins.names_for(A, 0)) == MOST_NAMES
    assert pins.name_for(A, 0) == f"n{MOST_NAMES + 8}.com"


STEP = st.tuples(
    st.sampled_from(["a.x.com", "b.x.com", "c.y.com", "d.com"]),
    st.integers(1, 6), st.sampled_from([0, 30, 3600]), st.integers(0, 400),
    st.sampled_from(["pin", "used", "retain"]),
)  # fmt: skip


@given(st.lists(STEP, max_size=40), st.integers(1, 5))
def test_never_more_than_what_was_given_and_never_too_many(steps, most) -> None:  # type: ignore[no-untyped-def]
    pins = Pins(most)
    until: dict[tuple[str, IPv4Address], float] = {}
    now = 0.0
    for name, number, ttl, pause, what in steps:
        now += pause
        address = IPv4Address(number)
        if what == "pin":
            pins.pin(name, [address], ttl, now)
            until[name, address] = max(until.get((name, address), 0), now + ttl + GRACE)
        elif what == "used":
            pins.used(name, address, now)
            if (name, address) in until:
                until[name, address] = max(until[name, address], now + GRACE)
        else:
            pins.retain(partial(ne, name))
            until = {key: value for key, value in until.items() if key[0] != name}
        assert len(pins) <= most
        assert len(pins) == sum(map(len, pins._names.values()))
        assert len(pins) == sum(map(len, pins._groups.values()))
        assert len(pins) == sum(map(len, pins._held.values()))
        for one in range(1, 7):
            for each in pins.names_for(IPv4Address(one), now):
                assert until[each, IPv4Address(one)] > now
