"""What holds for requests in either version."""

from __future__ import annotations

import pytest

from sandlot.network.http.checks import check_authority, check_method, check_target
from sandlot.network.http.head import Malformed


@pytest.mark.parametrize(
    "said", [b"a.example", b"A.Example", b"a.example:443", b"a.example.", b"a.example.:443"]
)
def test_the_host_of_this_connection(said: bytes) -> None:
    check_authority(said, "a.example", 443, tls=True)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"b.example", 421), (b"a.example:80", 421), (b"a.example:0443x", 400), (b"", 400),
        (b"a.example@b.example", 400), (b"a.example, b.example", 400), (b"a.example/x", 400),
        (b"xa.example", 421), (b"a.example:", 400), (b"[::1]", 421), (b"[::g]", 400),
        (b"a.example:99999", 421), (b"a.example b", 400), (b"\xc3\xa4", 400), (b"a.example..", 421),
    ],
)  # fmt: skip
def test_another_host(said: bytes, status: int) -> None:
    with pytest.raises(Malformed) as raised:
        check_authority(said, "a.example", 443, tls=True)
    assert raised.value.status == status


def test_ports_and_addresses() -> None:
    check_authority(b"a.example:8443", "a.example", 8443, tls=True)
    check_authority(b"a.example", "a.example", 80, tls=False)
    check_authority(b"[0:0::1]:8443", "::1", 8443, tls=True)
    check_authority(b"10.0.0.1", "10.0.0.1", 443, tls=True)
    with pytest.raises(Malformed):
        check_authority(b"a.example", "a.example", 8443, tls=True)


def test_methods_and_targets() -> None:
    for method in (b"GET", b"PROPFIND", b"get", b"M-SEARCH"):
        check_method(method)
    for method in (b"CONNECT", b"TRACE", b"trace", b"TRACK", b"PRI"):
        with pytest.raises(Malformed, match="refused"):
            check_method(method)
    check_target(b"GET", b"//a")
    check_target(b"OPTIONS", b"*")
    for target in (b"*", b"http://b.example/", b"a.example:443", b"a", b"?x"):
        with pytest.raises(Malformed, match="not a path"):
            check_target(b"GET", target)
