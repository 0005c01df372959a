"""Steps that were done before, and the layers of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandlot.errors import ImageError
from sandlot.image.manifest import MAX_MANIFEST, Manifest, parse_manifest
from sandlot.image.packing import PackedLayer
from sandlot.image.steps import step_name

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore


def find_step(store: ImageStore, key: str) -> Image | None:
    """The step with this key, when it is whole."""
    try:
        image = store.get(step_name(key))
        store.device(image)
    except ImageError:
        return None
    return image


def layers_of(store: ImageStore, image: Image) -> tuple[PackedLayer, ...]:
    """An image's layers, lowest first. Raises ImageError when its manifest is gone."""
    manifest = parse_manifest(store.blobs.read(image.manifest, MAX_MANIFEST), name=image.name)
    assert isinstance(manifest, Manifest)
    return tuple(
        PackedLayer(descriptor, diff_id)
        for descriptor, diff_id in zip(manifest.layers, image.diff_ids, strict=True)
    )
