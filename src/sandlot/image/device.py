"""The block device that a sandbox sees of an image: pieces of files, one behind the other. Pure.

Block 0 of the metadata, the contents of all layers, and the rest of the metadata, whose file is
so long that every image's device has the same length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandlot.errors import ImageError
from sandlot.image.digest import is_digest
from sandlot.image.ondisk import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEVICE_SIZE = 64 << 30
"""Bytes: the length of every image's device. A virtual machine that was snapshotted with one
image's device gets another's, so all devices must have the same length."""

MAX_CONTENTS = DEVICE_SIZE - (4 << 30)
"""Bytes of files that all layers of an image may have together; the rest is for its metadata."""


@dataclass(frozen=True)
class Layout:
    """Which layers a device has, lowest first, with the lengths of their contents in bytes.

    `metadata` is the length in bytes of what was written for it.
    """

    layers: tuple[tuple[str, int], ...]
    metadata: int

    @property
    def size(self) -> int:
        """Bytes on the host's disk."""
        return self.metadata + sum(size for _, size in self.layers)

    @property
    def metadata_length(self) -> int:
        """The length that the metadata's file must have, with its sparse end."""
        return DEVICE_SIZE - sum(size for _, size in self.layers)

    def pieces(self) -> list[tuple[str, int, int]]:
        """The device: (a layer's diff id, or "" for the metadata; offset; length) in bytes."""
        return [
            ("", 0, BLOCK),
            *((layer, 0, size) for layer, size in self.layers if size),
            ("", BLOCK, self.metadata_length - BLOCK),
        ]

    def to_json(self) -> dict[str, Any]:
        """For the store's records."""
        return {"metadata": self.metadata, "layers": [list(layer) for layer in self.layers]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """The opposite of `to_json`. Raises ValueError, TypeError or KeyError."""
        layers = tuple((str(layer), int(size)) for layer, size in data["layers"])
        if not all(is_digest(layer) and size >= 0 and not size % BLOCK for layer, size in layers):
            raise ValueError("layers")
        return cls(layers, int(data["metadata"]))


def check_room(sizes: Sequence[int]) -> None:
    """Raise ImageError when layers with these contents, in bytes, do not fit on a device."""
    if sum(sizes) > MAX_CONTENTS:
        raise ImageError(
            f"the image has {sum(sizes) >> 30} GiB of files, which is more than"
            f" {MAX_CONTENTS >> 30} GiB (MAX_CONTENTS)"
        )
