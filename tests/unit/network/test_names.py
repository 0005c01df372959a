"""One spelling for each name, and addresses that pose as names."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.network.names import ends_in_number, loose_ipv4, normalise


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("example。com", "example.com"),
        ("\uff45xample.com", "example.com"),
        ("\u212aelvin.com", "kelvin.com"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    assert normalise(text) == name
    assert normalise(name) == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (".", "empty"),
        ("a..b", "empty part"),
        (".a", "empty part"),
        ("a..", "empty part"),
        ("a" * 64 + ".com", "longer than 63"),
        ("a." * 127 + "a", "longer than 253"),
        ("a b.com", "only letters"),
        ("a\n.com", "only letters"),
        ("a.com\n", "only letters"),
        ("a/b", "only letters"),
        ("a\0.com", "only letters"),
        ("user@host", "only letters"),
        ("*.com", "only letters"),
        ("faß.de", "xn--"),
        ("ü" * 300, "longer"),
        ("ü" * 80, "xn--"),
        ("a\uff0fb.com", "only letters"),
        ("\ud800.com", "xn--"),
    ],
)
def test_what_is_no_name(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        normalise(text)


@given(st.text(max_size=300))
def test_any_text_is_normal_or_refused(text: str) -> None:
    try:
        name = normalise(text)
    except ValueError as error:
        assert type(error) is ValueError
        return
    assert name == name.lower() and name.isascii() and 0 < len(name) <= 253
    assert normalise(name) == name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0x7f.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("0xa9fea9fe", "169.254.169.254"),
        ("169.254.43518", "169.254.169.254"),
        ("10.1", "10.0.0.1"),
    ],
)
def test_addresses_that_pose_as_names(text: str, address: str) -> None:
    assert loose_ipv4(text) == IPv4Address(address)
    assert ends_in_number(text)
    assert ends_in_number(text.upper() + ".")


@pytest.mark.parametrize(
    "text", ["1.2.3.4.5", "256.1.1.1", "09.1", "1.2.3.256", "4294967296", "a.1"]
)
def test_numbers_that_are_no_address_are_no_name_either(text: str) -> None:
    assert loose_ipv4(text) is None
    assert ends_in_number(text)


@pytest.mark.parametrize("name", ["example.com", "1.example", "0x7f.example", "4chan.org", "x0"])
def test_names_with_digits_are_names(name: str) -> None:
    assert not ends_in_number(name)


_PART = st.one_of(
    st.integers(0, 2**33).map(str), st.integers(0, 2**33).map(hex), st.integers(0, 300).map(str),
    st.integers(0, 2**33).map(lambda n: f"0{n:o}"), st.sampled_from(["", "x", "0x", "08"]),
)  # fmt: skip


@given(st.lists(_PART, min_size=1, max_size=5).map(".".join))
def test_loose_addresses_are_those_of_the_c_library(text: str) -> None:
    try:
        expected = IPv4Address(socket.inet_aton(text))
    except OSError:
        return  # we may read more than this C library does, never less
    assert loose_ipv4(text) == expected
    assert ends_in_number(text)
