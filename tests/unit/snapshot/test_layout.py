"""The documents of an archive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import SnapshotError
from sandlot.snapshot.layout import (
    MAX_SIZE,
    Part,
    make_config,
    make_documents,
    parse_config,
    parse_index,
    parse_manifest,
)

NONE = "sha256:" + "0" * 64


def test_there_and_back_and_always_as_long() -> None:
    config = make_config({"id": "a"}, [("b.erofs", 0, 4096)])
    parts = [Part("memory/root", 5, 3, "1" * 64, NONE, 7), Part("state", 1, 1, "2" * 64, NONE, 2)]
    made = make_documents("demo", config, parts)
    digest, name = parse_index(made.index)
    assert name == "demo" and made.manifest_name == f"blobs/sha256/{digest[7:]}"
    found = parse_manifest(made.manifest)
    assert list(found.parts) == parts and found.config_size == len(config)
    assert parse_config(config).snapshot == {"id": "a"}
    assert parse_config(config).image == (("b.erofs", 0, 4096),)
    large = [Part(p.path, MAX_SIZE, MAX_SIZE, "f" * 64, NONE, MAX_SIZE) for p in parts]
    other = make_documents("demo", config, large)
    assert len(other.manifest) == len(made.manifest) and len(other.index) == len(made.index)


def test_an_index_without_a_snapshot_is_told() -> None:
    entry = {"digest": NONE, "artifactType": "application/x-other"}
    for manifests, why in (
        ([], "no snapshot"), ([entry], "no snapshot"),
        ([{**entry, "artifactType": "application/vnd.sandlot.snapshot.v1"}] * 2, "2 snapshots"),
    ):  # fmt: skip
        with pytest.raises(SnapshotError, match=why):
            parse_index(json.dumps({"manifests": manifests}).encode())
    assert parse_index(json.dumps({"manifests": [{"digest": NONE}]}).encode()) == (NONE, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["manifests", "digest", "size", "config", "layers", "mediaType", "annotations", "format"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_index, parse_manifest, parse_config):
        try:
            parsed: Any = parse(data)
        except SnapshotError as error:
            assert "\n" not in error.message
        else:
            assert parsed is not None


def test_deep_json_is_refused() -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        parse_index(b"[" * 100_000)
