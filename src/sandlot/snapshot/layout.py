"""A snapshot as an OCI artifact: its documents. Pure and bounded (docs/reference/snapshot-archive.md).

Source: the OCI image specification 1.1 (`image-layout.md`, `manifest.md`). What is read comes from
strangers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandlot.engine.config import DEVICE_SIZE, DISK_OFFSET
from sandlot.errors import SnapshotDamaged, SnapshotError
from sandlot.image.digest import digest_of, is_digest
from sandlot.image.manifest import OCI_INDEX, OCI_MANIFEST

ARTIFACT = "application/vnd.sandlot.snapshot.v1"
CONFIG = "application/vnd.sandlot.snapshot.v1+json"
FILE = "application/vnd.sandlot.snapshot.file.v1+zstd"
FORMAT = 1
LAYOUT = {"imageLayoutVersion": "1.0.0"}
MAX_DOCUMENT = 4 << 20  # bytes
MAX_PARTS = 1200
MAX_SIZE = DISK_OFFSET + 2 * DEVICE_SIZE  # bytes of one file, with its holes
MAX_STATE = 256 << 20  # bytes of the devices' state
MAX_PIECES = 2000  # of an image's device

_PATH = re.compile(
    r"state|memory/root|memory/pages-[1-9][0-9]?|(?:disk|image)/[A-Za-z0-9][A-Za-z0-9._-]{0,150}"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_TITLE = "org.opencontainers.image.title"
_REF = "org.opencontainers.image.ref.name"
_SIZE, _DATA, _CONTENTS = "dev.sandlot.size", "dev.sandlot.data", "dev.sandlot.contents"
_WIDEST = 10**15


@dataclass(frozen=True)
class Part:
    """A file of the snapshot. `size` are its bytes, `data` those in pieces that are not all zeros,
    `contents` the digest of these, `blob` and `length` of the blob that it is stored as."""

    path: str
    size: int
    data: int
    contents: str
    blob: str
    length: int


@dataclass(frozen=True)
class Documents:
    """What describes an archive, as bytes."""

    index: bytes
    manifest: bytes

    @property
    def manifest_name(self) -> str:
        """Where the manifest lies in the archive."""
        return blob_name(digest_of(self.manifest))


def blob_name(digest: str) -> str:
    """Where a blob lies in the archive."""
    return f"blobs/sha256/{digest[7:]}"


def make_config(snapshot: Mapping[str, Any], image: Sequence[tuple[str, int, int]]) -> bytes:
    """The configuration: the snapshot's record, and the pieces of its image's device."""
    data = {"format": FORMAT, "snapshot": dict(snapshot), "image": [list(each) for each in image]}
    return json.dumps(data, separators=(",", ":")).encode()


def make_documents(name: str, config: bytes, parts: Sequence[Part]) -> Documents:
    """Manifest and index. How long they are depends on names alone, so that room for them can be
    left before the parts were written."""
    widest = [Part(each.path, _WIDEST, _WIDEST, "0" * 64, "sha256:" + "0" * 64, _WIDEST)
              for each in parts]  # fmt: skip
    room = len(_manifest(config, widest))
    manifest = _manifest(config, parts).ljust(room)
    entry = {
        "mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest),
        "artifactType": ARTIFACT, "annotations": {_REF: name},
    }  # fmt: skip
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    return Documents(json.dumps(index, separators=(",", ":")).encode(), manifest)


def _manifest(config: bytes, parts: Sequence[Part]) -> bytes:
    layers = [
        {
            "mediaType": FILE, "digest": each.blob, "size": each.length,
            "annotations": {
                _TITLE: each.path, _SIZE: str(each.size), _DATA: str(each.data),
                _CONTENTS: each.contents,
            },
        }
        for each in parts
    ]  # fmt: skip
    data = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": ARTIFACT,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": layers,
    }  # fmt: skip
    return json.dumps(data, separators=(",", ":")).encode()


# Section: reading


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read: where the configuration is, and the files."""

    config: str
    config_size: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Config:
    """A configuration that was read, of which nothing was checked but its form."""

    snapshot: dict[str, Any]
    image: tuple[tuple[str, int, int], ...]


def parse_index(data: bytes) -> tuple[str, str]:
    """The digest of the snapshot's manifest, and the name that it had.

    Raises:
        SnapshotError: there is no snapshot in the archive, or several.
        SnapshotDamaged: it cannot be read.
    """
    index = _document(data, "index.json")
    entries = [_mapping(each) for each in _list(index.get("manifests"), 1000)]
    ours = [each for each in entries if each.get("artifactType") == ARTIFACT]
    if not ours and len(entries) == 1 and "artifactType" not in entries[0]:
        ours = entries  # other tools leave it out; the manifest says what it is
    if len(ours) != 1:
        what = "no snapshot" if not ours else f"{len(ours)} snapshots"
        raise SnapshotError(
            f"there is {what} in the archive",
            hint="images are loaded with `sandlot image load`" if not ours
            else "an archive holds one snapshot",
        )  # fmt: skip
    annotations = ours[0].get("annotations")
    name = annotations.get(_REF) if isinstance(annotations, dict) else None
    return _digest(ours[0].get("digest")), name if isinstance(name, str) else ""


def parse_manifest(data: bytes) -> Manifest:
    """A manifest.

    Raises:
        SnapshotError: it is not a snapshot's.
        SnapshotDamaged: it cannot be read, or says what cannot be.
    """
    manifest = _document(data, "the manifest")
    config = _mapping(manifest.get("config"))
    if config.get("mediaType") != CONFIG:
        raise SnapshotError(
            f"this is no snapshot but {str(config.get('mediaType'))[:100]!r}",
            hint="images are loaded with `sandlot image load`",
        )
    parts = tuple(_part(each) for each in _list(manifest.get("layers"), MAX_PARTS))
    if len({part.path for part in parts}) != len(parts):
        raise SnapshotDamaged("a file is in the archive twice")
    size = _number(config.get("size"), MAX_DOCUMENT)
    return Manifest(_digest(config.get("digest")), size, parts)


def parse_config(data: bytes) -> Config:
    """A configuration.

    Raises:
        SnapshotError: another version made it.
        SnapshotDamaged: it cannot be read.
    """
    config = _document(data, "the configuration")
    if config.get("format") != FORMAT:
        raise SnapshotError(
            f"the archive has format {str(config.get('format'))[:20]!r}, this version knows {FORMAT}",
            hint="import it with the version of Sandlot that made it, or a later one",
        )
    pieces = []
    for each in _list(config.get("image"), MAX_PIECES):
        name, offset, length = each if isinstance(each, list) and len(each) == 3 else (None, 0, 0)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SnapshotDamaged("a piece of the image has no name")
        pieces.append((name, _number(offset, DEVICE_SIZE), _number(length, DEVICE_SIZE)))
    return Config(_mapping(config.get("snapshot")), tuple(pieces))


def _part(value: object) -> Part:
    layer = _mapping(value)
    if layer.get("mediaType") != FILE:
        raise SnapshotDamaged(
            f"the archive holds {str(layer.get('mediaType'))[:100]!r}, which no snapshot does"
        )
    notes = _mapping(layer.get("annotations"))
    path, contents = notes.get(_TITLE), notes.get(_CONTENTS)
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise SnapshotDamaged(f"no snapshot has a file {str(path)[:100]!r}")
    if not isinstance(contents, str) or not re.fullmatch("[0-9a-f]{64}", contents):
        raise SnapshotDamaged(f"{path} has no digest")
    part = Part(
        path=path, size=_text_number(notes.get(_SIZE)), data=_text_number(notes.get(_DATA)),
        contents=contents, blob=_digest(layer.get("digest")),
        length=_number(layer.get("size"), MAX_SIZE),
    )  # fmt: skip
    if part.data > part.size or (path == "state" and part.size > MAX_STATE):
        raise SnapshotDamaged(f"{path} cannot have {part.data} of {part.size} bytes")
    return part


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotDamaged(f"{what} of the archive cannot be read: {error}") from None
    return _mapping(value)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SnapshotDamaged(f"the archive says {str(value)[:40]!r} where an object belongs")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise SnapshotDamaged("the archive has no list, or too long a one, where one belongs")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise SnapshotDamaged(f"{str(value)[:100]!r} is no sha256 digest")
    return value


def _number(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise SnapshotDamaged(f"the archive says {str(value)[:40]!r} where a size belongs")
    return value


def _text_number(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,16}", value):
        raise SnapshotDamaged(f"the archive says {str(value)[:40]!r} where a size belongs")
    return _number(int(value), MAX_SIZE)
