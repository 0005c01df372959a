from __future__ import annotations

from pathlib import Path

from sandlot.state.removal import remove_tree


def test_everything_goes_and_nothing_through_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    top = tmp_path / "top"
    (top / "a" / "b" / "c").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("goes")
    (top / "a" / "link").symlink_to(outside)
    (top / ".up-1-1").mkdir()
    (top / "a" / "b").chmod(0o500)
    remove_tree(top)
    assert not top.exists() and (outside / "file").read_text() == "stays"


def test_a_file_a_link_and_nothing(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("x")
    link.symlink_to(tmp_path)
    for path in (file, link, tmp_path / "missing"):
        remove_tree(path)
        assert not path.is_symlink() and not path.exists()
    assert tmp_path.exists()
