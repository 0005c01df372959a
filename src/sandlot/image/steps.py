"""What builds keep in the store under names of their own: their steps, whose names tell the key of
what they were made from, and images that were built without a name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

CACHE = "sandlot.internal/build"
"""The repository of the steps; nobody can pull from it."""
UNTAGGED = "sandlot.internal/untagged"
"""The repository of images that were built without a name."""
KEPT_FOR = 30 * 24 * 3600.0
"""Seconds that a step is kept."""


def step_name(key: str) -> str:
    """The name of a step."""
    return f"{CACHE}:{key}"


def is_step(name: str) -> bool:
    """Whether an image is a step of a build, which listings leave out."""
    return name.startswith(f"{CACHE}:")


def is_internal(name: str) -> bool:
    """Whether a name is the store's own, and nothing that people call an image."""
    return name.startswith("sandlot.internal/")


def untagged_name(key: str) -> str:
    """Under which the store keeps an image without a name that was built from this key."""
    return f"{UNTAGGED}:{key}"


def is_untagged(name: str) -> bool:
    """Whether an image was built without a name; people call it by its id."""
    return name.startswith(f"{UNTAGGED}:")


def old_steps(store: ImageStore, older: float = KEPT_FOR) -> Iterator[Image]:
    """Steps that were made more than `older` seconds ago."""
    return _old(store, is_step, older)


def untagged(store: ImageStore, older: float = 0.0) -> Iterator[Image]:
    """Images without a name that were made more than `older` seconds ago."""
    return _old(store, is_untagged, older)


def _old(store: ImageStore, kind: Callable[[str], bool], older: float) -> Iterator[Image]:
    limit = time.time() - older
    for image in store.list(steps=True):
        if kind(image.name) and image.created <= limit:
            yield image
