from __future__ import annotations

import pytest

from sandlot.errors import ConfigError
from sandlot.remote.store import MAX_BLOB, check_blob, check_key, check_span, split_prefix


@pytest.mark.parametrize("key", ["a", "packs/0a/0a1b", "x" * 200, "a/_b.c-d"])
def test_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "A", "a/../b", ".a", "a b", "x" * 201, "a\n"]
)
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ConfigError, match="not the key of a blob"):
        check_key(key)


def test_blobs_and_parts_are_bounded() -> None:
    check_blob("a", bytes(MAX_BLOB))
    with pytest.raises(ConfigError, match="more than 64 MiB"):
        check_blob("a", bytes(MAX_BLOB + 1))
    with pytest.raises(ConfigError, match="no part at -1"):
        check_span("a", -1, None)
    with pytest.raises(ConfigError, match="of -1 bytes"):
        check_span("a", 0, -1)


def test_prefixes() -> None:
    assert split_prefix("") == ""
    assert split_prefix("pack") == ""
    assert split_prefix("packs/") == "packs/"
    assert split_prefix("packs/0a/1") == "packs/0a/"
    for bad in ("/", "a//", "../a", "A", "x" * 201):
        with pytest.raises(ConfigError):
            split_prefix(bad)
