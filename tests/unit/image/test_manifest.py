from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import ConfigError, ImageError
from sandlot.image import manifest as m
from sandlot.image.config import DEFAULT_PATH

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
AMD = m.Platform("linux", "amd64")


def descriptor(kind: str, digest: str = A, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": 3, **more}


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2, "mediaType": m.OCI_MANIFEST, "config": descriptor(m.OCI_CONFIG),
        "layers": [descriptor(m.OCI_LAYER + "+gzip", B)], **more,
    }  # fmt: skip


def index(*platforms: str, **more: Any) -> dict[str, Any]:
    entries = []
    for number, text in enumerate(platforms):
        os, architecture, *variant = text.split("/")
        platform = {"os": os, "architecture": architecture}
        if variant:
            platform["variant"] = variant[0]
        entries.append(descriptor(m.OCI_MANIFEST, f"sha256:{number:064x}", platform=platform))
    return {"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": entries, **more}


def parse(data: object, media_type: str = "") -> m.Index | m.Manifest:
    return m.parse_manifest(json.dumps(data).encode(), media_type, name="thing")


def test_manifests_of_both_kinds() -> None:
    parsed = parse(manifest())
    assert isinstance(parsed, m.Manifest)
    assert parsed.config.digest == A and parsed.layers[0].digest == B and parsed.size == 6
    docker = manifest(
        mediaType=m.DOCKER_MANIFEST, config=descriptor(m.DOCKER_CONFIG),
        layers=[descriptor(m.DOCKER_LAYER + ".gzip")],
    )  # fmt: skip
    assert isinstance(parse(docker, m.DOCKER_MANIFEST + "; charset=utf-8"), m.Manifest)
    bare = manifest()
    del bare["mediaType"]
    assert parse(bare).media_type == m.OCI_MANIFEST
    assert parse(bare, m.OCI_MANIFEST).media_type == m.OCI_MANIFEST


def test_choosing_a_platform() -> None:
    parsed = parse(index("linux/arm64/v8", "linux/amd64", "linux/amd64/v3", "unknown/unknown"))
    assert isinstance(parsed, m.Index)
    assert parsed.choose(AMD).digest.endswith("1")
    assert parsed.choose(m.Platform.parse("linux/amd64/v3")).digest.endswith("2")
    assert parsed.choose(m.Platform.parse("arm64")).digest.endswith("0")
    with pytest.raises(ImageError) as caught:
        parsed.choose(m.Platform.parse("linux/s390x"), "thing")
    assert "thing has nothing for linux/s390x, only for linux/amd64" in caught.value.message
    assert "unknown" not in caught.value.message and "--platform" in caught.value.hint


def test_an_index_without_platforms() -> None:
    one = index()
    one["manifests"] = [descriptor(m.OCI_MANIFEST)]
    parsed = parse(one)
    assert isinstance(parsed, m.Index) and parsed.choose(AMD).digest == A
    one["manifests"].append(descriptor(m.OCI_MANIFEST, B))
    both = parse(one)
    assert isinstance(both, m.Index)
    with pytest.raises(ImageError, match="nothing for"):
        both.choose(AMD)


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"])
def test_platforms(text: str) -> None:
    assert str(m.Platform.parse(text)) == text


def test_bad_platforms() -> None:
    for text in ("", "/", "linux/", "a/b/c/d", "linux/am d64", "linux/\n"):
        with pytest.raises(ConfigError):
            m.Platform.parse(text)
    assert m.Platform.parse("x86_64") == AMD
    assert m.Platform("linux", "arm64", "v8").runs(m.Platform("linux", "arm64"))
    assert not m.Platform("linux", "arm64", "v9").runs(m.Platform("linux", "arm64"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (manifest(artifactType="application/x-thing"), "artifact of type 'application/x-thing'"),
        (manifest(config=descriptor("application/vnd.cncf.helm.config.v1+json")), "artifact"),
        (manifest(config=descriptor("application/vnd.oci.empty.v1+json")), "artifact"),
        (manifest(layers=[descriptor("application/x-wasm")]), "layer of the type"),
        (manifest(layers=[descriptor(m.DOCKER_LAYER.replace("diff", "foreign.diff"))]), "distrib"),
        ({"schemaVersion": 1, "fsLayers": []}, "schema 1"),
        (manifest(manifests=[]), "either"),
        ({"schemaVersion": 2, "mediaType": m.OCI_INDEX, "layers": []}, "no application"),
        ({}, "no image"),
        ({"mediaType": "application/x", "layers": []}, "no image"),
        ({"mediaType": 3, "layers": []}, "damaged"),
        (manifest(layers=3), "damaged: layers"),
        (manifest(layers=[3]), "damaged"),
        (manifest(layers=[descriptor(m.OCI_LAYER)] * 501), "more than 500"),
        (manifest(config=None), "damaged"),
        (manifest(config=descriptor(m.OCI_CONFIG, "sha256:../../x")), "digest"),
        (manifest(config=descriptor(m.OCI_CONFIG, "sha512:" + "a" * 128)), "digest"),
        (manifest(config=descriptor(m.OCI_CONFIG) | {"size": -1}), "size"),
        (manifest(config=descriptor(m.OCI_CONFIG) | {"size": True}), "size"),
        (manifest(config=descriptor(m.OCI_CONFIG) | {"size": 1 << 60}), "size"),
        ([], "JSON object"),
    ],
)
def test_refused(data: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        parse(data)
    assert "thing" in caught.value.message and "\n" not in caught.value.message


def test_bounds() -> None:
    with pytest.raises(ImageError, match="MAX_MANIFEST"):
        m.parse_manifest(b" " * (m.MAX_MANIFEST + 1))
    with pytest.raises(ImageError, match="MAX_CONFIG"):
        m.parse_config(b" " * (m.MAX_CONFIG + 1))
    for data in (b"[" * 100_000, b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", b"\xff", b""):
        with pytest.raises(ImageError):
            m.parse_manifest(data)
    with pytest.raises(ImageError, match="calls itself"):
        parse(manifest(), m.OCI_INDEX)


def config(**more: Any) -> bytes:
    top = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [B]},
        "config": {"Env": ["A=1"], "Cmd": ["sh"]}, **more,
    }  # fmt: skip
    return json.dumps(top).encode()


def test_configurations() -> None:
    inner: dict[str, Any] = {
        "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": None, "WorkingDir": "/w", "User": "u:g",
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD", "true"]}, "Labels": {"k": "v"},
    }  # fmt: skip
    parsed = m.parse_config(config(config=inner, variant="v3"))
    run = parsed.config
    assert run.env == {"A": "1", "PATH": DEFAULT_PATH} and run.entrypoint == ("/e",)
    assert (run.cmd, run.working_dir, run.user) == ((), "/w", "u:g")
    assert (run.exposed_ports, run.volumes, run.stop_signal) == (("80/tcp",), ("/v",), "SIGINT")
    assert run.healthcheck == {"Test": ["CMD", "true"]} and run.labels == {"k": "v"}
    assert parsed.diff_ids == (B,) and str(parsed.platform) == "linux/amd64/v3"
    assert type(run).from_json(run.to_json()) == run
    assert m.parse_config(config(config=None)).config.cmd == ()


@pytest.mark.parametrize(
    "more",
    [
        {"rootfs": None}, {"rootfs": {"type": "x"}}, {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": 3}}, {"config": [1]}, {"config": {"Env": 3}}, {"os": 3},
        {"config": {"Env": [3]}}, {"config": {"Labels": [1]}}, {"config": {"User": 3}},
        {"config": {"Volumes": "x"}}, {"config": {"Healthcheck": 1}},
    ],
)  # fmt: skip
def test_damaged_configurations(more: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=r"damaged|digest"):
        m.parse_config(config(**more))


def test_what_goes_together() -> None:
    parsed, conf = parse(manifest()), m.parse_config(config())
    assert isinstance(parsed, m.Manifest)
    m.check_fit(parsed, conf, AMD, "x")
    with pytest.raises(ImageError, match="not for linux/arm64"):
        m.check_fit(parsed, conf, m.Platform("linux", "arm64"), "x")
    with pytest.raises(ImageError, match="1 layers"):
        m.check_fit(parsed, m.parse_config(config(rootfs={"diff_ids": []})), AMD, "x")


def test_made_manifests_parse() -> None:
    layer = m.Descriptor(media_type=m.OCI_LAYER, digest=B, size=7)
    data = m.make_manifest(b"{}", (layer,))
    parsed = m.parse_manifest(data)
    assert isinstance(parsed, m.Manifest) and parsed.layers == (layer,)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from([A, m.OCI_LAYER]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mediaType", "digest", "size", "platform", "config", "layers", "os"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*manifest(), "manifests", "rootfs"]), json_values))
def test_whatever_comes_ends_in_image_error(top: dict[str, Any]) -> None:
    data = json.dumps(top).encode()
    for parser in (m.parse_manifest, m.parse_config):
        try:
            parser(data)
        except ImageError as error:
            assert "\n" not in error.message
