from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import multiprocessing
import os
import stat
import tarfile
from typing import TYPE_CHECKING, BinaryIO

import pytest

from sandlot.errors import ConfigError, ImageError, ImageNotFound, ResourceError
from sandlot.image.config import ImageConfig, host_architecture
from sandlot.image.digest import digest_of
from sandlot.image.manifest import OCI_LAYER, Descriptor, Platform, make_manifest
from sandlot.image.reference import Reference
from sandlot.image.scratch import reap, scratch
from sandlot.image.store import DEVICE_SIZE, ImageStore, validate_name
from tests.framework.erofs import ErofsReader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def put(store: ImageStore, name: str, data: bytes) -> Path:
    return store.add(name, ImageConfig(), lambda file: file.write(data), source="test").path


def files(store: ImageStore) -> list[str]:
    return sorted(
        str(path.relative_to(store.root))
        for path in store.root.rglob("*")
        if path.is_file() and path.name != "lock"
    )


def test_add_and_get(store: ImageStore) -> None:
    config = ImageConfig(
        env={"A": "b=c"}, entrypoint=("/init",), cmd=("-x",), working_dir="/srv", user="1:2",
        labels={"k": "v"}, architecture="arm64",
    )  # fmt: skip
    added = store.add("demo:latest", config, lambda f: f.write(b"abc"), source="here", key="k1")
    got = store.get("demo:latest")
    assert got == added and got.config == config
    assert got.size == 3 and got.path.stat().st_size == DEVICE_SIZE
    assert stat.S_IMODE(got.path.stat().st_mode) == 0o444
    assert store.find_key("k1") == got and store.find_key("") is None
    assert store.list() == [got]
    assert files(store)[1:] == ["images/demo%3Alatest.json"]


def test_equal_contents_are_stored_once(store: ImageStore) -> None:
    assert put(store, "a", b"same") == put(store, "b", b"same")
    store.remove("a")
    assert store.get("b").path.exists()
    store.remove("b")
    assert files(store) == []


def test_a_name_moves_on(store: ImageStore) -> None:
    old, new = put(store, "a", b"1"), put(store, "a", b"2")
    assert not old.exists() and store.get("a").path == new
    store.alias(store.get("a"), "b")
    put(store, "a", b"3")
    assert store.get("b").path == new and new.exists()


def test_not_found_has_a_hint(store: ImageStore) -> None:
    put(store, "python", b"x")
    with pytest.raises(ImageNotFound) as caught:
        store.get("pyhton")
    assert "`python`" in caught.value.hint and "sandlot image ls" in caught.value.hint
    with pytest.raises(ImageNotFound):
        store.remove("other")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/x", "-x", "a b", "a\nb", "a\0", "ä", "a" * 201, "/" * 90]
)
def test_bad_names(store: ImageStore, name: str) -> None:
    with pytest.raises(ConfigError):
        store.get(name)


def test_full_references_are_names(store: ImageStore) -> None:
    name = "registry.example:5000/a/b_c.d:v1@sha256:" + "0" * 64
    assert validate_name(name) == name
    put(store, name, b"x")
    assert [image.name for image in store.list()] == [name]


def test_a_failed_build_leaves_nothing(store: ImageStore) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add("a", ImageConfig(), write)
    assert files(store) == []

    def full(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(ResourceError):
        store.add("a", ImageConfig(), full)
    with pytest.raises(ImageError, match="empty"):
        store.add("a", ImageConfig(), lambda file: None)
    assert files(store) == []


def test_leftovers_of_the_dead_are_removed(store: ImageStore) -> None:
    place = store.scratch_folder
    place.mkdir(parents=True)
    for suffix in ("lock", "file"):
        (place / f"dead.{suffix}").touch()
    (place / "dead.folder").mkdir()
    with scratch(place) as living:
        living.file.touch()
        put(store, "a", b"x")
        assert living.file.exists()
        assert not list(place.glob("dead*"))
    assert list(place.iterdir()) == []


def test_blobs_without_a_record_are_removed(store: ImageStore) -> None:
    put(store, "a", b"x")
    stray = store.root / "blobs/sha256" / ("0" * 64 + ".erofs")
    stray.touch()
    put(store, "b", b"y")
    assert not stray.exists() and len(store.list()) == 2


def test_damaged_records(store: ImageStore) -> None:
    blob = put(store, "a", b"x")
    record = store.root / "images/a.json"
    data = json.loads(record.read_text())
    for damage in ("", "{", "[]", json.dumps(data | {"digest": "sha256:../../x"})):
        record.write_text(damage)
        with pytest.raises(ImageError, match="damaged"):
            store.get("a")
        assert store.list() == []
    put(store, "b", b"y")
    assert blob.exists()  # nobody knows whose it is
    record.unlink()
    put(store, "c", b"z")
    assert not blob.exists()


def _race(root: Path, seed: int) -> None:
    store = ImageStore(root)
    for i in range(40):
        name = f"n{(i + seed) % 3}"
        path = put(store, name, b"content %d" % (i % 4))
        assert str(path)
        for image in store.list():
            with contextlib.suppress(FileNotFoundError), image.path.open("rb") as file:
                assert file.read(8) == b"content "
        with contextlib.suppress(ImageNotFound):
            store.remove(f"n{i % 3}")


def test_processes_racing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    racers = [context.Process(target=_race, args=(tmp_path / "s", i)) for i in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    store = ImageStore(tmp_path / "s")
    for image in store.list():
        assert image.path.exists()
        store.remove(image.name)
    assert files(store) == []


def test_scratch_lives_as_long_as_a_child_that_has_its_lock(tmp_path: Path) -> None:
    (tmp_path / "x.lock").touch()
    fd = os.open(tmp_path / "x.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    child = os.dup(fd)
    os.close(fd)
    assert reap(tmp_path) == 0
    os.close(child)
    assert reap(tmp_path) == 1
    assert reap(tmp_path / "missing") == 0


def oci_image(store: ImageStore, *layers: bytes, **config: object) -> str:
    """An image in the store's blobs; returns its manifest's digest."""
    raw = {
        "os": "linux", "architecture": host_architecture(), "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }  # fmt: skip
    blob = json.dumps(raw).encode()
    store.blobs.put(blob)
    descriptors = tuple(
        Descriptor(media_type=OCI_LAYER, digest=store.blobs.put(layer), size=len(layer))
        for layer in layers
    )
    return store.blobs.put(make_manifest(blob, descriptors))


def layer(**files: bytes | None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(data or b"")
            if data is None:
                info.name = f"{info.name.rpartition('/')[0]}/.wh.{info.name.rpartition('/')[2]}"
            tar.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def test_an_image_from_blobs(store: ImageStore) -> None:
    manifest = oci_image(store, layer(a__x=b"1", a__y=b"2"), layer(a__x=None, b=b"3"), Cmd=["sh"])
    image = store.add_oci(Reference.parse("demo:1"), manifest)
    assert image.config.cmd == ("sh",) and store.get("demo:1") == image
    reader = ErofsReader(image.path)
    found = reader.walk()
    assert sorted(found) == [b"", b"a", b"a/y", b"b"]
    assert reader.data(found[b"b"]) == b"3"
    reader.close()
    with pytest.raises(ImageError, match="not for linux/s390x"):
        store.add_oci("other", manifest, platform=Platform.parse("s390x"))
    with pytest.raises(ImageError, match="not in the image store"):
        store.add_oci("other", "sha256:" + "0" * 64)
