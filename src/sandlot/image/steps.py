"""Steps of builds: images in the store under a name that tells the key of what they were made from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

CACHE = "sandlot.internal/build"
"""The repository of the steps; nobody can pull from it."""
KEPT_FOR = 30 * 24 * 3600.0
"""Seconds that a step is kept."""


def step_name(key: str) -> str:
    """The name of a step."""
    return f"{CACHE}:{key}"


def is_step(name: str) -> bool:
    """Whether an image is a step of a build, which listings leave out."""
    return name.startswith(f"{CACHE}:")


def old_steps(store: ImageStore, older: float = KEPT_FOR) -> Iterator[Image]:
    """Steps that were made more than `older` seconds ago."""
    limit = time.time() - older
    for image in store.list():
        if is_step(image.name) and image.created <= limit:
            yield image
