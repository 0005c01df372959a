"""What stands for a name: the head with its versions, and the manifest of each. Pure and bounded.

Both are JSON, signed and sealed. A head counts its versions up and never back; each manifest names
the one before it, so that a history is one history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sandlot.errors import RemoteDamaged
from sandlot.remote.index import NAME
from sandlot.remote.sealing import MAX_CHUNK

FORMAT = 1
MOST_VERSIONS = 1000
MOST_PARTS = 5000
MOST_LISTS = 100_000
MAX_SIZE = 1 << 47
KINDS = ("sandbox", "snapshot", "volume")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,150})?")


@dataclass(frozen=True)
class StoredPart:
    """A file of what was pushed. `size` are its bytes, `data` those in chunks, `contents` the digest
    of these (as of snapshots); `lists` the chunks that the list of its chunks lies in: (name,
    length), in order."""

    path: str
    size: int
    data: int
    contents: str
    lists: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True)
class Manifest:
    """One version of something. `config` says what it is, `previous` is the digest of the manifest
    before it, or empty."""

    kind: str
    name: str
    version: int
    created: float
    config: dict[str, Any]
    parts: tuple[StoredPart, ...]
    previous: str = ""


@dataclass(frozen=True)
class Version:
    """A version that a head names: the manifest's key and digest, sizes in bytes."""

    version: int
    manifest: str
    digest: str
    created: float
    size: int
    added: int


@dataclass(frozen=True)
class Head:
    """What a name stands for now. `counter` is the number of the last push, also when all of its
    versions are gone."""

    name: str
    kind: str
    counter: int
    versions: tuple[Version, ...] = field(default=())

    def pick(self, version: int | None) -> Version | None:
        """The version of this number, the last one when None."""
        if version is None:
            return self.versions[-1] if self.versions else None
        return next((each for each in self.versions if each.version == version), None)

    def plus(self, version: Version, keep: int) -> Head:
        """With another version, and the last `keep` of all."""
        versions = (*self.versions, version)[-max(1, min(keep, MOST_VERSIONS)) :]
        return replace(self, counter=version.version, versions=versions)


def is_name(text: object) -> bool:
    """Whether something can be pushed under this name."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def make_manifest(manifest: Manifest) -> bytes:
    """As it is signed and sealed."""
    parts = [
        {**asdict(each), "lists": [[id.hex(), length] for id, length in each.lists]}
        for each in manifest.parts
    ]
    return _json({**asdict(replace(manifest, parts=())), "format": FORMAT, "parts": parts})


def parse_manifest(data: bytes) -> Manifest:
    """A manifest.

    Raises:
        RemoteDamaged: it says what cannot be.
    """
    found = _document(data, "a manifest")
    parts = tuple(_part(each) for each in _list(found.get("parts"), MOST_PARTS))
    if len({each.path for each in parts}) != len(parts):
        raise RemoteDamaged("a manifest has a file twice")
    return Manifest(
        kind=_kind(found.get("kind")), name=_name(found.get("name")),
        version=_number(found.get("version"), 1 << 40), created=_time(found.get("created")),
        config=_mapping(found.get("config")), parts=parts,
        previous=_digest(found.get("previous"), empty=True),
    )  # fmt: skip


def make_head(head: Head) -> bytes:
    """As it is signed and sealed."""
    return _json({**asdict(head), "format": FORMAT})


def parse_head(data: bytes) -> Head:
    """A head.

    Raises:
        RemoteDamaged: it says what cannot be.
    """
    found = _document(data, "a head")
    versions = tuple(_version(each) for each in _list(found.get("versions"), MOST_VERSIONS))
    head = Head(
        _name(found.get("name")), _kind(found.get("kind")),
        _number(found.get("counter"), 1 << 40), versions,
    )  # fmt: skip
    numbers = [each.version for each in versions]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > head.counter):
        raise RemoteDamaged("a head has versions out of order")
    return head


def _version(value: object) -> Version:
    found = _mapping(value)
    manifest = found.get("manifest")
    if not isinstance(manifest, str) or not re.fullmatch(f"[0-9a-f]{{{2 * NAME}}}", manifest):
        raise RemoteDamaged("a head names no manifest")
    return Version(
        _number(found.get("version"), 1 << 40), manifest, _digest(found.get("digest")),
        _time(found.get("created")), _number(found.get("size"), 1 << 60),
        _number(found.get("added"), 1 << 60),
    )  # fmt: skip


def _part(value: object) -> StoredPart:
    found = _mapping(value)
    path = found.get("path")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise RemoteDamaged(f"a manifest has a file {str(path)[:80]!r}")
    lists = []
    for each in _list(found.get("lists"), MOST_LISTS):
        if not isinstance(each, list) or len(each) != 2:
            raise RemoteDamaged("a manifest has no list of chunks where one belongs")
        lists.append((bytes.fromhex(_digest(each[0])), _number(each[1], MAX_CHUNK)))
    part = StoredPart(
        path, _number(found.get("size"), MAX_SIZE), _number(found.get("data"), MAX_SIZE),
        _digest(found.get("contents")), tuple(lists),
    )  # fmt: skip
    if part.data > part.size:
        raise RemoteDamaged(f"{path} cannot have {part.data} of {part.size} bytes")
    return part


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _document(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = _mapping(json.loads(data))
    except (ValueError, RecursionError):
        raise RemoteDamaged(f"{what} cannot be read") from None
    if found.get("format") != FORMAT:
        raise RemoteDamaged(
            f"{what} has format {str(found.get('format'))[:20]!r}, this version knows {FORMAT}",
            hint="use the version of Sandlot that pushed it, or a later one",
        )
    return found


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RemoteDamaged(f"{str(value)[:40]!r} is where an object belongs")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise RemoteDamaged("there is no list, or too long a one, where one belongs")
    return value


def _number(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise RemoteDamaged(f"{str(value)[:40]!r} is where a number belongs")
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise RemoteDamaged(f"{str(value)[:40]!r} is where a time belongs")
    return float(value)


def _digest(value: object, *, empty: bool = False) -> str:
    if empty and value == "":
        return ""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise RemoteDamaged(f"{str(value)[:80]!r} is where a digest belongs")
    return value


def _kind(value: object) -> str:
    if value not in KINDS:
        raise RemoteDamaged(f"{str(value)[:40]!r} is nothing that is pushed")
    return str(value)


def _name(value: object) -> str:
    if not is_name(value):
        raise RemoteDamaged(f"{str(value)[:80]!r} is no name")
    return str(value)
