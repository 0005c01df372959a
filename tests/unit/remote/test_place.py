"""What people write for a place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError
from sandlot.remote.address import is_address
from sandlot.remote.place import Place, checked_push_name, parse_place


def test_names_versions_and_addresses() -> None:
    for text, remote, place in (
        ("web", "", Place("", "web")), ("web@3", "backup", Place("backup", "web", 3)),
        ("s3://b/x", "", Place("s3://b/x")), ("s3://b/x#web", "", Place("s3://b/x", "web")),
        ("/mnt/x#web@12", "", Place("/mnt/x", "web", 12)), ("./x", "", Place("./x")),
        ("ssh://u@h/p", "", Place("ssh://u@h/p")),
    ):  # fmt: skip
        assert parse_place(text, remote) == place
    assert is_address("~/x") and is_address("oci://h/r") and not is_address("web")


@pytest.mark.parametrize(
    "text", ["", "web@", "web@0", "web@x", "a b", "s3://b#a/b", "web@-1", "web@٣"]
)
def test_what_cannot_be_is_told(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_place(text)


def test_two_remotes_are_told() -> None:
    with pytest.raises(ConfigError, match="a remote was given"):
        parse_place("s3://b/x", "backup")


@given(st.text(max_size=30))
def test_any_text_is_a_place_or_told(text: str) -> None:
    try:
        place = parse_place(text)
    except ConfigError:
        return
    assert not place.name or checked_push_name(place.name) == place.name
