"""Heads and manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import RemoteDamaged
from sandlot.remote.manifest import (
    Head,
    Manifest,
    StoredPart,
    Version,
    is_name,
    make_head,
    make_manifest,
    parse_head,
    parse_manifest,
)

PART = StoredPart("disk/0-abc", 10, 5, "a" * 64, ((b"i" * 32, 44),))
MANIFEST = Manifest("sandbox", "web", 3, 1.5, {"a": [1]}, (PART,), "b" * 64)
VERSIONS = tuple(Version(n, f"{n:032x}", "c" * 64, 2.0, 10, 5) for n in (1, 2, 5))
HEAD = Head("web", "sandbox", 5, VERSIONS)


def test_there_and_back() -> None:
    assert parse_manifest(make_manifest(MANIFEST)) == MANIFEST
    assert parse_head(make_head(HEAD)) == HEAD


def test_versions_are_picked_and_bounded() -> None:
    assert HEAD.pick(None) == VERSIONS[-1] and HEAD.pick(2) == VERSIONS[1] and HEAD.pick(3) is None
    assert Head("a", "volume", 4).pick(None) is None
    new = Version(6, "0" * 32, "d" * 64, 3.0, 1, 1)
    assert HEAD.plus(new, 2) == Head("web", "sandbox", 6, (VERSIONS[-1], new))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"parts": [{"path": "../x"}]}, "has a file"), ({"parts": [{"path": "a/b/c"}]}, "has a file"),
        ({"kind": "image"}, "nothing that is pushed"), ({"name": "a/b"}, "no name"),
        ({"version": True}, "number"), ({"created": float("nan")}, "time"),
        ({"format": 2}, "format"), ({"previous": "x"}, "digest"), ({"config": []}, "object"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_is_refused(change: dict[str, Any], why: str) -> None:
    document = json.loads(make_manifest(MANIFEST)) | change
    with pytest.raises(RemoteDamaged, match=why):
        parse_manifest(json.dumps(document).encode())


def test_a_file_twice_is_refused() -> None:
    document = json.loads(make_manifest(MANIFEST))
    document["parts"] *= 2
    with pytest.raises(RemoteDamaged, match="twice"):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize("versions", [(VERSIONS[1], VERSIONS[0]), (VERSIONS[0], VERSIONS[0])])
def test_versions_out_of_order_are_refused(versions: tuple[Version, ...]) -> None:
    with pytest.raises(RemoteDamaged, match="out of order"):
        parse_head(make_head(Head("web", "sandbox", 5, versions)))
    with pytest.raises(RemoteDamaged, match="out of order"):
        parse_head(make_head(Head("web", "sandbox", 1, VERSIONS)))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["format", "parts", "path", "lists", "versions", "manifest", "name", "kind", "counter"]
        ),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(values | st.dictionaries(st.sampled_from(["format"]), st.just(1)), st.binary(max_size=50))
def test_any_document_ends_in_an_error_of_ours(document: object, data: bytes) -> None:
    for parse in (parse_manifest, parse_head):
        for each in (json.dumps(document).encode(), data):
            with pytest.raises(RemoteDamaged):
                parse(each)


def test_names() -> None:
    assert is_name("web-1.x") and not is_name("") and not is_name(".a") and not is_name("a" * 64)
    assert not is_name(3) and not is_name("a\n")
