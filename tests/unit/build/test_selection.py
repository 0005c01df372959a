from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandlot.build.selection import (
    Placement,
    follow,
    kind_of,
    parse_mode,
    parse_owner,
    parts_of,
    place,
    select,
)
from sandlot.errors import BuildError
from sandlot.image.tree import Node, Tree


def tree_of(*paths: str) -> Tree:
    """`a/` is a folder, `a>b` a link to b, everything else a file."""
    tree = Tree()
    for text in paths:
        path, arrow, target = text.partition(">")
        if arrow:
            tree.add(path.encode(), Node(stat.S_IFLNK | 0o777, target=target.encode()))
        elif text.endswith("/"):
            tree.add(path.encode(), Node(stat.S_IFDIR | 0o755))
        else:
            tree.add(path.encode(), Node(stat.S_IFREG | 0o644))
    return tree


CONTEXT = tree_of(
    "app/main.py", "app/lib/a.py", "app/lib/b.txt", "app/.hidden", "README.md", "one.txt", "two.txt",
    "current>app", "up>../../app", "absolute>/app/lib", "loop>loop", "link.txt>one.txt", "empty/",
)  # fmt: skip


def names(pattern: str) -> list[str]:
    return [found.name.decode() for found in select(CONTEXT, pattern.encode())]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".", [""]),
        ("/", [""]),
        ("app", ["app"]),
        ("./app/../app/main.py", ["main.py"]),
        ("../../one.txt", ["one.txt"]),
        ("current/main.py", ["main.py"]),
        ("up/main.py", ["main.py"]),
        ("absolute/a.py", ["a.py"]),
        ("link.txt", ["link.txt"]),
        ("*.txt", ["link.txt", "one.txt", "two.txt"]),
        ("app/*", [".hidden", "lib", "main.py"]),
        ("a*/l?b/[ab].*", ["a.py", "b.txt"]),
        ("app/lib/[^a]*", ["b.txt"]),
        ("no\\*thing", []),
        ("nothing", []),
        ("one.txt/x", []),
    ],
)
def test_sources(pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected


def test_a_loop_and_a_malformed_pattern() -> None:
    with pytest.raises(BuildError, match="too many symbolic links"):
        names("loop")
    with pytest.raises(BuildError, match="malformed pattern"):
        names("[a")
    with pytest.raises(BuildError, match="malformed pattern"):
        names("[z-a]")


def test_following_keeps_what_is_not_there() -> None:
    assert follow(CONTEXT, b"current/new/file") == ([b"app", b"new", b"file"], None)
    assert follow(CONTEXT, b"nothing/../x") == ([b"x"], None)
    assert follow(CONTEXT, b"")[1] is CONTEXT.root


def placed(target: str, *sources: str, image: Tree | None = None) -> list[str]:
    found = [each for source in sources for each in select(CONTEXT, source.encode())]
    made = place(found, target.encode(), named=len(sources), image=image or Tree())
    return [each.path.decode() + ("/" if each.node.is_dir else "") for each in made]


def test_targets() -> None:
    assert placed("/x", "one.txt") == ["/x"]
    assert placed("/x/", "one.txt") == ["/x/one.txt"]
    assert placed("/x", "one.txt", image=tree_of("x/")) == ["/x/one.txt"]
    assert placed("/x", "one.txt", image=tree_of("y/", "x>y")) == ["/x/one.txt"]
    assert placed("/x/", "one.txt", "app/main.py") == ["/x/one.txt", "/x/main.py"]
    assert placed("/x", "o*.txt", image=Tree()) == ["/x"]
    assert placed("/x", "app/lib") == ["/x/", "/x/a.py", "/x/b.txt"]
    assert placed("/", "app/lib")[1:] == ["/a.py", "/b.txt"]
    assert placed("/x", "app") == ["/x/", "/x/.hidden", "/x/lib/", "/x/lib/a.py", "/x/lib/b.txt", "/x/main.py"]  # fmt: skip
    with pytest.raises(BuildError, match="must be a folder"):
        placed("/x", "one.txt", "two.txt")


def test_the_folder_itself_is_only_merged() -> None:
    made = place(select(CONTEXT, b"app"), b"/x", named=1, image=Tree())
    assert [each.merge for each in made][:2] == [True, False]
    assert isinstance(made[0], Placement)


PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:5:6::/:\nbroken\nodd:x:y:z::\n"


def test_owners() -> None:
    group = "root:x:0:\nwww:x:33:\n"
    for text, expected in {
        "1": (1, 1), "1:2": (1, 2), "app": (5, 6), "app:www": (5, 33), "7:www": (7, 33), "0": (0, 0),
    }.items():  # fmt: skip
        assert parse_owner(text, PASSWD, group) == expected
    for text in ("nobody", "1:nobody", "app:", "odd", ":", "99999999999", "broken"):
        with pytest.raises(BuildError, match="--chown"):
            parse_owner(text, PASSWD, group)


def test_modes() -> None:
    assert parse_mode("755") == 0o755 and parse_mode("04755") == 0o4755
    for text in ("u+x", "7", "99999", "777777"):
        with pytest.raises(BuildError, match="--chmod"):
            parse_mode(text)


def test_kinds() -> None:
    assert [kind_of(Node(mode | 0o600)) for mode in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFCHR)] == [
        "file", "folder", "device",
    ]  # fmt: skip


@given(st.binary(max_size=60))
def test_any_path_stays_inside(path: bytes) -> None:
    assert b".." not in parts_of(path)
    try:
        parts, _ = follow(CONTEXT, path)
        select(CONTEXT, path)
    except BuildError:
        return
    assert b".." not in parts
