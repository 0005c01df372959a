from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from sandlot.errors import ConfigError, ImageError, ImageNotFound, ResourceError
from sandlot.image import layers as layers_module
from sandlot.image.device import DEVICE_SIZE
from sandlot.image.digest import digest_of
from sandlot.image.manifest import Platform
from sandlot.image.records import Image
from sandlot.image.reference import Reference
from sandlot.image.scratch import reap, scratch
from sandlot.image.store import ImageStore
from sandlot.sandbox.host import Host
from tests.framework.images import add_image, entry, layer, look, put_image

BASE = layer(entry("a/x", b"1"), entry("a/y", b"2"))
TOP = layer(entry("a/.wh.x"), entry("b", b"3"))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def put(store: ImageStore, name: str, data: bytes) -> Image:
    return add_image(store, name, layer(entry("file", data)))


def files(store: ImageStore) -> list[str]:
    """Everything in the store but locks."""
    return sorted(
        str(path.relative_to(store.root))
        for path in store.root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent.name != "locks"
        and path.name != "lock"
    )  # fmt: skip


def test_add_and_get(store: ImageStore, tmp_path: Path) -> None:
    added = add_image(store, "demo", BASE, TOP, Cmd=["sh"], Labels={"k": "v"}, StopSignal="SIGINT")
    assert added.name == "demo:latest" and added.config.cmd == ("sh",)
    assert added.config.stop_signal == "SIGINT" and added.config.labels == {"k": "v"}
    for name in ("demo", "demo:latest", "library/demo", added.id, added.id[7:15], added.id[:20]):
        assert store.get(name) == added, name
    assert store.get(f"demo@{added.digest}") == added
    assert store.list() == [added] and store.find_key(added.key) == added
    assert store.find_key("") is None
    reader, found = look(store, added, tmp_path / "device")
    assert {b"a/y", b"b", b"tmp"} < found.keys() and b"a/x" not in found
    assert reader.data(found[b"b"]) == b"3"
    reader.close()


def test_the_device_has_one_length(store: ImageStore) -> None:
    for number, parts in enumerate(((), (BASE,), (BASE, TOP), (BASE, layer(), TOP, BASE))):
        image = add_image(store, f"n{number}", *parts)
        pieces = store.device(image)
        assert sum(length for _, _, length in pieces) == DEVICE_SIZE
        for path, offset, length in pieces:
            assert offset + length <= path.stat().st_size and not (offset | length) % 4096
            assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_layers_are_shared(store: ImageStore) -> None:
    one = add_image(store, "one", BASE)
    two = add_image(store, "two", BASE, TOP)
    assert len(list(store.root.glob("layers/*.data"))) == 2
    first = {path for path, _, _ in store.device(one)}
    second = {path for path, _, _ in store.device(two)}
    assert store.layers.data(digest_of(BASE)) in first & second
    store.remove("one")
    assert store.layers.has(digest_of(BASE)) and not store.layers.metadata(one.stack).exists()
    store.remove("two")
    assert files(store) == []


def test_a_known_image_reads_no_layer(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add_image(store, "one", BASE, TOP)

    def forbidden(*_: object) -> None:
        raise AssertionError("a layer was unpacked twice")

    monkeypatch.setattr(store.layers, "_unpack", forbidden)
    monkeypatch.setattr(store.layers, "_stack", forbidden)
    other = add_image(store, "two", BASE, TOP, Cmd=["other"])
    assert other.stack == store.get("one").stack and other.id != store.get("one").id


def test_two_layers_are_unpacked_at_a_time(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(2, timeout=60)
    real = store.layers.unpack

    def unpack(*args: object) -> None:
        meeting.wait()
        real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(store.layers, "unpack", unpack)
    add_image(store, "one", BASE, TOP)


def test_a_name_moves_on(store: ImageStore) -> None:
    old, new = put(store, "a", b"1"), put(store, "a", b"2")
    assert not store.layers.has(old.diff_ids[0]) and store.get("a") == new
    store.alias(store.get("a"), "b")
    put(store, "a", b"3")
    assert store.get("b").id == new.id and store.device(store.get("b"))
    with pytest.raises(ImageNotFound):
        store.alias(old, "c")


def test_not_found_has_a_hint(store: ImageStore) -> None:
    put(store, "python", b"x")
    with pytest.raises(ImageNotFound) as caught:
        store.get("pyhton")
    assert "`python:latest`" in caught.value.hint and "sandlot image ls" in caught.value.hint
    with pytest.raises(ImageNotFound):
        store.remove("other")
    with pytest.raises(ImageNotFound):
        store.get("abcdef012345")
    with pytest.raises(ConfigError):
        store.get("No")


def test_an_id_that_is_not_enough(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a", b"1")
    image = put(store, "b", b"2")
    monkeypatch.setattr("sandlot.image.store._SHORT_ID", _anything())
    with pytest.raises(ImageError, match="several images"):
        store.get("")
    assert store.get(image.id[7:]).name == "b:latest"


def _anything() -> object:
    import re

    return re.compile("(?:sha256:)?([0-9a-f]{0,64})")


def test_what_does_not_fit_is_refused(store: ImageStore) -> None:
    manifest = put_image(store, BASE)
    with pytest.raises(ImageError, match="not for linux/s390x"):
        store.add_oci("demo", manifest, platform=Platform.parse("s390x"))
    with pytest.raises(ImageError, match="not in the image store"):
        store.add_oci("demo", "sha256:" + "0" * 64)
    assert store.list() == []


def test_a_failure_leaves_nothing(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = layer(entry("file", b"x"), entry("../out", b"evil"))
    dangling = layer(entry("link", type=b"1", linkname="nothing"))
    for bad in (broken, dangling, b"garbage" * 100, b""):
        with pytest.raises(ImageError):
            add_image(store, "demo", BASE, bad)
        assert files(store) == []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(ResourceError, match="no room"):
        add_image(store, "demo", BASE)
    assert files(store) == []
    monkeypatch.undo()
    monkeypatch.setattr(layers_module, "SPARE_DISK", 1 << 60)
    with pytest.raises(ResourceError, match="are left"):
        add_image(store, "demo", BASE)
    assert files(store) == []


def test_what_is_kept_for_another_try(store: ImageStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.working(keep=True):
        put_image(store, BASE)
        raise KeyboardInterrupt
    assert len(files(store)) == 3
    store.clean()
    assert len(files(store)) == 3
    store.clean(older=-1)
    assert files(store) == []


def test_a_progress_that_raises_ends_the_work(store: ImageStore) -> None:
    def progress(stage: str, fraction: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), store.working():
        store.add_oci("demo", put_image(store, BASE, TOP), progress=progress)
    assert files(store) == []


def test_a_damaged_blob_is_fetched_anew(store: ImageStore) -> None:
    with store.working():
        manifest = put_image(store, BASE)
        blob = store.blobs.path(
            json.loads(store.blobs.read(manifest, 10_000))["layers"][0]["digest"]
        )
        blob.chmod(0o600)
        blob.write_bytes(blob.read_bytes()[:-9])
        with pytest.raises(ImageError, match=r"ends in the middle|damaged"):
            store.add_oci("demo", manifest)
        assert not blob.exists()
        store.add_oci("demo", put_image(store, BASE))


def test_a_layer_that_is_not_what_the_configuration_says(store: ImageStore) -> None:
    with pytest.raises(ImageError, match="its contents have the digest"), store.working():
        store.layers.unpack(digest_of(b"other"), io.BytesIO(BASE))
    assert not list(store.root.glob("layers/*"))


def test_a_damaged_index_is_made_anew(store: ImageStore) -> None:
    image = add_image(store, "demo", BASE)
    index = store.root / "layers" / f"{digest_of(BASE)[7:]}.index"
    index.chmod(0o600)
    index.write_bytes(index.read_bytes()[:-1])
    store.layers.metadata(image.stack).unlink()
    with pytest.raises(ImageError, match="removed, or is damaged"):
        store.device(image)
    with pytest.raises(ImageError, match="index is damaged"):
        add_image(store, "demo", BASE)
    assert store.device(add_image(store, "demo", BASE))


def test_leftovers_of_the_dead_are_removed(store: ImageStore) -> None:
    place = store.scratch_folder
    place.mkdir(parents=True)
    for suffix in ("lock", "file"):
        (place / f"dead.{suffix}").touch()
    (place / "dead.folder").mkdir()
    with scratch(place) as living:
        living.file.touch()
        store.clean()
        assert living.file.exists()
        assert not list(place.glob("dead*"))
    assert list(place.iterdir()) == []


def test_strays_are_removed_when_they_are_old_and_nobody_works(store: ImageStore) -> None:
    put(store, "a", b"x")
    stray = store.blobs.put(b"stray")
    for path in store.root.rglob("*"):
        os.utime(path, (1, 1))
    with store.working():
        store.clean()
        assert store.blobs.exists(stray)
    store.clean()
    assert not store.blobs.exists(stray) and store.device(store.get("a"))


def test_damaged_records(store: ImageStore) -> None:
    image = put(store, "a", b"x")
    record = next(store.root.glob("images/*.json"))
    data = json.loads(record.read_text())
    for damage in (
        "", "{", "[]", json.dumps(data | {"stack": "../../x"}), json.dumps(data | {"version": 9}),
        json.dumps(data | {"name": "../x"}), json.dumps(data | {"diff_ids": [1]}),
    ):  # fmt: skip
        record.write_text(damage)
        with pytest.raises(ImageError, match="damaged") as caught:
            store.get("a")
        assert str(record) in caught.value.hint and store.list() == []
    other = put(store, "b", b"y")
    store.remove("b")
    assert store.layers.has(image.diff_ids[0])  # nobody knows whose it is
    record.unlink()
    store.clean(older=-1)
    assert not store.layers.has(image.diff_ids[0]) and not store.layers.has(other.diff_ids[0])


def test_what_an_older_sandlot_left_is_removed(store: ImageStore) -> None:
    put(store, "a", b"x")
    (store.root / "blobs/sha256" / ("0" * 64 + ".erofs")).touch()
    (store.root / "images/demo.json").write_text('{"version": 1, "name": "demo"}')
    store.clean()
    assert not list(store.root.rglob("0*.erofs")) and not (store.root / "images/demo.json").exists()


def test_long_names(store: ImageStore) -> None:
    name = "registry.example:5000/" + "/".join(["part" * 9] * 6) + ":" + "t" * 128
    put(store, name, b"x")
    assert store.get(name).name == name == store.list()[0].name


def _race(root: Path, seed: int) -> None:
    store = ImageStore(root)
    for number in range(12):
        image = put(store, f"n{(number + seed) % 3}", b"content %d" % (number % 4))
        assert image.size
        for each in store.list():
            with contextlib.suppress(FileNotFoundError, ImageError):
                for path, _, _ in store.device(each):
                    path.open("rb").close()
        with contextlib.suppress(ImageNotFound):
            store.remove(f"n{number % 3}")


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
        assert store.device(image)
        store.remove(image.name)
    store.clean(older=-1)
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


def test_by_reference(store: ImageStore) -> None:
    with store.working():
        digest = "sha256:" + "1" * 64
        image = store.add_oci(Reference.parse("x/y:1"), put_image(store, BASE), digest=digest)
    assert store.get(f"x/y@{digest}") == image
    with pytest.raises(ImageNotFound):
        store.get(f"x/z@{digest}")


def test_without_a_folder_it_is_the_one_that_sandboxes_use(own_state: Path) -> None:
    assert ImageStore().root == Host.current().images.root == own_state / "images"
