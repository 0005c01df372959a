"""The addresses of the host."""

from __future__ import annotations

from ipaddress import ip_address

from sandlot.network.router import ROUTERS, host_addresses
from sandlot.network.upstream import guest_errno, real_target


def test_the_hosts_addresses_include_loopback_and_what_stands_for_it() -> None:
    found = host_addresses()
    assert found >= ROUTERS
    assert ip_address("127.0.0.1") in found


def test_what_stands_for_the_host_leads_to_its_loopback() -> None:
    assert {real_target(address) for address in ROUTERS} == {"127.0.0.1", "::1"}
    assert real_target(ip_address("192.0.2.1")) == "192.0.2.1"


def test_errors_have_the_guests_numbers() -> None:
    assert guest_errno(ConnectionRefusedError(111, "refused")) == 111
    assert guest_errno(TimeoutError()) == 110
    assert guest_errno(OSError(12345, "odd")) == 113
