from __future__ import annotations

from pathlib import Path

import pytest

from sandlot.errors import ConfigError, NameTaken, VolumeNotFound
from sandlot.volume.volume import Volume


async def test_a_volume_from_beginning_to_end(own_state: Path) -> None:
    made = await Volume.create("data", size="10M", labels={"app": "web"})
    assert (made.name, made.size, made.kind, made.labels) == (
        "data",
        10 << 20,
        "folder",
        {"app": "web"},
    )
    (found,) = await Volume.list()
    assert found.id == made.id and repr(found) == "<Volume 'data' folder size=10485760>"
    known = await (await Volume.get("data")).inspect()
    assert known["used"] == 0 and known["sandboxes"] == [] and known["mounted"] is False
    assert known["created"].endswith("Z") and known["path"] == str(made.path)
    with pytest.raises(NameTaken):
        await Volume.create("data")
    await made.remove()
    with pytest.raises(VolumeNotFound):
        await Volume.get("data")


@pytest.mark.parametrize(
    "wrong",
    [{"size": "1K"}, {"size": "much"}, {"kind": "tape"}, {"labels": {"a": 1}}, {"name": "a/b"}],
)
async def test_what_is_wrong_is_told(own_state: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        await Volume.create(**{"name": "data", **wrong})  # type: ignore[arg-type]
    assert await Volume.list() == []


async def test_a_damaged_one_is_told_and_left_out(own_state: Path) -> None:
    made = await Volume.create("data")
    (made.path.parent / "volume.json").write_text("[]")
    told: list[Exception] = []
    assert await Volume.list(unreadable=told.append) == [] and len(told) == 1
