"""Where a copy goes, by the rules of `docker cp`."""

from __future__ import annotations

import pytest

from sandlot import ConfigError
from sandlot.cli.cp import Side, parent, place, side


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box:/a", Side("box", "/a")), ("box:a/b", Side("box", "/a/b")), ("./a:b", Side("", "./a:b")),
        ("/a:b", Side("", "/a:b")), ("a", Side("", "a")), ("-", Side("", "-")),
        ("box://a//b/", Side("box", "/a/b/")), ("box:/a:b", Side("box", "/a:b")), ("box:.", Side("box", "/.")),
    ],
)  # fmt: skip
def test_sides(text: str, expected: Side) -> None:
    assert side(text) == expected


@pytest.mark.parametrize("text", [":", ":/a", "box:", "box:~/a", "box:~"])
def test_what_is_no_side(text: str) -> None:
    with pytest.raises(ConfigError):
        side(text)


D, F = "directory", "file"


@pytest.mark.parametrize(
    ("source", "kind", "target", "there", "expected"),
    [
        ("a/f", F, "/new", None, "/new"),
        ("a/f", F, "/dir", D, "/dir/n"),
        ("a/f", F, "/dir/", D, "/dir/n"),
        ("a/f", F, "/old", F, "/old"),
        ("a/d", D, "/new", None, "/new"),
        ("a/d", D, "/new/", None, "/new"),
        ("a/d", D, "/dir", D, "/dir/n"),
        ("a/d/", D, "/dir", D, "/dir/n"),
        ("a/d/.", D, "/dir", D, "/dir"),
        ("a/d/.", D, "/new", None, "/new"),
        (".", D, "/dir", D, "/dir"),
        ("a/d", D, "/", D, "/n"),
        ("l", "symlink", "/dir", D, "/dir/n"),
    ],
)
def test_places(source: str, kind: str, target: str, there: str | None, expected: str) -> None:
    assert place(Side("", source), kind, "n", Side("box", target), there) == expected


@pytest.mark.parametrize(
    ("kind", "target", "there"),
    [(F, "/new/", None), (F, "/old/", F), (D, "/old", F)],
)
def test_what_does_not_go_together(kind: str, target: str, there: str | None) -> None:
    with pytest.raises(ConfigError):
        place(Side("", "s"), kind, "n", Side("box", target), there)


def test_parents() -> None:
    assert (parent("/a/b/"), parent("/a"), parent("/"), parent("a")) == ("/a", "/", "/", ".")
