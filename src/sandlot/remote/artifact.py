"""How a blob looks in a registry: its tag, and the manifest that the tag names. Pure."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandlot.errors import ConfigError
from sandlot.image.digest import digest_of, is_digest
from sandlot.image.manifest import OCI_MANIFEST
from sandlot.remote.ballots import LONGEST_NAME, Board, decided_name, is_removal
from sandlot.remote.store import check_key

KIND = "application/vnd.sandlot.blob.v1"
EMPTY_KIND = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
KEY, TAG, REMOVED = "dev.sandlot.key", "dev.sandlot.tag", "dev.sandlot.removed"
CREATED = "org.opencontainers.image.created"
LONGEST_KEY = 128 - LONGEST_NAME


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a manifest of ours says. `digest` is its own, `content` that of the blob in it."""

    key: str
    digest: str
    content: str
    size: int
    modified: float | None
    removed: bool


def tag_of(key: str) -> str:
    """The tag of a key.

    >>> tag_of("packs/0a/0a1b")
    'packsS0aS0a1b'
    """
    tag = key.replace("/", "S")
    if len(tag) <= LONGEST_KEY:
        return tag
    return f"X{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def may_begin(tag: str, prefix: str) -> bool:
    return tag.startswith(("X", prefix.replace("/", "S")))


def sorted_out(tags: list[str]) -> tuple[list[str], dict[str, Board]]:
    """The tags of what was put, and the boards of what was replaced by theirs."""
    plain, names = [], dict[str, list[str]]()
    for tag in tags:
        key, v, rest = tag.partition("V")
        if v:
            names.setdefault(key, []).append(v + rest)
        elif not tag.endswith("R"):
            plain.append(tag)
    return plain, {key: Board.read(each) for key, each in names.items()}


def names_of(board: Board, number: int) -> list[str]:
    begin = f"V{number:09d}"
    names = [f"{begin}P{each.round:06d}{each.who}" for each in board.promised.get(number, ())]
    names += [
        f"{begin}A{each.round:06d}{each.who}{value}"
        for each, value in board.accepted.get(number, {}).items()
    ]
    if number in board.decided:
        names.append(decided_name(number, board.decided[number]))
    return names


def version_of(board: Board) -> str | None:
    if not board.last or is_removal(board.decided[board.last]):
        return None
    return f"{board.last}.{board.decided[board.last]}"


def descriptor(data: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def manifest_of(
    tag: str, key: str, layer: Mapping[str, object], created: str, removed: bool
) -> bytes:
    """A manifest with one blob. `created` is the registry's date, as in its headers.

    No two tags have the same one: who removes it removes no other.
    """
    notes = {KEY: key, TAG: tag}
    with contextlib.suppress(ValueError, TypeError):
        notes[CREATED] = email.utils.parsedate_to_datetime(created).isoformat()
    if removed:
        notes[REMOVED] = "true"
    return json.dumps(
        {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": KIND,
            "config": descriptor(EMPTY, EMPTY_KIND), "layers": [layer], "annotations": notes,
        },
        separators=(",", ":"), sort_keys=True,
    ).encode()  # fmt: skip


def retagged(manifest: bytes, tag: str) -> bytes:
    """The same for another tag."""
    document = json.loads(manifest)
    document["annotations"][TAG] = tag
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def parse_artifact(manifest: bytes) -> Artifact | None:
    """What a manifest says, None when it is none of ours."""
    try:
        document: Any = json.loads(manifest)
        notes, layer = document["annotations"], document["layers"][0]
        key, content, size = notes[KEY], layer["digest"], layer["size"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            return None
        if not isinstance(content, str) or not is_digest(content) or not isinstance(key, str):
            return None
        check_key(key)
        removed = notes.get(REMOVED) == "true"
        if not removed and layer["mediaType"] not in (KIND, EMPTY_KIND):
            return None
        return Artifact(
            key, digest_of(manifest), content, size, _seconds(notes.get(CREATED)), removed
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
        ConfigError,
    ):
        return None


def _seconds(text: object) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None
