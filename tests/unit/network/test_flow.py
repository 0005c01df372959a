"""How destinations are spelled."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sandlot.network.flow import Flow, destination
from sandlot.network.rules import parse_rule


@pytest.mark.parametrize(
    ("host", "port", "protocol", "text"),
    [
        ("example.com", 443, "tcp", "example.com:443"),
        ("example.com", None, "tcp", "example.com"),
        (ip_address("2001:db8::1"), 53, "udp", "[2001:db8::1]:53/udp"),
        (ip_address("10.0.0.1"), None, "udp", "10.0.0.1/udp"),
    ],
)
def test_a_destination_is_spelled_as_a_rule(host, port, protocol, text) -> None:  # type: ignore[no-untyped-def]
    assert destination(host, port, protocol) == text
    assert str(parse_rule(text)) == text


def test_a_flow_is_called_by_its_name() -> None:
    assert str(Flow("tcp", ip_address("1.2.3.4"), 80, "a.example")) == "a.example:80"
    assert str(Flow("udp", ip_address("::1"), 80)) == "[::1]:80/udp"
