"""Indexes, manifests and configurations, as registries and archives give them. Pure and bounded.

Source: the OCI image specification 1.1 (`image-index.md`, `manifest.md`, `config.md`) and
Docker's "Image Manifest Version 2, Schema 2". Everything here comes from strangers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandlot.errors import ConfigError, ImageError
from sandlot.image.config import ImageConfig, host_architecture
from sandlot.image.digest import check_digest, digest_of

MAX_MANIFEST = 4 << 20  # bytes; what registries accept
MAX_CONFIG = 8 << 20  # bytes
MAX_LAYERS = 500
MAX_PLATFORMS = 1000
MAX_DEPTH = 64  # of nested JSON

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPTED_TYPES = (*MANIFEST_TYPES, *INDEX_TYPES)
"""What to ask a registry for."""

_CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
_LAYER_TYPES = {
    base + end
    for base in (OCI_LAYER, DOCKER_LAYER)
    for end in ("", "+gzip", "+zstd", ".gzip", ".zstd")
}
_OLD_TYPES = ("application/vnd.docker.distribution.manifest.v1",)


@dataclass(frozen=True)
class Platform:
    """What an image runs on.

    >>> Platform.parse("linux/arm64/v8")
    Platform(os='linux', architecture='arm64', variant='v8')
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """`os/arch`, `os/arch/variant` or only `arch`. Raises ConfigError."""
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        names = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
        parts[1] = names.get(parts[1], parts[1])
        if not 2 <= len(parts) <= 3 or not all(p and p.replace("-", "").isalnum() for p in parts):
            raise ConfigError(
                f"{text!r} is no platform", hint="write it like linux/amd64 or linux/arm64/v8"
            )
        return cls(*parts)

    @classmethod
    def host(cls) -> Platform:
        """This machine's, on which guests run too."""
        return cls("linux", host_architecture())

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def runs(self, other: Platform) -> bool:
        """Whether an image for `other` is one for this platform."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return False
        usual = {"arm64": "v8", "arm": "v7"}.get(self.architecture, "")
        return not self.variant or self.variant == (other.variant or usual)


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """A pointer to a blob, with its size in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """With the specification's keys."""
        data: dict[str, Any] = {
            "mediaType": self.media_type, "digest": self.digest, "size": self.size,
        }  # fmt: skip
        if self.platform is not None:
            data["platform"] = {
                "architecture": self.platform.architecture, "os": self.platform.os,
                **({"variant": self.platform.variant} if self.platform.variant else {}),
            }  # fmt: skip
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return data


@dataclass(frozen=True, kw_only=True)
class Index:
    """One image for several platforms."""

    digest: str
    media_type: str
    manifests: tuple[Descriptor, ...]

    def choose(self, platform: Platform, name: str = "the image") -> Descriptor:
        """The manifest for a platform. Raises ImageError, whose message tells what there is."""
        fitting = [d for d in self.manifests if d.platform and platform.runs(d.platform)]
        # Without a variant asked for, the plainest is the one that runs everywhere.
        if fitting:
            return min(fitting, key=lambda d: d.platform.variant if d.platform else "")
        bare = [d for d in self.manifests if d.platform is None and d.media_type not in INDEX_TYPES]
        if len(self.manifests) == 1 and bare:
            return bare[0]  # its configuration tells
        there = sorted({str(d.platform) for d in self.manifests if _is_real(d.platform)})
        raise ImageError(
            f"{name} has nothing for {platform}, only for {', '.join(there) or 'no platform'}",
            hint="choose one of them with --platform" if there else "",
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One image for one platform."""

    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def size(self) -> int:
        """Bytes to transfer."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class OciConfig:
    """An image's configuration: how it is run, and which unpacked layers it consists of.

    `raw` is all of it.
    """

    digest: str
    platform: Platform
    config: ImageConfig
    diff_ids: tuple[str, ...]
    raw: Mapping[str, Any]


def parse_manifest(
    data: bytes, media_type: str = "", *, name: str = "the image"
) -> Index | Manifest:
    """An index or a manifest. `media_type` is what its bearer called it, if anything.

    Raises ImageError when it is damaged, too large, an artifact or of an old kind; `name` is
    for the message.
    """
    if len(data) > MAX_MANIFEST:
        raise ImageError(
            f"the manifest of {name} is larger than {MAX_MANIFEST} bytes (MAX_MANIFEST)"
        )
    top = _load(data, f"the manifest of {name}")
    kind = _kind(top, media_type.partition(";")[0].strip(), name)
    try:
        if kind in INDEX_TYPES:
            manifests = _list(top, "manifests", MAX_PLATFORMS)
            return Index(
                digest=digest_of(data), media_type=kind,
                manifests=tuple(_descriptor(each) for each in manifests),
            )  # fmt: skip
        config = _descriptor(top.get("config"))
        _refuse_artifact(top, config, name)
        layers = tuple(_descriptor(each) for each in _list(top, "layers", MAX_LAYERS))
        for layer in layers:
            _check_layer(layer, name)
        return Manifest(digest=digest_of(data), media_type=kind, config=config, layers=layers)
    except _Damaged as error:
        raise ImageError(f"the manifest of {name} is damaged: {error}") from None


def parse_config(data: bytes, *, name: str = "the image") -> OciConfig:
    """An image's configuration. Raises ImageError when it is damaged or too large."""
    what = f"the configuration of {name}"
    if len(data) > MAX_CONFIG:
        raise ImageError(f"{what} is larger than {MAX_CONFIG} bytes (MAX_CONFIG)")
    top = _load(data, what)
    try:
        inner = top.get("config") or {}
        rootfs = top.get("rootfs")
        if not isinstance(inner, Mapping) or not isinstance(rootfs, Mapping):
            raise _Damaged("config or rootfs")
        if rootfs.get("type") not in ("layers", None):
            raise _Damaged(f"rootfs of type {str(rootfs.get('type'))[:40]!r}")
        diff_ids = tuple(check_digest(each) for each in _list(rootfs, "diff_ids", MAX_LAYERS))
        platform = Platform(
            _text(top, "os", "linux"), _text(top, "architecture", host_architecture()),
            _text(top, "variant", ""),
        )  # fmt: skip
    except _Damaged as error:
        raise ImageError(f"{what} is damaged: {error}") from None
    config = ImageConfig.from_json({**inner, "architecture": platform.architecture})
    return OciConfig(
        digest=digest_of(data), platform=platform, config=config, diff_ids=diff_ids, raw=top
    )


def check_fit(manifest: Manifest, config: OciConfig, platform: Platform | None, name: str) -> None:
    """Whether configuration, manifest and platform go together. Raises ImageError."""
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageError(
            f"{name} is damaged: it has {len(manifest.layers)} layers, and its configuration"
            f" {len(config.diff_ids)}"
        )
    wanted = platform or Platform.host()
    if not wanted.runs(config.platform):
        raise ImageError(
            f"{name} is for {config.platform}, not for {wanted}",
            hint=f"take it all the same with --platform {config.platform}"
            if platform is None
            else "",
        )


def make_manifest(config: bytes, layers: tuple[Descriptor, ...]) -> bytes:
    """A manifest for an image that had none."""
    descriptor = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    data = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }  # fmt: skip
    return json.dumps(data, separators=(",", ":")).encode()


# Section: what strangers write


class _Damaged(Exception):
    pass


def _load(data: bytes, what: str) -> Mapping[str, Any]:
    try:
        top = json.loads(data)
    except (ValueError, RecursionError):
        raise ImageError(f"{what} is damaged: it is not JSON") from None
    if not isinstance(top, dict) or not _shallow(top, MAX_DEPTH):
        raise ImageError(f"{what} is damaged: it is no JSON object of a sane depth")
    return top


def _shallow(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_shallow(each, depth - 1) for each in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_shallow(each, depth - 1) for each in value)
    return True


def _kind(top: Mapping[str, Any], given: str, name: str) -> str:
    """Which of the four it is: by its own word, its bearer's, or what is in it."""
    own = top.get("mediaType")
    if own is not None and not isinstance(own, str):
        raise ImageError(f"the manifest of {name} is damaged: mediaType")
    known = ACCEPTED_TYPES
    if own in known and given in known and own != given:
        raise ImageError(f"the manifest of {name} is damaged: it calls itself {own}, not {given}")
    for kind in (own, given):
        if kind in known:
            chosen = kind
            break
    else:
        old = top.get("schemaVersion") == 1 or any((own or given).startswith(t) for t in _OLD_TYPES)
        if old:
            raise ImageError(
                f"{name} has the format of before 2016 (schema 1), which is not supported",
                hint="push it again with a newer tool",
            )
        if own or ("layers" not in top and "manifests" not in top):
            raise ImageError(
                f"{name} is of the type {(own or given or 'unknown')[:100]!r}, which is no image"
            )
        chosen = OCI_INDEX if "manifests" in top else OCI_MANIFEST
    # Both kinds at once is the trick of CVE-2021-41190: one tool checks one, another runs the other.
    if ("manifests" in top) == ("layers" in top or "config" in top):
        raise ImageError(f"the manifest of {name} is damaged: it is not either image or index")
    if ("manifests" in top) != (chosen in INDEX_TYPES):
        raise ImageError(f"the manifest of {name} is damaged: it is no {chosen}")
    return chosen


def _refuse_artifact(top: Mapping[str, Any], config: Descriptor, name: str) -> None:
    kind = top.get("artifactType")
    if config.media_type in _CONFIG_TYPES and not kind:
        return
    what = str(kind or config.media_type)[:100]
    raise ImageError(
        f"{name} is an artifact of type {what!r}, not an image that can run",
        hint="fetch artifacts with a tool made for them, such as oras",
    )


def _check_layer(layer: Descriptor, name: str) -> None:
    if layer.media_type in _LAYER_TYPES:
        return
    kind = layer.media_type[:100]
    if "foreign" in kind or "nondistributable" in kind:
        raise ImageError(f"{name} has a layer that may not be distributed, as Windows images have")
    raise ImageError(
        f"{name} has a layer of the type {kind!r}, which is not supported",
        hint="supported are tar, tar+gzip and tar+zstd",
    )


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, Mapping):
        raise _Damaged("a descriptor")
    size = value.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 50:
        raise _Damaged(f"size {str(size)[:40]}")
    try:
        digest = check_digest(value.get("digest"))
    except ImageError as error:
        raise _Damaged(error.message) from None
    platform = value.get("platform")
    if platform is not None and not isinstance(platform, Mapping):
        raise _Damaged("platform")
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise _Damaged("annotations")
    return Descriptor(
        media_type=_text(value, "mediaType", ""), digest=digest, size=size,
        platform=Platform(
            _text(platform, "os", ""), _text(platform, "architecture", ""),
            _text(platform, "variant", ""),
        ) if platform else None,
        annotations={str(k): str(v) for k, v in annotations.items()},
    )  # fmt: skip


def _is_real(platform: Platform | None) -> bool:
    """Build records stand in indexes as images for the platform `unknown`."""
    return platform is not None and platform.os != "unknown"


def _list(data: Mapping[str, Any], key: str, limit: int) -> list[Any]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _Damaged(key)
    if len(value) > limit:
        raise _Damaged(f"{len(value)} {key} are more than {limit}")
    return value


def _text(data: Mapping[str, Any], key: str, default: str) -> str:
    value = data.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str) or len(value) > 1000:
        raise _Damaged(key)
    return value
