"""Which kernel modules are loaded, and in which order."""

from __future__ import annotations

import gzip
import lzma
import sys

import pytest

from sandlot.guest.modules import dependencies, load_order, module_name, unpacked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def module(*needs: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("kernel/fs/erofs/erofs.ko.xz", "erofs"),
        ("kernel/lib/crc32c-generic.ko", "crc32c_generic"),
        ("virtio_blk.ko.zst", "virtio_blk"),
        ("a.ko.gz", "a"),
        ("modules.dep", None),
        ("a.ko.bak", None),
    ],
)
def test_names(path: str, name: str | None) -> None:
    assert module_name(path) == name


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".xz", lzma.compress), (".zst", zstd.compress), (".gz", gzip.compress)],
)
def test_packed_modules(suffix: str, pack: object) -> None:
    assert callable(pack)
    assert unpacked(f"a.ko{suffix}", pack(module("b"))) == module("b")


def test_dependencies_with_dashes() -> None:
    assert dependencies(module("crc32c-generic", "jbd2")) == ["crc32c_generic", "jbd2"]
    assert dependencies(module()) == []
    assert dependencies(b"no such section") == []


def test_each_comes_after_what_it_needs() -> None:
    modules = {
        "ext4": module("jbd2", "mbcache", "crc16"), "jbd2": module("crc32c-generic"),
        "crc32c_generic": module(), "mbcache": module(), "virtio_blk": module("virtio_ring"),
        "virtio_ring": module(), "unwanted": module(),
    }  # fmt: skip
    order = load_order(modules, ("virtio_blk", "ext4", "erofs"))
    assert sorted(order) == sorted(set(modules) - {"unwanted"})
    for name in order:
        for needed in dependencies(modules[name]):
            if needed in modules:
                assert order.index(needed) < order.index(name)


def test_a_cycle_ends() -> None:
    assert sorted(load_order({"a": module("b"), "b": module("a")}, ("a",))) == ["a", "b"]
