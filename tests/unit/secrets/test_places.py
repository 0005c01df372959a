"""Where a placeholder is replaced."""

from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.secrets.places import CREDENTIAL_FIELDS, FORBIDDEN_FIELDS, Places


def test_credentials_only_unless_told() -> None:
    places = Places.parse("credentials")
    for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key", "private-token"):
        assert places.has_field(name)
    for name in ("x-request-id", "user-agent", "referer", "cookie", "host", "accept"):
        assert not places.has_field(name)
    assert not (places.path or places.body or places.has_parameter("key"))


def test_what_is_named_takes_the_place_of_credentials() -> None:
    places = Places.parse(["header:X-My-Key", "query:key", "body"])
    assert places.has_field("x-my-key") and not places.has_field("authorization")
    assert places.has_parameter("key") and not places.has_parameter("q")
    assert places.body


def test_any_header_is_never_one_that_steers() -> None:
    places = Places.parse("headers")
    assert places.has_field("x-anything")
    assert not any(places.has_field(name) for name in FORBIDDEN_FIELDS)
    assert not CREDENTIAL_FIELDS & FORBIDDEN_FIELDS
    assert all(name == name.lower() for name in CREDENTIAL_FIELDS)


def test_text_and_back() -> None:
    for words in (["credentials"], ["headers", "path"], ["query", "header:a", "query:b", "body"]):
        assert Places.parse(Places.parse(words).words()) == Places.parse(words)


@pytest.mark.parametrize(
    "inject",
    ["cookies", "header:", "header:a b", "header:Host", "header:content-length", "query:", [], [1]],
)
def test_places_that_there_are_not(inject: object) -> None:
    with pytest.raises(ConfigError):
        Places.parse(inject)  # type: ignore[arg-type]
