"""Kernel modules: which are needed, in which order. Pure.

depmod's index is made when a kernel package is installed, which we never do; each module says
itself what it depends on.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

# What a guest needs: its disks, its channel, its file systems; and what gives freed memory back.
WANTED = (
    "virtio_pci", "virtio_blk", "virtio_console", "erofs", "ext4", "crc32c_generic", "overlay", "fuse",
    "virtio_balloon", "tun",
)  # fmt: skip
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_SUFFIX = re.compile(r"\.ko(\.xz|\.zst|\.gz)?$")


def module_name(path: str) -> str | None:
    """`kernel/fs/erofs/erofs.ko.xz` is the module `erofs`; None for other files."""
    file = PurePosixPath(path).name
    return _SUFFIX.sub("", file).replace("-", "_") if _SUFFIX.search(file) else None


def unpacked(path: str, data: bytes) -> bytes:
    """A module's object file, whatever it is packed with."""
    if path.endswith(".xz"):
        return lzma.decompress(data)
    if path.endswith(".zst"):
        return _zstd(data)
    if path.endswith(".gz"):
        import gzip

        return gzip.decompress(data)
    return data


def _zstd(data: bytes) -> bytes:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    result: bytes = zstd.decompress(data)
    return result


def dependencies(module: bytes) -> list[str]:
    """The modules that an object file names in its `.modinfo`."""
    found = _DEPENDS.search(module)
    if found is None or not found[1]:
        return []
    return [name.replace("-", "_") for name in found[1].decode().split(",")]


def load_order(modules: Mapping[str, bytes], wanted: tuple[str, ...] = WANTED) -> list[str]:
    """The wanted modules and what they need, each after its dependencies.

    A name that is not in `modules` is taken as built into the kernel.
    """
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in order or name not in modules or name in above:
            return
        for needed in dependencies(modules[name]):
            visit(needed, (*above, name))
        order.append(name)

    for name in wanted:
        visit(name, ())
    return order
