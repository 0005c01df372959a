"""Images: the read-only file systems that sandboxes start from, made without root.

Layout, lowest first:

    ondisk, space   the EROFS format as bytes; where things go in an image
    tree, erofs     the files of an image in memory; the writer
    compression, tar   reading tar streams from strangers
    reference, digest, config, manifest   what images are called, and say about themselves
    faults, scratch, blobs, store   files as registries have them; the images on this machine
    registry        images from registries
    apt_sources, bootstrap, debian   images from a distribution's packages
"""

from sandlot.image.bootstrap import Progress
from sandlot.image.config import ImageConfig
from sandlot.image.debian import build_debian_image, build_from_packages
from sandlot.image.store import DEVICE_SIZE, Image, ImageStore

__all__ = [
    "DEVICE_SIZE",
    "Image",
    "ImageConfig",
    "ImageStore",
    "Progress",
    "build_debian_image",
    "build_from_packages",
]
