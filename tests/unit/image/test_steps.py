from __future__ import annotations

from pathlib import Path

from sandlot.image.config import ImageConfig
from sandlot.image.packing import add_image, pack_layer
from sandlot.image.steps import (
    is_internal,
    is_step,
    old_steps,
    step_name,
    untagged,
    untagged_name,
)
from sandlot.image.store import ImageStore

KEY = 64 * "a"


def test_steps_are_told_apart(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with store.working(), pack_layer(store.blobs) as packer:
        packer.tar.add(__file__, "file")
    with store.working():
        for name in ("demo", step_name(KEY), untagged_name(KEY)):
            add_image(store, name, ImageConfig(), [packer.layer])
    everything = store.list(steps=True)
    assert [image.name for image in everything if is_step(image.name)] == [step_name(KEY)]
    assert sum(is_internal(image.name) for image in everything) == 2
    listed = store.list()
    assert {image.title for image in listed} == {"demo:latest", listed[0].id[7:19]}
    assert [image.name for image in old_steps(store, 0)] == [step_name(KEY)]
    assert [image.name for image in untagged(store)] == [untagged_name(KEY)]
    assert not list(old_steps(store)) and not list(untagged(store, 60))
