from __future__ import annotations

import errno
import io
import multiprocessing
import os
import random
from pathlib import Path

import pytest

from sandlot.errors import ImageError, ResourceError, StateError
from sandlot.image.blobs import BlobBusy, BlobStore
from sandlot.image.digest import digest_of, is_digest
from sandlot.image.faults import disk_faults


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def files(blobs: BlobStore) -> list[str]:
    return sorted(str(p.relative_to(blobs.root)) for p in blobs.root.rglob("*") if p.is_file())


def test_put_and_read(blobs: BlobStore) -> None:
    digest = blobs.put(b"hello")
    assert digest == digest_of(b"hello") and blobs.exists(digest, 5) and blobs.size(digest) == 5
    assert not blobs.exists(digest, 6) and not blobs.exists("sha256:" + "0" * 64)
    assert blobs.read(digest, 5) == b"hello" and blobs.put(b"hello") == digest
    assert files(blobs) == [f"blobs/sha256/{digest[7:]}"]
    with pytest.raises(ImageError, match="larger than 4"):
        blobs.read(digest, 4)
    with blobs.open(digest) as file:
        assert file.read() == b"hello"
    blobs.remove(digest)
    blobs.remove(digest)
    for call in (blobs.open, blobs.size):
        with pytest.raises(ImageError, match="not in the image store"):
            call(digest)


def test_names_never_lead_out(blobs: BlobStore) -> None:
    for name in ("sha256:../../x", "x", "", "sha256:" + "A" * 64, "sha512:" + "0" * 128):
        assert not is_digest(name)
        with pytest.raises(ImageError, match="no sha256 digest"):
            blobs.path(name)


def test_a_damaged_blob_is_seen_and_removed(blobs: BlobStore) -> None:
    digest = blobs.put(b"hello")
    path = blobs.path(digest)
    path.chmod(0o600)
    path.write_bytes(b"jello")
    with pytest.raises(ImageError, match="damaged"):
        blobs.read(digest, 100)
    assert not blobs.exists(digest)


def test_streams_are_verified(blobs: BlobStore) -> None:
    digest = digest_of(b"hello")
    assert blobs.put_stream(io.BytesIO(b"hello"), digest, 5) == digest
    blobs.remove(digest)
    for data, size in ((b"jello", 5), (b"hello!", 5), (b"hell", 5), (b"jello", None)):
        with pytest.raises(ImageError):
            blobs.put_stream(io.BytesIO(data), digest, size)
    assert files(blobs) == []
    assert blobs.put_stream(io.BytesIO(b"hello")) == digest


def test_a_partial_blob_is_resumed(blobs: BlobStore) -> None:
    data = random.Random(1).randbytes(3_000_000)
    digest = digest_of(data)
    with blobs.partial(digest, len(data)) as part:
        assert part.offset == 0
        part.write(data[:2_000_000])
    assert not blobs.exists(digest) and files(blobs) == [f"blobs/partial/{digest[7:]}"]
    with blobs.partial(digest, len(data)) as part:
        assert part.offset == 2_000_000
        part.write(memoryview(data)[2_000_000:])
        part.commit()
    with blobs.open(digest) as file:
        assert file.read() == data
    assert files(blobs) == [f"blobs/sha256/{digest[7:]}"]


def test_a_partial_blob_that_is_wrong_is_forgotten(blobs: BlobStore) -> None:
    digest = digest_of(b"hello")
    with blobs.partial(digest, 5) as part:
        part.write(b"jello")
        with pytest.raises(ImageError, match="damaged"):
            part.commit()
    assert files(blobs) == []
    with blobs.partial(digest, 5) as part, pytest.raises(ImageError, match="more than the 5"):
        part.write(b"hello!")
    assert files(blobs) == []
    with blobs.partial(digest, 5) as part:
        part.write(b"je")
        part.restart()
        part.write(b"hello")
        part.commit()
    assert blobs.exists(digest)
    with blobs.partial(digest_of(b"")) as part:
        pass
    assert len(files(blobs)) == 1


def test_a_leftover_longer_than_the_blob_is_begun_anew(blobs: BlobStore) -> None:
    digest = digest_of(b"hello")
    with blobs.partial(digest) as part:
        part.write(b"hello and more")
    with blobs.partial(digest, 5) as part:
        assert part.offset == 0


def test_two_programs_see_each_other(blobs: BlobStore) -> None:
    digest = digest_of(b"hello")
    with blobs.partial(digest, 5) as part:
        with pytest.raises(BlobBusy):
            blobs.partial(digest, 5, wait=False)
        assert blobs.clean(set(), older=-1) == 0
        part.write(b"hello")
        part.commit()
    with blobs.partial(digest, 5, wait=False) as part:
        assert part.offset == 0 and blobs.exists(digest, 5)


def _fetch(root: Path, seed: int) -> None:
    blobs = BlobStore(root)
    for number in range(30):
        data = random.Random(number % 3).randbytes(50_000)
        digest = digest_of(data)
        if not blobs.exists(digest, len(data)):
            with blobs.partial(digest, len(data)) as part:
                if not blobs.exists(digest, len(data)):
                    part.write(data[part.offset :][:30_000])
                    if part.offset == len(data):
                        part.commit()
        if number % 7 == seed:
            blobs.remove(digest)


def test_processes_racing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    racers = [context.Process(target=_fetch, args=(tmp_path, i)) for i in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    blobs = BlobStore(tmp_path)
    for digest in blobs.digests():
        blobs.read(digest, 1 << 20)


def test_cleaning_spares_what_is_used_or_young(blobs: BlobStore) -> None:
    used, stray, young = blobs.put(b"used"), blobs.put(b"stray"), blobs.put(b"young")
    old = digest_of(b"old")
    with blobs.partial(old) as part:
        part.write(b"ol")
    for path in (blobs.path(used), blobs.path(stray), blobs.root / "blobs/partial" / old[7:]):
        os.utime(path, (1, 1))
    assert blobs.clean({used}) > 0
    assert set(blobs.digests()) == {used, young}
    assert not list((blobs.root / "blobs/partial").iterdir())
    blobs.clean(set(), older=-1)
    assert files(blobs) == []


def test_a_full_disk(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = digest_of(b"hello")

    with blobs.partial(digest, 5) as part:
        monkeypatch.setattr(part, "_file", _Full(part._file))
        with pytest.raises(ResourceError, match="no room") as caught:
            part.write(b"hello")
        assert "free some space" in caught.value.hint
    assert files(blobs) == []
    with pytest.raises(StateError), disk_faults(blobs.root):
        raise PermissionError(errno.EACCES, "no")


class _Full:
    def __init__(self, file: object) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)
