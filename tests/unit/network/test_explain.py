"""What people are told about a destination."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sandlot.errors import ConfigError
from sandlot.network.explain import explain
from sandlot.network.policy import Network

POLICY = Network(allow=["api.example.com:443", "*.corp", "1.1.1.1:53/udp"]).compile(
    [ip_address("192.0.0.8")]
)


@pytest.mark.parametrize(
    ("text", "where", "allowed", "rule"),
    [
        ("api.example.com", "api.example.com:443", True, "allow api.example.com:443"),
        (
            "https://u:p@API.example.com/x?y",
            "api.example.com:443",
            True,
            "allow api.example.com:443",
        ),
        ("http://api.example.com", "api.example.com:80", False, "default deny"),
        ("https://api.example.com:8443/", "api.example.com:8443", False, "default deny"),
        ("1.1.1.1:53/udp", "1.1.1.1:53/udp", True, "allow 1.1.1.1:53/udp"),
        ("1.1.1.1:53", "1.1.1.1:53", False, "default deny"),
        ("[::1]:80", "[::1]:80", False, "built-in ::1/128"),
        ("host:8080", "host:8080", False, "built-in host"),
        ("other.org:443", "other.org:443", False, "default deny"),
    ],
)
def test_destinations(text: str, where: str, allowed: bool, rule: str) -> None:
    found = explain(POLICY, text)
    assert found.destination == where
    assert (found.verdict.allowed, found.verdict.rule) == (allowed, rule)


def test_the_hint_names_the_port() -> None:
    assert explain(POLICY, "other.org:80").verdict.hint == "allow other.org:80"


def test_what_a_name_leads_to_counts() -> None:
    found = explain(POLICY, "db.corp:5432", ("8.8.8.8", "10.0.0.5"))
    assert not found.verdict.allowed
    assert [(step, decision.allowed) for step, decision in found.steps] == [
        ("look up db.corp", True),
        ("answer 8.8.8.8", True),
        ("answer 10.0.0.5", False),
        ("connect to 8.8.8.8", True),
        ("connect to 10.0.0.5", False),
    ]
    assert found.verdict.hint == "allow 10.0.0.5:5432"
    assert explain(POLICY, "db.corp:5432", ("8.8.8.8",)).verdict.allowed
    assert found.to_json()["steps"][2]["step"] == "answer 10.0.0.5"


@pytest.mark.parametrize(
    "text", ["*", "*.corp", "10.0.0.0/8", "a.com:1-2", "ftp://a.com", "", "127.1", "a b", "http://"]
)
def test_what_is_no_destination(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(POLICY, text)
    assert caught.value.hint


def test_what_leads_to_no_address() -> None:
    with pytest.raises(ConfigError, match="'x' is no address"):
        explain(POLICY, "a.corp", ("x",))
    with pytest.raises(ConfigError, match="not a name"):
        explain(POLICY, "1.2.3.4", ("1.2.3.4",))
    with pytest.raises(ConfigError, match="not known"):
        explain(Network().compile(), "host:80")


def test_the_host_and_loopback_are_explained_as_people_name_them() -> None:
    found = explain(Network.public().compile([ip_address("192.0.0.8")]), "host:80").verdict
    assert "192.0.0.8" not in found.reason and found.hint == "allow host:80"
    found = explain(Network.public().compile(), "127.0.0.1:80/udp").verdict
    assert not found.allowed and found.hint == "allow host:80/udp"
    assert "sandbox itself" in found.reason
    assert explain(Network(allow=["127.0.0.1:80"]).compile(), "127.0.0.1:80").verdict.allowed
