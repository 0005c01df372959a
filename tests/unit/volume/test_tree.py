"""The files of a volume as two files, and back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.errors import RemoteDamaged
from sandlot.volume.tree import PAGE, pack, unpack


def described(folder: Path) -> dict[str, Any]:
    """All that matters of the files of a folder."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = os.fsencode(path.relative_to(folder)).decode(errors="surrogateescape")
        if path.is_symlink():
            found[name] = str(path.readlink())
            continue
        values = {each: os.getxattr(path, each) for each in os.listxattr(path)}
        data = path.read_bytes() if path.is_file() else None
        links = status.st_nlink if path.is_file() else 0
        found[name] = (status.st_mode, status.st_mtime_ns, values, data, links)
    return found


def there_and_back(folder: Path, tmp_path: Path) -> Path:
    pack(folder, tmp_path / "tree", tmp_path / "data")
    target = tmp_path / "target"
    target.mkdir()
    unpack(target, tmp_path / "tree", tmp_path / "data")
    return target


def test_there_and_back(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(b"x" * 5000)
    (folder / "empty").write_bytes(b"")
    odd = os.fsdecode(b'odd \xff\n"name')
    (folder / odd).write_bytes(b"odd")
    os.link(folder / odd, folder / "a" / "twin")
    (folder / "link").symlink_to("../../etc/passwd")
    with (folder / "sparse").open("wb") as file:
        file.truncate(40 << 20)
        file.seek(20 << 20)
        file.write(b"here")
    os.setxattr(folder / "empty", "user.sandlot.note", b"1 5 5 - 0 0")
    os.setxattr(folder / "a", "user.x", b"\0\xff")
    (folder / "a" / "b").chmod(0o500)
    (folder / "empty").chmod(0o640)
    os.utime(folder / "a", ns=(1, 1_234_567_890_123_456_789))
    target = there_and_back(folder, tmp_path)
    assert described(target) == described(folder)
    assert (target / "sparse").stat().st_blocks < 200
    assert (tmp_path / "data").stat().st_blocks < 400
    (folder / "a" / "b").chmod(0o700)
    (target / "a" / "b").chmod(0o700)


@pytest.mark.parametrize(
    "lines",
    [
        [["../x", "f", 420, 0, {}, 0, 1]], [["/x", "f", 420, 0, {}, 0, 1]], [["a/b", "d", 493, 0, {}]],
        [["..", "d", 493, 0, {}]], [["", "d", 493, 0, {}]], [["a\0", "d", 493, 0, {}]],
        [["a", "l", "/etc"], ["a/b", "f", 420, 0, {}, 0, 1]],
        [["a", "l", "/etc"], ["a", "d", 493, 0, {}]],
        [["a", "l", "/etc/passwd"], ["b", "h", "a"]], [["b", "h", "../../x"]],
        [["a", "f", 420, 0, {}, 1, 1]], [["a", "f", 420, 0, {}, 0, 1 << 40]],
        [["a", "f", 420, 0, {"trusted.x": ""}, 0, 1]], [["a", "f", 420, 0, {"user.x": "!"}, 0, 1]],
        [["a", "f", -1, 0, {}, 0, 1]], [["a", "f", True, 0, {}, 0, 1]], [["a", "x"]], [[1]], 5,
        [["a" * 300, "d", 493, 0, {}]], [["\ud800", "d", 493, 0, {}]],
    ],
)  # fmt: skip
def test_a_tree_that_cannot_be_is_refused(tmp_path: Path, lines: Any) -> None:
    text = "\n".join(json.dumps(each) for each in lines) if isinstance(lines, list) else "5"
    (tmp_path / "tree").write_text(text)
    (tmp_path / "data").write_bytes(bytes(PAGE))
    (tmp_path / "target").mkdir()
    with pytest.raises(RemoteDamaged):
        unpack(tmp_path / "target", tmp_path / "tree", tmp_path / "data")
    assert not (tmp_path / "x").exists()


def test_modes_that_a_host_hears_are_harmless(tmp_path: Path) -> None:
    (tmp_path / "tree").write_text(json.dumps(["a", "f", 0o6755, 0, {}, 0, 1]))
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "target").mkdir()
    unpack(tmp_path / "target", tmp_path / "tree", tmp_path / "data")
    assert (tmp_path / "target" / "a").stat().st_mode & 0o7777 == 0o755


values = st.none() | st.integers(-1, 1 << 63) | st.text(max_size=4) | st.dictionaries(
    st.just("user.a"), st.text(max_size=3), max_size=1
)  # fmt: skip
lines = st.lists(
    st.tuples(st.text(max_size=5), st.sampled_from("dflh"), values, values, values, values, values)
    .map(list)
    .flatmap(lambda line: st.integers(1, 7).map(lambda n: line[:n])),
    max_size=5,
)


@given(lines, st.binary(max_size=30))
def test_any_tree_stays_in_its_folder_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, entries: list[list[Any]], junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    text = "\n".join(json.dumps(each) for each in entries).encode() + b"\n" + junk
    (folder / "tree").write_bytes(text)
    (folder / "data").write_bytes(b"x" * 10)
    (folder / "target").mkdir()
    try:
        unpack(folder / "target", folder / "tree", folder / "data")
    except (RemoteDamaged, OSError) as error:
        assert isinstance(error, RemoteDamaged) or "too long" in str(error)
    assert {path.name for path in folder.iterdir()} == {"tree", "data", "target"}
