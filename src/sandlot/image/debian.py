"""Images made from a distribution's packages: what `sandlot image build --package` does."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from typing import TYPE_CHECKING, BinaryIO

from sandlot.image.apt_sources import Source, choose_sources
from sandlot.image.bootstrap import VARIANT, Progress, check_packages, package_tar
from sandlot.image.config import ImageConfig
from sandlot.image.packing import LayerPacker, add_image, pack_layer
from sandlot.image.reference import Reference
from sandlot.image.tar import Member, read_tar
from sandlot.image.tree import Node, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

_RECIPE = 4  # counts up when an equal request gives a different image
DEFAULT_COMMAND = ("/bin/bash",)

# Dropped while reading, which costs nothing; dpkg's own path-exclude makes mmdebstrap three
# times slower. Licences stay: they must go where the packages go.
_DROPPED_FOLDERS = (
    b"usr/share/doc/", b"usr/share/info/", b"usr/share/lintian/", b"usr/share/locale/",
    b"usr/share/man/", b"var/cache/apt/", b"var/cache/debconf/", b"var/lib/apt/lists/",
    b"etc/apt/sources.list.d/",
)  # fmt: skip
_KEPT = (b"/copyright", b"usr/share/locale/locale.alias")
# These tell about the host, or must be made anew in every guest.
_DROPPED_FILES = {
    b"etc/hostname", b"etc/resolv.conf", b"etc/machine-id", b"var/lib/dbus/machine-id",
    b"etc/apt/sources.list", b"var/log/apt/term.log", b"var/log/apt/history.log",
    b"var/log/dpkg.log", b"var/log/bootstrap.log", b"var/log/alternatives.log",
    b"var/cache/ldconfig/aux-cache",
}  # fmt: skip


def build_from_packages(
    packages: Sequence[str], *, suite: str | None = None, mirror: str | None = None,
    cache: Path | None = None, progress: Progress | None = None,
) -> AbstractContextManager[BinaryIO]:  # fmt: skip
    """A tar stream of a small system with these packages, to be used in a `with` block.

    Suite and mirror default to what the host's apt uses. `cache` is a folder in which
    downloaded packages are kept for other builds. Errors are those of `build_debian_image`.
    """
    chosen, sources = choose_sources(suite, mirror)
    return package_tar(packages, chosen, sources, cache=cache, progress=progress)


def build_debian_image(
    store: ImageStore, name: str, packages: Sequence[str], *, suite: str | None = None,
    mirror: str | None = None, rebuild: bool = False, progress: Progress | None = None,
) -> Image:  # fmt: skip
    """Build an image from packages and store it under a name.

    An image that was built from the same packages, suite and archives is used again unless
    `rebuild`. `progress` is called with a stage and a fraction; what it raises ends the build.

    Raises ImageError when a package does not exist or the archive cannot be reached,
    ConfigError for a malformed name, HostError when a tool is missing, and ResourceError when
    the disk is full.

        build_debian_image(store, "demo", ["python3", "git"])
    """
    ref = Reference.parse(name)
    check_packages(packages)
    chosen, sources = choose_sources(suite, mirror)
    key = _key(packages, chosen, sources)
    source = f"debian:{chosen} {' '.join(sorted(set(packages)))}".rstrip()
    config = ImageConfig(cmd=DEFAULT_COMMAND)
    known = None if rebuild else store.find_key(key)
    if known is not None:
        if progress is not None:
            progress("done", 1.0)
        return known if known.reference == ref else store.alias(known, name)

    store.clean()
    cache = store.root / "cache" / "deb"
    with store.working():
        with (
            pack_layer(store.blobs) as packer,
            package_tar(packages, chosen, sources, cache=cache, progress=progress) as tar,
        ):
            _pack(tar, packer, sources)
        if progress is not None:
            progress("store", 0.97)
        image = add_image(store, ref, config, [packer.layer], source=source, key=key)
    if progress is not None:
        progress("done", 1.0)
    return image


def _key(packages: Sequence[str], suite: str, sources: Sequence[Source]) -> str:
    """What makes two builds the same, as a digest: addresses may hold passwords."""
    recipe = [_RECIPE, VARIANT, sorted(set(packages)), suite, sorted(s.deb822() for s in sources)]
    return f"debian:{hashlib.sha256(json.dumps(recipe).encode()).hexdigest()}"


def _pack(tar: BinaryIO, packer: LayerPacker, sources: Sequence[Source]) -> None:
    newest = 0
    for member in _wanted(read_tar(tar)):
        if member.node is not None:
            newest = max(newest, member.node.mtime)
        packer.add(member)
    text = "\n".join(source.without_secrets().deb822() for source in sources).encode()
    _add_file(packer, b"etc/apt/sources.list.d/host.sources", text, newest)


def _wanted(members: Iterator[Member]) -> Iterator[Member]:
    for member in members:
        parent, name = split(member.path)
        path = parent + b"/" + name if parent else name
        if path in _DROPPED_FILES:
            continue
        if path.startswith(_DROPPED_FOLDERS):
            is_dir = member.node is not None and member.node.is_dir
            # A folder whose licence stays is made by the tree; empty ones are not missed.
            if is_dir or not path.endswith(_KEPT):
                continue
        yield member


def _add_file(packer: LayerPacker, path: bytes, data: bytes, mtime: int) -> None:
    node = Node(stat.S_IFREG | 0o644, size=len(data), mtime=mtime)
    packer.add(Member(path, node, content=io.BytesIO(data)))
