"""The hosts that a secret names."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.secrets.hosts import HostPattern, normal


@pytest.mark.parametrize(
    ("pattern", "host", "port", "matches"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("API.Example.com.", "api.example.com", 8443, True),
        ("api.example.com", "xapi.example.com", 443, False),
        ("api.example.com", "api.example.com.evil.com", 443, False),
        ("api.example.com:8443", "api.example.com", 443, False),
        ("api.example.com:8443", "api.example.com", 8443, True),
        ("*.example.com", "a.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "notexample.com", 443, False),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1:99", "10.0.0.1", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]:8443", "::1", 8443, True),
    ],
)
def test_matching(pattern: str, host: str, port: int, matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port) is matches


@pytest.mark.parametrize("text", ["api.example.com", "*.example.com:8443", "::1", "[::1]:99"])
def test_text_and_back(text: str) -> None:
    assert str(HostPattern.parse(text)) == text
    assert HostPattern.parse(str(HostPattern.parse(text))) == HostPattern.parse(text)


@pytest.mark.parametrize(
    "text",
    ["*", "*.com", "*.", "", "a*.example.com", "https://example.com", "example.com/x", "a@b.com",
     "exa mple.com", "example.com:0", "example.com:70000", "a..b", "-a.com", "x" * 300],
)  # fmt: skip
def test_what_is_no_host_or_too_wide(text: str) -> None:
    with pytest.raises(ConfigError):
        HostPattern.parse(text)


def test_normal() -> None:
    assert normal("EXAMPLE.com.") == "example.com"
    assert normal("[0:0::1]") == "::1"
    with pytest.raises(ConfigError, match="host name"):
        normal("a" * 64 + ".com")
    with pytest.raises(ConfigError, match="two standards"):
        normal("stra\u00dfe.example")
