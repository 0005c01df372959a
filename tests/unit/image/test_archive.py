from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import backports.zstd as zstd
import pytest

from sandlot.errors import ConfigError, ImageError, StateError
from sandlot.image.archive import import_root, load_images
from sandlot.image.config import host_architecture
from sandlot.image.digest import digest_of
from sandlot.image.manifest import OCI_INDEX, OCI_MANIFEST
from sandlot.image.saving import save_images
from sandlot.image.store import ImageStore
from tests.framework.images import add_image, entry, layer, look

LAYERS = (layer(entry("a", b"1"), entry("b", b"2")), layer(entry(".wh.a"), entry("c", b"3")))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> ImageStore:
    """Where images come from."""
    store = ImageStore(tmp_path / "other")
    add_image(store, "demo:1", *LAYERS, Cmd=["x"], Labels={"k": "v"})
    return store


def left(store: ImageStore) -> list[str]:
    """What is in the store but locks."""
    return sorted(
        path.name
        for path in store.root.rglob("*")
        if path.is_file() and path.suffix not in (".lock",) and path.parent.name != "locks"
        and path.name != "lock"
    )  # fmt: skip


def check(store: ImageStore, name: str, tmp_path: Path) -> None:
    image = store.get(name)
    assert image.config.cmd == ("x",) and image.config.labels == {"k": "v"}
    reader, found = look(store, image, tmp_path / "device")
    assert b"a" not in found and reader.data(found[b"c"]) == b"3"
    reader.close()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_archives_come_back(
    store: ImageStore, other: ImageStore, tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]
) -> None:
    save_images(other, ["demo:1"], tmp_path / "demo.tar", format=kind)
    packed = tmp_path / "packed"
    packed.write_bytes(pack((tmp_path / "demo.tar").read_bytes()))
    told: list[float | None] = []
    made = load_images(store, packed, progress=lambda stage, fraction: told.append(fraction))
    assert [image.name for image in made] == ["demo:1"] and told
    assert made[0].id == other.get("demo:1").id
    if kind == "oci-archive":
        assert made[0].manifest == other.get("demo:1").manifest
    check(store, "demo:1", tmp_path)
    stream = cast("BinaryIO", io.BytesIO(packed.read_bytes()))
    assert load_images(store, stream, name="renamed")[0].name == "renamed:latest"
    for name in ("demo:1", "renamed"):
        store.remove(name)
    assert left(store) == []


def test_a_folder(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    save_images(other, ["demo:1"], tmp_path / "layout", format="oci-dir")
    assert load_images(store, tmp_path / "layout")[0].digest == other.get("demo:1").digest
    check(store, "demo:1", tmp_path)


def test_several_images(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    add_image(other, "two", LAYERS[0], Cmd=["x"])
    other.alias(other.get("demo:1"), "alias:2")
    for kind in ("docker-archive", "oci-archive"):
        target = tmp_path / kind
        save_images(other, ["demo:1", "two", "alias:2", "two"], target, format=kind)
        assert {i.name for i in load_images(store, target)} == {"demo:1", "two:latest", "alias:2"}
        with pytest.raises(ConfigError, match=r"[23] images"):
            load_images(store, target, name="one")
    with tarfile.open(tmp_path / "docker-archive") as tar:
        assert len([name for name in tar.getnames() if name.endswith(".tar")]) == 2


def archive(tmp_path: Path, files: dict[str, bytes]) -> Path:
    target = tmp_path / "archive.tar"
    target.write_bytes(layer(*(entry(name, data) for name, data in files.items())))
    return target


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {m.name: cast("Any", tar.extractfile(m)).read() for m in tar if m.isfile()}


def test_links_between_equal_layers(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    """As Docker wrote them before 25: a folder for each layer, and links between equal ones."""
    config = other.blobs.read(other.get("demo:1").id, 10_000)
    top = [{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]
    doubled = json.loads(config)
    doubled["rootfs"]["diff_ids"] = [digest_of(LAYERS[0])] * 2
    members = [
        entry("1/VERSION", b"1.0"), entry("1/json", b"{}"), entry("1/layer.tar", LAYERS[0]),
        entry("2/layer.tar", type=tarfile.SYMTYPE, linkname="../1/layer.tar"),
        entry("c.json", json.dumps(doubled).encode()), entry("repositories", b"{}"),
        entry("manifest.json", json.dumps(top).encode()),
    ]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(layer(*members))
    image = load_images(store, tmp_path / "a.tar")[0]
    assert image.name == "old:1" and len(image.diff_ids) == 2


def test_platforms(store: ImageStore, tmp_path: Path) -> None:
    blobs, entries = {}, []
    for architecture in (host_architecture(), "s390x"):
        config = json.dumps(
            {"os": "linux", "architecture": architecture,
             "rootfs": {"type": "layers", "diff_ids": []}}
        ).encode()  # fmt: skip
        document = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [], "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest_of(config), "size": len(config)}}
        ).encode()  # fmt: skip
        for data in (config, document):
            blobs[f"blobs/sha256/{digest_of(data)[7:]}"] = data
        entries.append(
            {"mediaType": OCI_MANIFEST, "digest": digest_of(document), "size": len(document),
             "platform": {"os": "linux", "architecture": architecture}}
        )  # fmt: skip
    inner = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    data = json.dumps(inner).encode()
    flat = {**blobs, "index.json": data}
    nested = {
        **blobs,
        f"blobs/sha256/{digest_of(data)[7:]}": data,
        "index.json": json.dumps(
            {"schemaVersion": 2, "manifests": [
                {"mediaType": OCI_INDEX, "digest": digest_of(data), "size": len(data)}]}
        ).encode(),
    }  # fmt: skip
    for files in (flat, nested):
        source = archive(tmp_path, files)
        mine = load_images(store, source, name="multi")[0]
        assert mine.config.architecture == host_architecture()
        foreign = load_images(store, source, name="multi", platform="linux/s390x")[0]
        assert foreign.config.architecture == "s390x"
        with pytest.raises(ImageError, match=r"nothing for linux/riscv64, only for linux/amd64"):
            load_images(store, source, name="multi", platform="riscv64")
    assert store.get(f"multi@{digest_of(data)}").id == foreign.id


def test_bad_archives(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    save_images(other, ["demo:1"], tmp_path / "docker.tar")
    save_images(other, ["demo:1"], tmp_path / "oci.tar", format="oci-archive")
    docker, oci = contents(tmp_path / "docker.tar"), contents(tmp_path / "oci.tar")
    image = other.get("demo:1")
    config, blob = f"{image.id[7:]}.json", f"blobs/sha256/{image.blobs[0][7:]}"
    top = json.loads(docker["manifest.json"])
    cases: list[tuple[dict[str, bytes], str]] = [
        ({}, "neither manifest.json nor index.json"),
        ({"x": b"y"}, "neither"),
        ({k: v for k, v in docker.items() if k != config}, "lacks the file"),
        (docker | {config: b"{}"}, "configuration .* is damaged"),
        (docker | {top[0]["Layers"][0]: b"garbage"}, "no tar stream|tar"),
        (docker | {top[0]["Layers"][0]: LAYERS[1]}, "is damaged: its contents"),
        (docker | {"manifest.json": b"{"}, "not JSON"),
        (docker | {"manifest.json": b"{}"}, "damaged"),
        (docker | {"manifest.json": b"[3]"}, "damaged"),
        (docker | {"manifest.json": json.dumps([top[0] | {"RepoTags": []}]).encode()}, "--name"),
        (docker | {"manifest.json": json.dumps([top[0] | {"Layers": 3}]).encode()}, "Layers"),
        (docker | {"manifest.json": json.dumps([top[0] | {"RepoTags": ["A b"]}]).encode()}, "name"),
        ({k: v for k, v in oci.items() if k != blob}, "lacks the blob"),
        (oci | {blob: b"garbage"}, "digest"),
        (oci | {"index.json": b"[]"}, "JSON object"),
        (oci | {"index.json": b'{"manifests": []}'}, ""),
        ({**docker, "../x": b"evil"}, "'..'"),
    ]
    for files, message in cases:
        source = archive(tmp_path, files)
        if not message:
            assert load_images(store, source) == []
            continue
        with pytest.raises((ImageError, ConfigError)) as caught:
            load_images(store, source)
        text = f"{caught.value} {caught.value.hint}"
        assert re.search(message, text), (message, text)
        assert "\n" not in caught.value.message and left(store) == [], message
    whole = (tmp_path / "docker.tar").read_bytes()
    for data in (b"", b"no archive at all", whole[: len(whole) // 2], gzip.compress(whole)[:-20]):
        (tmp_path / "cut").write_bytes(data)
        with pytest.raises(ImageError) as caught:
            load_images(store, tmp_path / "cut")
        assert caught.value.message.startswith(f"{tmp_path}/cut: ") and caught.value.hint
        assert ("cut off" in caught.value.message) == (len(data) > 100), caught.value
        with pytest.raises(ImageError, match="the archive"):
            load_images(store, io.BytesIO(data))
        assert left(store) == []
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(ImageError):
            load_images(store, missing)


def test_a_root_file_system(store: ImageStore, tmp_path: Path) -> None:
    for pack in (bytes, gzip.compress, zstd.compress):
        source = cast("BinaryIO", io.BytesIO(pack(layer(entry("etc/x", b"1")))))
        image = import_root(store, source, "base")
        assert image.diff_ids == (digest_of(layer(entry("etc/x", b"1"))),)
    with pytest.raises(ImageError):
        import_root(store, cast("BinaryIO", io.BytesIO(b"garbage")), "other")
    assert [image.name for image in store.list()] == ["base:latest"]


def test_saving_fails_cleanly(
    other: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConfigError, match="not known"):
        save_images(other, ["demo:1"], out / "x", format="zip")
    with pytest.raises(ConfigError, match="oci-dir"):
        save_images(other, ["demo:1"], cast("BinaryIO", io.BytesIO()), format="oci-dir")
    with pytest.raises(ConfigError, match="is a folder"):
        save_images(other, ["demo:1"], out)
    with pytest.raises(StateError, match="cannot be written"):
        save_images(other, ["demo:1"], out / "missing" / "x")
    image = other.get("demo:1")
    blob = other.blobs.path(image.blobs[1])
    data = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(gzip.compress(LAYERS[0]))
    with pytest.raises(ImageError, match="is damaged"):
        save_images(other, ["demo:1"], out / "x")
    blob.unlink()
    with pytest.raises(ImageError, match="cannot be saved"):
        save_images(other, ["demo:1"], out / "x")
    blob.write_bytes(data)
    save_images(other, ["demo:1"], out / "x")
    assert [path.name for path in out.iterdir()] == ["x"]
