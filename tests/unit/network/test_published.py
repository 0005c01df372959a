"""Published ports as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.network.published import PublishedPort, parse_ports, published_ports


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("80", "127.0.0.1:0->80/tcp"),
        ("8000:80", "127.0.0.1:8000->80/tcp"),
        (":80", "127.0.0.1:0->80/tcp"),
        ("127.0.0.1::80", "127.0.0.1:0->80/tcp"),
        ("0.0.0.0:8000:80", "0.0.0.0:8000->80/tcp"),
        ("localhost:8000:80", "127.0.0.1:8000->80/tcp"),
        ("[::1]:53:53/udp", "[::1]:53->53/udp"),
    ],
)
def test_dockers_spelling(text: str, shown: str) -> None:
    (port,) = parse_ports(text)
    assert str(port) == shown
    assert PublishedPort.from_json(port.to_json()) == port


@pytest.mark.parametrize(
    "text",
    ["", "x", "80:", "99999:80", "80:0", "1:2:3", "80/sctp", "300.1.1.1:1:1", "a:1:1", "-1:80"],
)
def test_what_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ports(text)
    assert "HOST_PORT" in caught.value.hint


def test_the_forms_of_the_argument() -> None:
    assert published_ports(None) == []
    ports = published_ports({8000: 80, 0: "53/udp", ("0.0.0.0", 1): 2, "127.0.0.2:9": 9})
    assert [str(port) for port in ports] == [
        "127.0.0.1:8000->80/tcp", "127.0.0.1:0->53/udp", "0.0.0.0:1->2/tcp", "127.0.0.2:9->9/tcp",
    ]  # fmt: skip
    assert [str(p) for p in published_ports([80, "1:2", *parse_ports("3:4")])] == [
        "127.0.0.1:0->80/tcp", "127.0.0.1:1->2/tcp", "127.0.0.1:3->4/tcp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    ["80", 80, {"x": 80}, {80: "y"}, {True: 80}, {80: 1.5}, [None], ["1:2", "1:3"], {1: "2/x"}],
)
def test_wrong_arguments(wrong: object) -> None:
    with pytest.raises(ConfigError):
        published_ports(wrong)


@given(st.text(max_size=30))
def test_any_text_is_a_port_or_a_configuration_error(text: str) -> None:
    try:
        ports = parse_ports(text)
    except ConfigError:
        return
    for port in ports:
        assert 0 <= port.host_port <= 65535 and 1 <= port.port <= 65535


def test_ranges() -> None:
    found = parse_ports("127.0.0.2:8000-8002:80-82/udp")
    assert [str(port) for port in found] == [
        "127.0.0.2:8000->80/udp", "127.0.0.2:8001->81/udp", "127.0.0.2:8002->82/udp",
    ]  # fmt: skip
    assert [(port.host_port, port.port) for port in parse_ports("8000-8001")] == [
        (0, 8000), (0, 8001),
    ]  # fmt: skip
    assert len(published_ports(["9000-9010:9000-9010", "80"])) == 12
    with pytest.raises(ConfigError, match="twice"):
        published_ports(["8000-8010:8000-8010", "8005:1"])


@pytest.mark.parametrize(
    "text", ["8000-8010:80", "80-82:80-81", "10-9:10-9", "1-70000:1-70000", "1-:1-", "0-1:0-1"]
)
def test_ranges_that_do_not_fit(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ports(text)
    assert caught.value.hint
