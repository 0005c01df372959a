from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sandlot.build.sources import Context, digest_of_file, ignore_patterns
from sandlot.errors import BuildError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.log", "keep.log", "src/x.py", "src/x.pyc", "node_modules/m/i.js", "out/keep/k", "out/drop"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("/etc/passwd")
    return tmp_path


def paths(context: Context) -> set[str]:
    return {path.decode() for path, node in context.tree.walk() if not node.is_dir}


def test_everything(root: Path) -> None:
    context = Context(root)
    assert "src/x.pyc" in paths(context) and "link" in paths(context) and not context.ignored
    node = context.tree.find(b"src/x.py")
    assert node is not None and (node.uid, node.gid, node.size) == (0, 0, 8)
    with context.open(node) as file:
        assert file.read() == b"src/x.py"
    assert len(digest_of_file(context, node)) == 64


def test_ignored_names(root: Path) -> None:
    (root / ".dockerignore").write_text(
        "# comment\n\n*.log\n!keep.log\n**/*.pyc\nnode_modules\nout\n!out/keep\n.dockerignore\n"
    )
    context = Context(root)
    assert paths(context) == {"a.txt", "keep.log", "src/x.py", "link", "out/keep/k"}
    assert context.ignored > 3
    assert context.tree.find(b"node_modules") is None


def test_a_file_of_its_own_for_each_dockerfile(root: Path) -> None:
    (root / ".dockerignore").write_text("*.txt")
    (root / "prod.Dockerfile.dockerignore").write_text("src")
    found = paths(Context(root, root / "prod.Dockerfile"))
    assert "a.txt" in found and "src/x.py" not in found


def test_patterns() -> None:
    assert ignore_patterns("\ufeffa \n#b\n\n !c\n") == ["a", "!c"]


def test_what_cannot_be_used(root: Path) -> None:
    (root / ".dockerignore").write_text("[a")
    with pytest.raises(BuildError, match="dockerignore"):
        paths(Context(root))
    (root / ".dockerignore").write_bytes(b" " * (1 << 20) + b"a")
    with pytest.raises(BuildError, match="larger than 1 MiB"):
        paths(Context(root))


def test_sockets_are_left_out(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "s"))
        assert "s" not in paths(Context(root))


def test_a_file_that_changes_meanwhile(root: Path) -> None:
    context = Context(root)
    node = context.tree.find(b"a.txt")
    assert node is not None
    (root / "a.txt").unlink()
    with pytest.raises(BuildError, match="cannot read"):
        context.open(node)
    (root / "a.txt").symlink_to("b.log")
    with pytest.raises(BuildError, match="cannot read"):
        context.open(node)
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")
    with pytest.raises(BuildError, match="changed while"):
        context.open(node)
