from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.remote.artifact import (
    EMPTY,
    EMPTY_KIND,
    KIND,
    LONGEST_KEY,
    descriptor,
    manifest_of,
    parse_artifact,
    retagged,
    tag_of,
)


def test_tags() -> None:
    assert tag_of("packs/0a/1") == "packsS0aS1"
    assert tag_of("x" * LONGEST_KEY) == "x" * LONGEST_KEY
    assert tag_of("x" * (LONGEST_KEY + 1)).startswith("X")
    assert len(tag_of("x" * 200)) == 41


def test_manifests() -> None:
    date = "Thu, 26 Nov 2026 16:00:00 GMT"
    made = manifest_of("t", "packs/a", descriptor(b"data", KIND), date, False)
    artifact = parse_artifact(made)
    assert artifact and (artifact.key, artifact.size, artifact.removed) == ("packs/a", 4, False)
    assert artifact.modified == 1795708800
    assert made != manifest_of("u", "packs/a", descriptor(b"data", KIND), date, False)
    again = parse_artifact(retagged(made, "u"))
    assert again and again.content == artifact.content and again.digest != artifact.digest
    gone = parse_artifact(manifest_of("t", "a", descriptor(EMPTY, EMPTY_KIND), "never", True))
    assert gone and gone.removed and gone.modified is None


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []}, {"layers": [{}]}, {"annotations": {}}, {"annotations": None},
        {"annotations": {"dev.sandlot.key": "../x"}}, {"annotations": {"dev.sandlot.key": 1}},
        {"layers": [{"digest": "x", "size": 1, "mediaType": KIND}]},
        {"layers": [{**descriptor(b"", KIND), "size": -1}]},
        {"layers": [{**descriptor(b"", KIND), "size": True}]},
        {"layers": [descriptor(b"", "application/x")]},
    ],
)  # fmt: skip
def test_what_is_no_artifact_of_ours(change: dict[str, object]) -> None:
    made = json.loads(manifest_of("t", "a", descriptor(b"data", KIND), "", False))
    assert parse_artifact(json.dumps({**made, **change}).encode()) is None


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["annotations", "layers", "digest", "size", "dev.sandlot.key"]), inner), max_leaves=8).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_whatever_a_registry_sends(data: bytes) -> None:
    parse_artifact(data)
