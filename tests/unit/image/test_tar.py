from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import ImageError
from sandlot.image import tar
from sandlot.image.digest import digest_of
from sandlot.image.layers import LayerStore
from sandlot.image.tar import read_tar
from tests.framework.erofs import ErofsReader, Inode
from tests.framework.images import entry, layer

if TYPE_CHECKING:
    from pathlib import Path


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return layer(*members, form=form)


def info(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    return entry(name, bytes(size), **fields)[0]


def convert(path: Path, stream: bytes) -> tuple[ErofsReader, dict[bytes, Inode]]:
    """A layer unpacked and looked into."""
    path.mkdir(exist_ok=True)
    layers = LayerStore(path)
    diff_id = digest_of(stream)
    layers.unpack(diff_id, io.BytesIO(stream))
    layout = layers.stack([diff_id])
    with (
        (path / "image").open("wb") as out,
        layers.data(diff_id).open("rb") as data,
        layers.metadata(layers.key([diff_id])).open("rb") as metadata,
    ):
        out.write(metadata.read(4096))
        shutil.copyfileobj(data, out)
        out.write(metadata.read(layout.metadata - 4096))
    reader = ErofsReader(path / "image")
    return reader, reader.walk()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_the_standard_library_writes(tmp_path: Path, form: int) -> None:
    long = "d" * 90 + "/" + "f" * 90
    stream = tar_of(
        (info("./", type=tarfile.DIRTYPE, mode=0o755), b""),
        (info("file", 5, mode=0o4755, uid=1000, gid=1001, mtime=1234), b"hello"),
        (info(long, 3), b"abc"),
        (info("hard", type=tarfile.LNKTYPE, linkname="file"), b""),
        (info("soft", type=tarfile.SYMTYPE, linkname="x" * 99), b""),
        (info("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666), b""),
        (info("pipe", type=tarfile.FIFOTYPE), b""),
        form=form,
    )
    reader, found = convert(tmp_path / "a", stream)
    file = found[b"file"]
    assert (file.mode, file.uid, file.gid, file.nlink) == (0o104755, 1000, 1001, 2)
    assert file.mtime == (1234, 0) and reader.data(file) == b"hello"
    assert found[b"hard"].nid == file.nid
    assert reader.data(found[long.encode()]) == b"abc"
    assert reader.data(found[b"soft"]) == b"x" * 99
    assert found[b"null"].device == (1, 3)
    reader.close()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_numbers(tmp_path: Path, form: int) -> None:
    name, target = "/".join(["n" * 200] * 5), "t" * 4000
    stream = tar_of(
        (info(name, 1, uid=1 << 31, mtime=1 << 34), b"x"),
        (info("soft", type=tarfile.SYMTYPE, linkname=target), b""),
        (info("old", mtime=-5), b""),
        form=form,
    )
    reader, found = convert(tmp_path / "a", stream)
    assert found[name.encode()].uid == 1 << 31
    assert found[name.encode()].mtime == (1 << 34, 0)
    assert reader.data(found[b"soft"]) == target.encode()
    assert found[b"old"].mtime == (-5, 0)
    reader.close()


def test_pax_attributes_and_times(tmp_path: Path) -> None:
    member = info("a", 3)
    member.pax_headers = {
        "SCHILY.xattr.user.name": "value",
        "SCHILY.xattr.com.apple.quarantine": "not for Linux",
        "LIBARCHIVE.xattr.user.two%20words": "YmluYXJ5",
        "mtime": "-1.25",
    }
    reader, found = convert(tmp_path / "a", tar_of((member, b"abc")))
    assert found[b"a"].xattrs == {b"user.name": b"value", b"user.two words": b"binary"}
    assert found[b"a"].mtime == (-2, 750_000_000)
    reader.close()


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, options: list[str]) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for i in range(60):
            file.seek(i * 1_000_000)
            file.write(b"piece %d" % i)
        file.truncate(60_000_123)
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 1_000_000)
    (tmp_path / "after").write_bytes(b"next")
    command = ["tar", "-cf", "-", "-S", *options, "sparse", "hole", "after"]
    stream = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
    assert len(stream) < 2_000_000
    reader, found = convert(tmp_path / "a", stream)
    assert reader.data(found[b"sparse"]) == (tmp_path / "sparse").read_bytes()
    assert reader.data(found[b"hole"]) == bytes(1_000_000)
    assert reader.data(found[b"after"]) == b"next"
    reader.close()


def header(name: bytes = b"a", size: bytes = b"0", kind: bytes = b"0", **fields: bytes) -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    link = fields.get("link", b"")
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)


def pax(data: bytes) -> bytes:
    body = data + bytes(-len(data) % 512)
    return header(b"p", b"%o" % len(data), b"x") + body + header() + END


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"garbage",
        bytes(range(256)) * 8,
        header()[:300],
        header(size=b"1000") + b"short",
        header(size=b"\xff" * 12) + END,  # -1
        header(size=b"\x80" + b"\xff" * 11) + END,
        header(size=b"-1") + END,
        header(size=b"9") + END,
        header(size=b"1_0") + END,
        header(b"../x") + END,
        header(b"a/../../x") + END,
        header(kind=b"1", link=b"../../etc/passwd") + END,
        header(kind=b"1", link=b"/etc/passwd") + END,
        header(kind=b"1", link=b"a") + END,
        header(kind=b"2") + END,
        header(kind=b"M") + END,
        header(kind=b"?") + END,
        header(b"d", kind=b"5", size=b"0") + header(b"h", kind=b"1", link=b"d") + END,
        header(b"p", b"77777777777", b"x") + END,
        header(b"p", b"77777777777", b"L") + END,
        header(b"p", b"10", b"x") + bytes(512) + END,
        pax(b"99 path=a\n"),
        pax(b"0 path=a\n"),
        pax(b"-5 path=a\n"),
        pax(b"9 path=a\n"[:-1] + b"x"),
        pax(b"11 size=-1\n"),
        pax(b"31 size=99999999999999999999999\n"),
        pax(b"13 path=../x\n"),
        pax(b"13 mtime=nan\n"),
        pax(b"10 uid=-1\n"),
        pax(b"22 GNU.sparse.major=1\n"),
        pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n26 GNU.sparse.realsize=10\n"),
        pax(b"21 GNU.sparse.size=5\n22 GNU.sparse.map=0,10\n"),
        pax(b"21 GNU.sparse.size=5\n21 GNU.sparse.map=0,0,\n24 GNU.sparse.map=9,0,3,0\n"),
    ],
)
def test_hostile_streams(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        convert(tmp_path / "a", stream)
    assert "\n" not in caught.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_hostile_leaves_nothing(tmp_path: Path) -> None:
    for stream in (header(b"../x") + END, header(size=b"1000") + b"short", header(kind=b"?") + END):
        with pytest.raises(ImageError):
            convert(tmp_path, stream)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix] == []


def test_a_slash_in_front_is_dropped(tmp_path: Path) -> None:
    reader, found = convert(tmp_path / "a", header(b"/etc/x") + END)
    assert b"etc/x" in found
    reader.close()


@pytest.mark.parametrize("kind", [b"x", b"L", b"K", b"V"])
def test_endless_headers(tmp_path: Path, kind: bytes) -> None:
    block = header(b"p", b"%o" % 30, kind) + b"30 comment=%s\n" % (b"c" * 18) + bytes(482)
    with pytest.raises(ImageError, match="MAX_HEADER"):
        convert(tmp_path / "a", block * 2000)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 9)
    with pytest.raises(ImageError, match="MAX_MEMBERS"):
        convert(tmp_path / "a", header() * 10 + END)


def test_a_damaged_checksum(tmp_path: Path) -> None:
    stream = bytearray(header() + END)
    stream[0] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        convert(tmp_path / "a", bytes(stream))


def test_links_never_lead_outside(tmp_path: Path) -> None:
    stream = tar_of(
        (info("out", type=tarfile.SYMTYPE, linkname=str(tmp_path)), b""),
        (info("out/file", 4), b"evil"),
        (info("up", type=tarfile.SYMTYPE, linkname="../../../.."), b""),
        (info("up/file2", 4), b"evil"),
    )
    reader, found = convert(tmp_path / "a", stream)
    assert os.fsencode(tmp_path).lstrip(b"/") + b"/file" in found and b"file2" in found
    assert not (tmp_path / "file").exists()
    reader.close()


@pytest.mark.parametrize(
    "body", [b"no space at all\n", b" 5\n", b"0 a=b\n", b"6 a=b\n7\n", b"3 a\n"]
)
def test_a_damaged_pax_record_ends_the_reading(body: bytes) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    stream = header.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0") + tar_of((info("a"), b""))
    with pytest.raises(ImageError, match="PAX header is damaged"):
        list(read_tar(io.BytesIO(stream)))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_always_an_image_error(data: st.DataObject) -> None:
    member = info("a" * 150, 600)
    member.pax_headers = {"SCHILY.xattr.user.name": "value", "mtime": "1.5"}
    stream = bytearray(tar_of((member, bytes(600)), (info("b", type=tarfile.SYMTYPE), b"")))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    fix = data.draw(st.booleans())
    if fix:  # get past the first checksum
        stream[148:156] = b" " * 8
        stream[148:156] = b"%06o\0 " % sum(stream[:512])
    try:
        for found in read_tar(io.BytesIO(bytes(stream[: data.draw(st.integers(0, 4096))]))):
            while found.content.read(4096):
                pass
    except ImageError:
        pass
