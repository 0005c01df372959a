"""`sandlot cp`, as a shell sees it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SANDLOT = [sys.executable, "-m", "sandlot.cli.main"]
BOX = f"cp-box-{os.getpid()}"


def sandlot(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*SANDLOT, *words], input=stdin, capture_output=True, timeout=120)


def cp(*words: str, stdin: bytes = b"") -> bytes:
    """A copy that works; what it wrote."""
    r = sandlot("cp", "-q", *words, stdin=stdin)
    assert (r.returncode, r.stderr) == (0, b""), r.stderr
    return r.stdout


def inside(line: str) -> str:
    r = sandlot("exec", BOX, "sh", "-c", line)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode()


@pytest.fixture
def box(image: str) -> Iterator[str]:
    """A running sandbox of its own."""
    r = sandlot("run", "-d", "--rm", "--name", BOX, image, "sleep", "100000")
    assert r.returncode == 0, r.stderr
    yield BOX
    assert sandlot("rm", "-f", BOX).returncode == 0


def test_both_ways(box: str, tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "f").write_text("one")
    (source / "l").symlink_to("sub/f")
    # A folder that is not there takes the contents; one that is, the folder.
    cp(str(source), f"{box}:/new")
    assert inside("cat /new/sub/f; readlink /new/l") == "onesub/f\n"
    cp(str(source), f"{box}:/new")
    assert inside("cat /new/src/sub/f") == "one"
    cp(f"{source}/.", f"{box}:/new")
    assert inside("ls -d /new/sub /new/src | wc -l") == "2\n"
    # Files: into a folder, under a new name, over an old one.
    cp(str(source / "sub" / "f"), f"{box}:/tmp")
    cp(str(source / "sub" / "f"), f"{box}:tmp/g")
    (source / "sub" / "f").write_text("two")
    cp(str(source / "sub" / "f"), f"{box}:/tmp/f")
    assert inside("cat /tmp/f /tmp/g; stat -c %U:%G /tmp/f") == "twooneroot:root\n"
    # Links: as links, or what they point to.
    cp(str(source / "l"), f"{box}:/tmp/link")
    cp("-L", str(source / "l"), f"{box}:/tmp/body")
    assert inside("readlink /tmp/link; cat /tmp/body") == "sub/f\ntwo"

    out = tmp_path / "out"
    cp(f"{box}:/new/src", str(out))
    assert (out / "sub" / "f").read_text() == "one" and (out / "l").is_symlink()
    cp(f"{box}:/new/src", str(out))
    assert (out / "src" / "sub" / "f").read_text() == "one"
    cp(f"{box}:/new/src/.", str(out))
    cp(f"{box}:/tmp/f", str(out))
    cp(f"{box}:/tmp/f", f"{out}/named")
    assert (out / "f").read_text() == (out / "named").read_text() == "two"
    cp(f"{box}:/tmp/link", str(out))
    assert (out / "link").readlink() == Path("sub/f")
    cp("-L", f"{box}:/new/l", f"{out}/followed")
    assert (out / "followed").read_text() == "one"


def test_streams_and_owners(box: str, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("x/y")
        entry.uid, entry.gid, entry.size = 1234, 99, 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    cp("-", f"{box}:/tmp", stdin=archive.getvalue())
    assert inside("stat -c %u:%g /tmp/x/y") == "0:0\n"
    cp("-a", "-", f"{box}:/tmp", stdin=archive.getvalue())
    assert inside("stat -c %u:%g /tmp/x/y") == "1234:99\n"
    with tarfile.open(fileobj=io.BytesIO(cp(f"{box}:/tmp/x", "-"))) as tar:
        assert tar.getnames() == ["x", "x/y"]
    with tarfile.open(fileobj=io.BytesIO(cp(f"{box}:/tmp/x/.", "-"))) as tar:
        assert tar.getnames() == [".", "./y"]
    if os.geteuid() == 0:
        cp("-a", f"{box}:/tmp/x/y", str(tmp_path))
        assert ((tmp_path / "y").stat().st_uid, (tmp_path / "y").stat().st_gid) == (1234, 99)


def test_what_is_said(box: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2048))
    r = sandlot("cp", str(tmp_path / "f"), f"{box}:/tmp/f")
    assert r.stdout == b"" and r.stderr == f"copied 1 file, 2K, to {box}:/tmp/f\n".encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(tmp_path / "f", "g")
    r = sandlot("cp", "-", f"{box}:/tmp", stdin=archive.getvalue())
    assert r.stdout == b"" and r.stderr == f"copied 10K to {box}:/tmp\n".encode()
    r = sandlot("cp", f"{box}:/tmp/g", "-")
    assert r.stderr.startswith(b"copied ") and r.stderr.endswith(b" to standard output\n")
    inside("mkdir /w && ln -s /etc/shadow /w/out && ln -s f /w/in && touch /w/f")
    r = sandlot("cp", f"{box}:/w", f"{tmp_path}/w")
    assert r.returncode == 0 and b"copied 3 files" in r.stderr
    assert b"left out out: a link that leads outside the copy, to /etc/shadow\n" in r.stderr
    assert b"hint: --links all" in r.stderr
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["f", "in"]
    cp("--links", "all", f"{box}:/w", f"{tmp_path}/all")
    assert (tmp_path / "all" / "out").readlink() == Path("/etc/shadow")


def test_a_sandbox_that_is_removed_during_a_copy(image: str) -> None:
    name = f"{BOX}-doomed"
    assert sandlot("run", "-d", "--name", name, image, "sleep", "100000").returncode == 0
    member = tarfile.TarInfo("big")
    member.size = 1 << 30
    copy = subprocess.Popen(
        [*SANDLOT, "cp", "-", f"{name}:/tmp"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert copy.stdin is not None and copy.stderr is not None
    copy.stdin.write(member.tobuf() + bytes(4 << 20))
    copy.stdin.flush()
    while sandlot("exec", name, "test", "-s", "/tmp/big").returncode:
        assert copy.poll() is None
    assert sandlot("rm", "-f", name).returncode == 0
    with contextlib.suppress(BrokenPipeError):
        copy.stdin.write(bytes(4 << 20))
    with contextlib.suppress(BrokenPipeError):
        copy.stdin.close()
    with copy.stderr:
        said = copy.stderr.read().decode()
    assert copy.wait(120) == 125
    assert said == f"sandlot: sandbox {name!r} has ended\n"


def test_bad_input_is_one_clear_line(box: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "d").mkdir()
    f, d = str(tmp_path / "f"), str(tmp_path / "d")
    for words, says in (
        ((f, d), "between the host and one sandbox"),
        ((f"{box}:/a", f"{box}:/b"), "between the host and one sandbox"),
        ((f"{box}:", d), "not NAME:PATH"),
        ((f"{tmp_path}/none", f"{box}:/tmp"), "no such file"),
        ((f, f"{box}:/none/f"), "/none in the sandbox: no such folder"),
        ((f, f"{box}:/none/"), "/none/ does not exist"),
        ((d, f"{box}:/etc/passwd"), "/etc/passwd is not a folder"),
        ((f"{box}:/none", d), "/none in the sandbox: no such file"),
        ((f"{box}:~/none", d), "~ is not known there"),
        ((f"{box}:/etc", f), "is not a folder"),
        ((f"{box}:/etc/passwd", f"{tmp_path}/none/f"), "no such folder"),
        ((f"{box}:/dev/null", d), "device"),
        (("-", f"{box}:/etc/passwd"), "no folder"),
        (("no-such-box:/a", d), "no-such-box"),
        (("--max-size", "10", f"{box}:/etc/passwd", d), "max_size=10 "),
    ):
        r = sandlot("cp", *words)
        lines = r.stderr.decode().splitlines()
        assert r.returncode == 125 and r.stdout == b"", words
        assert says in lines[0] and lines[0].startswith("sandlot: "), (words, lines)
        assert len(lines) <= 2 and all(line.startswith("hint: ") for line in lines[1:]), lines
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "f"]
    assert list((tmp_path / "d").iterdir()) == []
    r = sandlot("cp", "-", f"{box}:/tmp", stdin=b"no tar at all" * 100)
    assert r.returncode == 125 and len(r.stderr.splitlines()) == 1
