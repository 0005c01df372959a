"""Images: the read-only file systems that sandboxes start from, made without root.

Layout, lowest first:

    ondisk, space, contents   the EROFS format as bytes; where things go in an image
    tree, erofs, device   the files of an image in memory; their metadata; the block device
    compression, tar, layer   reading layers from strangers, and replaying them
    reference, digest, config, manifest, records   what images are called, and say of themselves
    faults, scratch, blobs, layers, store   packed and unpacked parts; the images on this machine
    packing, tally   images that are made here; counting
    registry/   the client of registries
    apt_sources, bootstrap, debian   images from a distribution's packages
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandlot.image.bootstrap import Progress
    from sandlot.image.config import ImageConfig
    from sandlot.image.debian import build_debian_image, build_from_packages
    from sandlot.image.device import DEVICE_SIZE
    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

# Imported when first used: who runs a sandbox builds no image.
_WHERE = {
    "DEVICE_SIZE": "device",
    "Image": "records",
    "ImageConfig": "config",
    "ImageStore": "store",
    "Progress": "bootstrap",
    "build_debian_image": "debian",
    "build_from_packages": "debian",
}

__all__ = [
    "DEVICE_SIZE",
    "Image",
    "ImageConfig",
    "ImageStore",
    "Progress",
    "build_debian_image",
    "build_from_packages",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
