"""What an owner may grant."""

from __future__ import annotations

from typing import Any

import pytest

from sandlot import ConfigError, Network
from sandlot.runtime.grant import RuntimeAccess


def test_a_grant_is_written_down_and_read_again() -> None:
    grant = RuntimeAccess(
        4, images=["python:3.12", "python:3.12"], memory="2G", cpus=2, disk="1G",
        network=Network(allow=["api.example.com"]), secrets=["SERP_KEY"], max_depth=2,
        lifetime="detached",
    )  # fmt: skip
    assert grant.images == ("python:3.12",)
    assert RuntimeAccess.from_json(grant.to_json()) == grant


def test_it_is_narrowed() -> None:
    grant = RuntimeAccess(secrets=["A", "B"], network=Network.public())
    narrow = grant.narrowed(network=Network.deny_all(), secrets=["B", "C"])
    assert narrow.secrets == ("B",)
    assert not narrow.network.compile().decide_name("a.example", 443).allowed
    assert grant.narrowed() == grant


def test_without_a_network_nothing_is_reached() -> None:
    assert RuntimeAccess().network == Network.deny_all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_sandboxes": 0}, {"max_sandboxes": True}, {"images": "python:3.12"},
        {"images": [""]}, {"memory": "1M"}, {"memory": "much"}, {"cpus": 0}, {"network": "all"},
        {"secrets": [1]}, {"max_depth": 0}, {"lifetime": "for ever"},
    ],
)  # fmt: skip
def test_a_wrong_grant_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RuntimeAccess(**wrong)


@pytest.mark.parametrize("damaged", [{}, {"network": {}}, {"network": 5}, {"more": 1}])
def test_a_damaged_record_is_told(damaged: dict[str, Any]) -> None:
    whole = RuntimeAccess().to_json()
    with pytest.raises(ConfigError):
        RuntimeAccess.from_json({**whole, **damaged} if damaged else {})
