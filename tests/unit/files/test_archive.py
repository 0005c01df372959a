"""Archives: what is written is read back, and whatever a guest sends is parsed or blamed on it."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import FileError, GuestProtocolError
from sandlot.files import archive
from sandlot.files.archive import ArchiveReader, Failure, Member, header, stays_inside
from sandlot.files.pack import Packer

NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda b: b not in (b".", b"..") and not set(b) & {0, 47}
)
TIMES = st.integers(-(1 << 62), (1 << 63) - 1)
MEMBERS = st.builds(
    Member,
    kind=st.sampled_from([archive.FILE, archive.SYMLINK, archive.FOLDER, archive.HARD_LINK]),
    parts=st.lists(NAMES, min_size=1, max_size=5).map(tuple),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, (1 << 32) - 2),
    gid=st.integers(0, (1 << 32) - 2),
    mtime_ns=TIMES,
    target=st.binary(min_size=1, max_size=300).filter(lambda b: 0 not in b),
)


def read(data: bytes, cut: int = 0) -> list[object]:
    """All events; contents are joined."""
    reader = ArchiveReader()
    found: list[object] = []
    pieces = [data[i : i + cut] for i in range(0, len(data), cut)] if cut else [data]
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, memoryview):
                if not isinstance(found[-1], bytearray):
                    found.append(bytearray())
                last = found[-1]
                assert isinstance(last, bytearray)
                last += event
            else:
                found.append(event)
    assert reader.complete
    return found


@given(MEMBERS, st.integers(0, 700))
def test_a_member_comes_back(member: Member, cut: int) -> None:
    assert read(header(member) + archive.END, cut) == [member]


@given(st.lists(st.binary(max_size=2000), max_size=5), st.integers(1, 999))
def test_contents_come_back_however_they_are_cut(bodies: list[bytes], cut: int) -> None:
    data = b""
    expected: list[object] = []
    for number, body in enumerate(bodies):
        member = Member(archive.FILE, (b"%d" % number,), size=len(body))
        data += header(member) + body + bytes(-len(body) % 512)
        expected += [member, body] if body else [member]
    assert read(data + archive.END, cut) == expected


@given(MEMBERS)
def test_other_readers_agree(member: Member) -> None:
    data = header(member) + archive.END
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8") as tar:
        (found,) = tar
    name = "/".join(os.fsdecode(part) for part in member.parts)
    assert found.name == name
    assert (found.mode, found.uid, found.gid) == (member.mode, member.uid, member.gid)
    assert abs(found.mtime - member.mtime_ns / 1e9) < 1e-3 * max(1, abs(found.mtime) / 1e6)


@given(st.binary(max_size=3000))
def test_garbage_is_parsed_or_blamed(data: bytes) -> None:
    try:
        list(ArchiveReader().feed(data))
    except GuestProtocolError:
        pass


@settings(max_examples=300)
@given(
    MEMBERS,
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_nearly_right_archives_are_parsed_or_blamed(
    member: Member, changes: list[tuple[int, int]], mend: bool
) -> None:
    data = bytearray(header(member) + archive.END)
    for at, value in changes:
        data[at % len(data)] = value
    if mend:  # a right checksum, so that what is behind it is looked at
        for at in range(0, len(data) - 1024, 512):
            block = data[at : at + 512]
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    try:
        list(ArchiveReader().feed(bytes(data)))
    except (GuestProtocolError, FileError):
        pass


@pytest.mark.parametrize(
    "name", [b"/a", b"../a", b"a/../b", b"a/..", b"x" * 256, b"a/" + b"x" * 256]
)
def test_names_that_lead_out_are_blamed(name: bytes) -> None:
    with pytest.raises(GuestProtocolError):
        list(ArchiveReader().feed(header(Member(archive.FILE, ()), name)))


def test_too_deep_is_no_ones_fault() -> None:
    with pytest.raises(FileError, match="nested"):
        archive.split_name(b"a/" * 1001)


def test_wrong_members_are_blamed() -> None:
    good = header(Member(archive.FILE, (b"a",)))
    for data in (
        header(Member(b"g", (b"a",))),
        header(Member(b"S", (b"a",))),
        header(Member(archive.FOLDER, (b"a",), size=512)),
        header(Member(b"x", (b"a",), size=2 << 20)),
        header(Member(archive.SYMLINK, (b"a",), target=b"x" * 5000)),
        good[:150] + b"9" + good[151:],
        archive.END + good,
        b"\xff" * 512,
    ):
        with pytest.raises(GuestProtocolError):
            list(ArchiveReader().feed(data))


@pytest.mark.parametrize(
    "records", [b"\n", b"nolength\n", b" a=b\n", b"0 a=b\n", b"99 a=b\n", b"6 =bc\n", b"5 abc\n"]
)
def test_damaged_records_end_the_reading(records: bytes) -> None:
    head = header(Member(b"x", (), size=len(records)), b"pax")
    with pytest.raises(GuestProtocolError):
        list(ArchiveReader().feed(head + records + bytes(-len(records) % 512)))


def test_the_agents_reason_is_found() -> None:
    text = b"permission denied"
    head = header(Member(b"F", (), size=len(text), mtime_ns=13 * 10**9), b"/a/b")
    reader = ArchiveReader()
    assert list(reader.feed(head + text + bytes(-len(text) % 512))) == [
        Failure(b"/a/b", 13, "permission denied")
    ]
    assert not reader.complete


@pytest.mark.parametrize(
    ("place", "target", "inside"),
    [
        (b"l", b"a/b", True), (b"d/l", b"../a", True), (b"d/l", b"..", True), (b"l", b".", True),
        (b"d/e/l", b"../../a/./b", True), (b"l", b"/etc/passwd", False), (b"l", b"..", False),
        (b"d/l", b"../../a", False), (b"l", b"a/../b", False), (b"d/l", b"../a/..", False),
    ],
)  # fmt: skip
def test_where_links_lead(place: bytes, target: bytes, inside: bool) -> None:
    member = Member(archive.SYMLINK, tuple(place.split(b"/")), target=target)
    assert stays_inside(member) is inside


def test_a_folder_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_bytes(b"f" * 3_000_000)
    (tmp_path / "d" / "f").chmod(0o600)
    os.link(tmp_path / "d" / "f", tmp_path / "d" / "g")
    (tmp_path / "d" / "l").symlink_to("../f")
    os.mkfifo(tmp_path / "d" / "pipe")
    packer = Packer(str(tmp_path / "d"), name=b"top")
    data = b"".join(packer.pieces())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {m.name: m for m in tar}
        assert sorted(members) == ["top", "top/e", "top/f", "top/g", "top/l"]
        linked = next(m for m in members.values() if m.islnk())
        real = members[linked.linkname]
        body = tar.extractfile(real)
        assert body is not None and body.read() == b"f" * 3_000_000 and real.mode == 0o600
        assert members["top/l"].linkname == "../f"
    assert packer.done.skipped == {str(tmp_path / "d" / "pipe"): "a pipe"}
    assert (packer.done.files, packer.done.size) == (5, 3_000_000)
    assert read(data)
