"""Folders and archives between the host and a real machine."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from sandlot import (
    FileError,
    FileForbidden,
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    Sandbox,
)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a folder that a copy keeps."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        st = path.lstat()
        kind = st.st_mode & 0o170000
        body: object = None
        if path.is_symlink():
            body = path.readlink()
        elif path.is_file():
            body = hashlib.sha256(path.read_bytes()).hexdigest()
        mode = st.st_mode & 0o777 if not path.is_symlink() else 0
        links = st.st_nlink if path.is_file() and not path.is_symlink() else 0
        found[str(path.relative_to(root))] = (kind, mode, st.st_mtime_ns, body, links)
    return found


def make_tree(root: Path) -> None:
    (root / "bin" / "empty").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(os.urandom(300_000))
    (root / "bin" / "tool").chmod(0o755)
    (root / "none").write_bytes(b"")
    (root / "bin" / "to-tool").symlink_to("tool")
    (root / "up").symlink_to("bin/../bin")
    (root / "bin" / "up").symlink_to("../none")
    os.link(root / "none", root / "again")
    (root / ("long" * 60)).write_bytes(b"long")
    with (root / "sparse").open("wb") as file:
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"data")
    for index in range(300):
        (root / "bin" / f"f{index}").write_bytes(b"%d" % index * index)
    (root / "none").chmod(0o400)
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_600_000_000_123_456_789 + index), follow_symlinks=False)
    (root / "bin").chmod(0o555)


async def test_a_tree_goes_in_and_comes_out_the_same(sb: Sandbox, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    done = await sb.files.upload(tmp_path / "in", "/new/in")
    assert done.files == len(tree(tmp_path / "in")) and not done.skipped
    r = await sb.exec("cd /new/in && stat -c '%a %Y %U' bin/tool bin && cat bin/up && readlink up")
    assert r.text.splitlines()[0].startswith("755 1600000000 root")
    back = await sb.files.download("/new/in", tmp_path / "out", links="all")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    assert back.files == done.files and back.size == done.size
    assert (tmp_path / "out" / "sparse").stat().st_blocks * 512 < 4 << 20
    careful = await sb.files.download("/new/in", tmp_path / "careful")
    assert list(careful.skipped) == ["up"]  # `bin/../bin` might climb out by way of another link
    await sb.files.download("/new/in", tmp_path / "careful")  # over what is there
    assert set(tree(tmp_path / "in")) - set(tree(tmp_path / "careful")) == {"up"}


async def test_single_files(sb: Sandbox, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"content")
    source.chmod(0o750)
    os.utime(source, ns=(0, 1_500_000_000_000_000_001))
    await sb.files.upload(source, "/a/b/c")
    info = await sb.files.stat("/a/b/c")
    assert (info.mode, info.mtime_ns, info.size) == (0o750, 1_500_000_000_000_000_001, 7)
    await sb.files.upload(source, "/a/")
    assert await sb.files.read("/a/f") == b"content"
    with pytest.raises(FileIsDirectory):
        await sb.files.upload(source, "/a/b")
    (tmp_path / "down").mkdir()
    await sb.files.download("/a/b/c", tmp_path / "down")
    got = (tmp_path / "down" / "c").stat()
    assert (got.st_mode & 0o777, got.st_mtime_ns) == (0o750, 1_500_000_000_000_000_001)
    await sb.files.download("/a/b/c", tmp_path / "made" / "x")
    assert (tmp_path / "made" / "x").read_bytes() == b"content"
    with pytest.raises(FileNotFoundError):
        await sb.files.upload(tmp_path / "missing", "/x")
    with pytest.raises(FileNotFound):
        await sb.files.download("/missing", tmp_path / "y")
    assert not (tmp_path / "y").exists()


async def test_users_and_owners_of_trees(sb: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(b"x")
    await sb.files.upload(tmp_path / "t", "/tmp/t", user="nobody")
    assert {i.uid async for i in sb.files.walk("/tmp/t")} == {65534}
    with pytest.raises(FileForbidden):
        await sb.files.upload(tmp_path / "t", "/root/t", user="nobody")
    await sb.exec("mkdir -m 700 /tmp/t/closed && touch /tmp/t/closed/f")
    with pytest.raises(FileForbidden) as caught:
        await sb.files.download("/tmp/t", tmp_path / "out", user="nobody")
    assert caught.value.path == "/tmp/t/closed"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("x/y")
        entry.uid, entry.gid, entry.size = 1234, 99, 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    archive.seek(0)
    await sb.files.put_archive("/tmp", archive, owners=True)
    info = await sb.files.stat("/tmp/x/y")
    assert (info.uid, info.gid, info.size) == (1234, 99, 2)
    stream = b"".join([piece async for piece in sb.files.get_archive("/tmp/x")])
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert [(m.name, m.uid) for m in tar] == [("x", 0), ("x/y", 1234)]
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(FileError, match="evil"):
        await sb.files.put_archive("/tmp", evil.getvalue())
    with pytest.raises(FileError):
        await sb.files.put_archive("/tmp", b"no archive at all" * 100)
    with pytest.raises(FileNotDirectory):
        await sb.files.put_archive("/tmp/x/y", archive.getvalue())


async def test_limits_of_a_download(sb: Sandbox, tmp_path: Path) -> None:
    await sb.exec("mkdir /w && truncate -s 1T /w/endless && touch /w/a /w/b", check=True)
    with pytest.raises(FileError, match="max_size="):
        await sb.files.download("/w", tmp_path / "w", max_size=10 << 20)
    await sb.exec("rm /w/endless")
    with pytest.raises(FileError, match="max_files="):
        await sb.files.download("/w", tmp_path / "w", max_files=2)
    await sb.exec("mkfifo /w/pipe; mknod /w/dev c 1 3; ln -s /etc/shadow /w/out")
    done = await sb.files.download("/w", tmp_path / "w")
    assert list(done.skipped) == ["out"]
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["a", "b"]


async def test_what_was_written_as_a_layer(sb: Sandbox) -> None:
    await sb.exec(
        "rm /etc/debian_version && mkdir /opt/new && echo x > /opt/new/f && "
        "rm -rf /etc/apt && mkdir /etc/apt && echo y > /etc/apt/only && "
        "mv /usr/share/doc /usr/share/papers && ln /opt/new/f /opt/new/g && "
        "python3 -c \"import os; os.setxattr('/opt/new/f', 'user.k', b'v')\"",
        check=True,
    )
    expected = (await sb.exec("find /usr/share/papers | wc -l")).text
    data = b"".join([piece async for piece in sb.files.upper_layer()])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {m.name: m for m in tar}
    assert members["etc/.wh.debian_version"].size == 0
    assert "etc/apt/.wh..wh..opq" in members and "etc/apt/only" in members
    names = sorted(("opt/new/f", "opt/new/g"), key=lambda name: members[name].islnk())
    assert members[names[0]].isfile() and members[names[1]].linkname == names[0]
    assert members[names[0]].pax_headers["SCHILY.xattr.user.k"] == "v"
    assert "usr/share/.wh.doc" in members
    assert "usr/share/papers/.wh..wh..opq" in members
    inside = [n for n in members if n.startswith("usr/share/papers") and ".wh." not in n]
    assert len(inside) == int(expected)
    assert not any(m.ischr() for m in members.values())
