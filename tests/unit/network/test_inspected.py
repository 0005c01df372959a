"""Which hosts are looked into."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.network.inspected import Inspected


@pytest.mark.parametrize(
    ("text", "host", "port", "expected"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "api.example.com.evil.com", 443, False),
        ("API.example.com:443", "api.example.com", 8443, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "notexample.com", 443, False),
        ("*", "anything.test", 1, True),
        ("*:443", "anything.test", 444, False),
        ("host", "host.sandlot.internal", 8443, True),
    ],
)
def test_hosts(text: str, host: str, port: int, expected: bool) -> None:
    assert Inspected([text]).concerns(host, port) is expected
    assert not Inspected().concerns(host, port)


@pytest.mark.parametrize("wrong", ["10.0.0.1", "10.0.0.0/8:443", "a.com/udp", "https://a.com"])
def test_what_cannot_be_looked_into(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Inspected([wrong])
    assert caught.value.hint


def test_one_text_is_no_list() -> None:
    with pytest.raises(ConfigError, match="not a list"):
        Inspected("api.example.com")
