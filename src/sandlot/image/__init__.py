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

from sandlot.image.bootstrap import Progress
from sandlot.image.config import ImageConfig
from sandlot.image.debian import build_debian_image, build_from_packages
from sandlot.image.device import DEVICE_SIZE
from sandlot.image.records import Image
from sandlot.image.store import ImageStore

__all__ = [
    "DEVICE_SIZE",
    "Image",
    "ImageConfig",
    "ImageStore",
    "Progress",
    "build_debian_image",
    "build_from_packages",
]
