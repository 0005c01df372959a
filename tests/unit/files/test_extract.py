"""A guest's archive on the host's disk: nothing is written outside, whatever it holds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot.errors import FileError, GuestProtocolError
from sandlot.files import archive
from sandlot.files.archive import Member, header
from sandlot.files.extract import Extractor, Limits

ANY = Limits(max_size=1 << 30, max_files=1000, links="all")
TOP = header(Member(archive.FOLDER, (), mode=0o755), b"./")


def file(name: bytes, body: bytes = b"evil", mode: int = 0o644) -> bytes:
    member = Member(archive.FILE, (), mode, size=len(body))
    return header(member, name) + body + bytes(-len(body) % 512)


def link(name: bytes, target: bytes, kind: bytes = archive.SYMLINK) -> bytes:
    return header(Member(kind, (), target=target), name)


def extract(target: Path, data: bytes, limits: Limits = ANY) -> Extractor:
    extractor = Extractor(str(target), "/guest", limits)
    try:
        extractor.feed(data)
        extractor.finish()
    finally:
        extractor.close()
    return extractor


def test_over_a_folder_that_nobody_may_write_to(tmp_path: Path) -> None:
    """Whoever is not root could not replace what is in it."""
    shut = header(Member(archive.FOLDER, (), mode=0o555), b"shut/")
    for body in (b"one", b"two"):
        extract(tmp_path / "t", TOP + shut + file(b"shut/f", body) + bytes(1024))
        assert (tmp_path / "t" / "shut" / "f").read_bytes() == body
        assert (tmp_path / "t" / "shut").stat().st_mode & 0o777 == 0o555
    (tmp_path / "t" / "shut").chmod(0o755)  # so that the test's folder can be removed


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nothing may be written to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("kept")
    return tmp_path / "outside"


def untouched(outside: Path) -> bool:
    return [p.name for p in outside.iterdir()] == ["precious"] and (
        outside / "precious"
    ).read_text() == "kept"


def test_a_link_is_never_written_through(tmp_path: Path, outside: Path) -> None:
    to_outside = os.fsencode(outside)
    for attack in (
        link(b"l", to_outside) + file(b"l/new"),
        link(b"l", to_outside + b"/precious") + file(b"l"),
        link(b"l", to_outside) + header(Member(archive.FOLDER, ()), b"l/") + file(b"l/new"),
        link(b"l", b"../outside") + file(b"l/precious"),
        link(b"l", to_outside) + link(b"h", b"l/precious", archive.HARD_LINK) + file(b"h"),
        link(b"l", to_outside + b"/precious") + link(b"h", b"l", archive.HARD_LINK) + file(b"h"),
        link(b"a", b".") + link(b"a/b", to_outside) + file(b"a/b/x"),
    ):
        target = tmp_path / "target"
        try:
            extract(target, TOP + attack + archive.END)
        except (OSError, GuestProtocolError):
            pass
        assert untouched(outside)
        assert not (target / "h").is_file() or (target / "h").read_bytes() == b"evil"
        os.system(f"rm -rf {target}")


def test_a_link_that_is_there_already_is_not_followed(tmp_path: Path, outside: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "l").symlink_to(outside)
    (target / "p").symlink_to(outside / "precious")
    with pytest.raises(NotADirectoryError):
        extract(target, TOP + file(b"l/new") + archive.END)
    extract(target, TOP + file(b"p") + archive.END)
    assert untouched(outside) and (target / "p").read_bytes() == b"evil"
    assert not (target / "p").is_symlink()


def test_nothing_but_files_folders_and_links(tmp_path: Path) -> None:
    odd = b"".join(
        header(Member(kind, ()), b"odd%d" % number)
        for number, kind in enumerate((archive.CHAR, archive.BLOCK, archive.FIFO))
    )
    done = extract(tmp_path / "t", TOP + odd + file(b"suid", mode=0o6755) + archive.END).done
    assert done.skipped == {"odd0": "a device", "odd1": "a device", "odd2": "a pipe"}
    assert done.files == 2
    assert (tmp_path / "t" / "suid").stat().st_mode == 0o100755


def test_links_that_may_stay(tmp_path: Path) -> None:
    data = TOP + link(b"in", b"a") + link(b"out", b"/etc/passwd") + archive.END
    for links, skipped in (("inside", ["out"]), ("none", ["in", "out"]), ("all", [])):
        limits = Limits(max_size=1, max_files=9, links=links)
        left_out = extract(tmp_path / links, data, limits).done.skipped
        assert list(left_out) == skipped
        if links == "inside":
            assert left_out["out"] == "a link that leads outside the copy, to /etc/passwd"
        assert sum(1 for _ in (tmp_path / links).iterdir()) == 2 - len(skipped)


def test_limits(tmp_path: Path) -> None:
    big = header(Member(archive.FILE, (), size=1 << 50), b"big")
    with pytest.raises(FileError, match="max_size=10 ") as caught:
        extract(tmp_path / "a", TOP + big, Limits(max_size=10, max_files=9))
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(FileError, match="max_files=3 "):
        many = b"".join(file(b"%d" % i) for i in range(9))
        extract(tmp_path / "b", TOP + many, Limits(max_size=1 << 20, max_files=3))
    with pytest.raises(FileError, match="nested"):
        extract(tmp_path / "c", TOP + file(b"d/" * 1001 + b"f") + archive.END)


def test_an_archive_that_stops_is_blamed(tmp_path: Path) -> None:
    whole = TOP + file(b"a", b"x" * 5000) + archive.END
    for end in (0, 512, 1024, 3000, len(whole) - 512):
        with pytest.raises(GuestProtocolError):
            extract(tmp_path / str(end), whole[:end])


def test_roots(tmp_path: Path) -> None:
    for number, data in enumerate((file(b"a"), TOP + TOP, TOP + file(b"."))):
        with pytest.raises(GuestProtocolError):
            extract(tmp_path / f"t{number}", data + archive.END)
    extract(tmp_path / "single", file(b".", b"body", mode=0o640) + archive.END)
    assert (tmp_path / "single").read_bytes() == b"body"
    assert (tmp_path / "single").stat().st_mode == 0o100640
    with pytest.raises(GuestProtocolError):
        extract(tmp_path / "half", file(b".", b"x" * 900)[:1000])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["single", "t1", "t2"]


def test_the_agents_failure_is_an_error(tmp_path: Path) -> None:
    head = header(Member(b"F", (), size=4, mtime_ns=13 * 10**9), b"/guest/x")
    with pytest.raises(PermissionError) as caught:
        extract(tmp_path / "t", TOP + head + b"oops" + bytes(508))
    assert isinstance(caught.value, FileError) and caught.value.path == "/guest/x"


def test_folders_get_their_modes_at_the_end(tmp_path: Path) -> None:
    shut = header(Member(archive.FOLDER, (), mode=0o500, mtime_ns=10**18), b"shut/")
    deep = b"/".join([b"d"] * 200)
    extract(tmp_path / "t", TOP + shut + file(b"shut/f") + file(deep + b"/f") + archive.END)
    st_ = (tmp_path / "t" / "shut").stat()
    assert (st_.st_mode & 0o777, st_.st_mtime_ns) == (0o500, 10**18)
    assert (tmp_path / "t" / os.fsdecode(deep) / "f").read_bytes() == b"evil"
    assert (tmp_path / "t" / "shut" / "f").exists()


def test_holes_stay_holes(tmp_path: Path) -> None:
    body = bytes(4 << 20)
    extract(tmp_path / "t", TOP + file(b"f", body) + archive.END)
    assert (tmp_path / "t" / "f").read_bytes() == body
    assert (tmp_path / "t" / "f").stat().st_blocks * 512 < 1 << 20


ATTACKS = st.lists(
    st.one_of(
        st.builds(file, st.sampled_from([b"a", b"b", b"a/b", b"b/a", b"a/b/c", b"."])),
        st.builds(
            link,
            st.sampled_from([b"a", b"b", b"a/b"]),
            st.sampled_from([b"/etc", b"..", b"../outside", b"b", b"a", b"a/b", b"."]),
            st.sampled_from([archive.SYMLINK, archive.HARD_LINK]),
        ),
        st.builds(
            lambda name: header(Member(archive.FOLDER, ()), name),
            st.sampled_from([b"a", b"b/", b"a/b/", b"./"]),
        ),
    ),
    max_size=8,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ATTACKS)
def test_no_mixture_leads_out(tmp_path: Path, outside: Path, attacks: list[bytes]) -> None:
    target = tmp_path / "target"
    try:
        extract(target, TOP + b"".join(attacks) + archive.END)
    except (OSError, GuestProtocolError):
        pass
    assert untouched(outside)
    assert {p.name for p in tmp_path.iterdir()} <= {"outside", "target"}
    os.system(f"rm -rf {target}")
