"""What the store remembers of each image name: data, and its form as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandlot.image.config import ImageConfig
from sandlot.image.digest import check_digest
from sandlot.image.manifest import Platform
from sandlot.image.reference import Reference
from sandlot.image.steps import is_untagged

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Image:
    """One name in the store, as it was when it was asked for.

    `name` is its familiar form; `id` the digest of the configuration, which says what the image
    is; `manifest` the digest of its manifest, and `digest` that of what the name stands for at
    its source: the manifest's or an index's. `diff_ids` are the unpacked layers, lowest first,
    `blobs` the digests of their packed form. `size` is in bytes on disk, with what other images
    share; `created` in seconds since 1970, when the name was given; `source` says for people
    where it came from; `key` tells builds apart and is empty for others.
    """

    name: str
    id: str
    manifest: str
    digest: str
    diff_ids: tuple[str, ...]
    blobs: tuple[str, ...]
    stack: str
    size: int
    platform: Platform
    config: ImageConfig
    created: float
    source: str
    key: str = ""

    @property
    def title(self) -> str:
        """The name, or the beginning of the id of an image that was built without one."""
        return self.id[7:19] if is_untagged(self.name) else self.name

    @property
    def reference(self) -> Reference:
        """The name in full."""
        return Reference.parse(self.name)

    def all_blobs(self) -> set[str]:
        """Everything in the blob store that this image needs to be saved again."""
        return {self.id, self.manifest, self.digest, *self.blobs}

    def to_json(self) -> dict[str, Any]:
        """For the store's records."""
        return {
            "version": VERSION, "name": self.name, "id": self.id, "manifest": self.manifest,
            "digest": self.digest, "diff_ids": list(self.diff_ids), "blobs": list(self.blobs),
            "stack": self.stack, "size": self.size, "platform": str(self.platform),
            "created": self.created, "source": self.source, "key": self.key,
            "config": self.config.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Image:
        """The opposite of `to_json`. Raises ValueError, KeyError, TypeError or SandboxError."""
        if data["version"] != VERSION:
            raise ValueError("another version of Sandlot wrote it")
        stack = str(data["stack"])
        check_digest(f"sha256:{stack}")
        return cls(
            name=Reference.parse(str(data["name"])).familiar, id=check_digest(data["id"]),
            manifest=check_digest(data["manifest"]), digest=check_digest(data["digest"]),
            diff_ids=tuple(check_digest(each) for each in data["diff_ids"]),
            blobs=tuple(check_digest(each) for each in data["blobs"]),
            stack=stack, size=int(data["size"]), platform=Platform.parse(data["platform"]),
            config=ImageConfig.from_json(data["config"]), created=float(data["created"]),
            source=str(data["source"]), key=str(data["key"]),
        )  # fmt: skip
