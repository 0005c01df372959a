"""Records from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import SnapshotDamaged
from sandlot.snapshot.checking import fits, typed
from sandlot.snapshot.record import SnapshotRecord

GOOD: dict[str, Any] = {
    "id": "a", "name": "b", "created": 1, "sandbox": "c", "source": {}, "layers": ["d"],
    "machine": None,
}  # fmt: skip


def test_types_are_those_of_the_class() -> None:
    assert typed(SnapshotRecord, GOOD, "it").layers == ["d"]
    wrongs: list[dict[str, Any]] = [
        {"id": 5}, {"layers": [1]}, {"layers": "d"}, {"machine": []}, {"source": None},
        {"created": "1"}, {"created": True}, {"created": float("inf")}, {"own_memory": 1.5},
        {"own_memory": True}, {"own_memory": 1 << 70}, {"name": "a\0b"}, {"digests": {"a": 1}},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(SnapshotDamaged, match=f"as its {next(iter(wrong))}"):
            typed(SnapshotRecord, {**GOOD, **wrong}, "it")
    with pytest.raises(SnapshotDamaged, match="field 'more', which this version does not know"):
        typed(SnapshotRecord, {**GOOD, "more": 1}, "it")
    with pytest.raises(SnapshotDamaged, match="not whole"):
        typed(SnapshotRecord, {"id": "a"}, "it")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in dataclasses.fields(SnapshotRecord)]), json_values
    )
)
def test_any_json_makes_a_record_or_a_refusal(data: dict[str, Any]) -> None:
    try:
        made = typed(SnapshotRecord, {**GOOD, **data}, "it")
    except SnapshotDamaged:
        return
    json.dumps(made.to_json())
    assert fits(made.tags, list[str]) and fits(made.digests, dict[str, str])
