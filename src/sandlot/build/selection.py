"""What COPY and ADD mean: which files, and where they go in the image. Pure.

Sources and images are both trees, so that a build's context and another stage are copied from in
the same way. Symbolic links are followed inside of their tree only.

Source: the Dockerfile reference, and what BuildKit does where that is silent.
"""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sandlot.errors import BuildError
from sandlot.image.tree import MAX_HOPS, Node, Tree

_WILD = re.compile(rb"[*?\[\\]")


@dataclass(frozen=True)
class Found:
    """A file of the source that was named; `name` is its last part."""

    name: bytes
    node: Node


@dataclass(frozen=True)
class Placement:
    """Where a file goes: a path in the image as the user names it.

    With `merge` a folder that is there already keeps what it is; others take the node's attributes.
    """

    path: bytes
    node: Node
    merge: bool = False


def parts_of(path: bytes) -> list[bytes]:
    """The parts of a path; `..` does not lead out.

    >>> parts_of(b"/a/./../b//c/")
    [b'b', b'c']
    """
    return [part for part in posixpath.normpath(b"/" + path).split(b"/") if part]


def follow(tree: Tree, path: bytes) -> tuple[list[bytes], Node | None]:
    """Where a path really leads, all links followed, and what is there.

    Parts that are not there are kept as they are. Raises BuildError for a loop.
    """
    trail: list[tuple[bytes, Node]] = []
    pending = [part for part in path.split(b"/") if part][::-1]
    hops = 0
    while pending:
        name = pending.pop()
        if name == b".":
            continue
        if name == b"..":
            if trail:
                trail.pop()
            continue
        here = trail[-1][1] if trail else tree.root
        child = here.children.get(name) if here.children is not None else None
        if child is None:
            rest = parts_of(b"/".join([name, *reversed(pending)]))
            return [part for part, _ in trail] + rest, None
        if child.is_symlink:
            hops += 1
            if hops > MAX_HOPS:
                raise BuildError(f"{path!r} goes through too many symbolic links")
            if child.target.startswith(b"/"):
                trail.clear()
            pending += [part for part in child.target.split(b"/") if part][::-1]
            continue
        trail.append((name, child))
    return [part for part, _ in trail], trail[-1][1] if trail else tree.root


def select(tree: Tree, pattern: bytes) -> list[Found]:
    """The files that a source of COPY names, in order; none when nothing is there.

    Wildcards are those of Go's `filepath.Match`, part by part.
    """
    parts = parts_of(pattern)
    if not any(_WILD.search(part) for part in parts):
        _, node = follow(tree, b"/".join(parts))
        if node is None:
            return []
        return [Found(parts[-1] if parts else b"", node)]
    found = [(b"", tree.root)]
    for number, part in enumerate(parts):
        matcher = _matcher(part) if _WILD.search(part) else None
        last = number == len(parts) - 1
        following: list[tuple[bytes, Node]] = []
        for path, folder in found:
            for name in sorted(folder.children or ()):
                if name != part if matcher is None else not matcher.fullmatch(name):
                    continue
                whole = path + b"/" + name
                _, node = follow(tree, whole)
                if node is not None and (last or node.is_dir):
                    following.append((whole, node))
        found = following
    return [Found(path.rpartition(b"/")[2], node) for path, node in found]


def _matcher(pattern: bytes) -> re.Pattern[bytes]:
    """One part of a pattern as a regular expression. Raises BuildError when it is malformed."""
    out, at = b"", 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            out += b"[^/]*"
        elif char == b"?":
            out += b"[^/]"
        elif char == b"\\" and at < len(pattern):
            out += re.escape(pattern[at : at + 1])
            at += 1
        elif char == b"[":
            close = re.compile(rb"\^?(?:\\.|[^\\\]])+\]", re.DOTALL).match(pattern, at)
            if close is None:
                raise BuildError(f"{pattern.decode(errors='replace')!r} is a malformed pattern")
            inside = close[0][:-1]
            negated = b"^" if inside.startswith(b"^") else b""
            body = re.sub(rb"([\[&|~])", rb"\\\1", inside[len(negated) :])
            out += b"[" + negated + body + b"]"
            at = close.end()
        else:
            out += re.escape(char)
    try:
        return re.compile(out, re.DOTALL)
    except re.error as error:
        raise BuildError(f"{pattern.decode(errors='replace')!r} is a malformed pattern") from error


def place(found: Sequence[Found], target: bytes, *, named: int, image: Tree) -> list[Placement]:
    """Where files go. `target` is absolute; `named` is how many sources the user wrote.

    A folder's contents are copied, not the folder. A file keeps its name when the target ends
    with a slash or is a folder in the image, or when there are several.
    """
    into = target.endswith(b"/") or len(found) > 1 or named > 1
    if named > 1 and not target.endswith(b"/"):
        raise BuildError(
            "what several files are copied to must be a folder", hint="end it with a slash"
        )
    placed: list[Placement] = []
    for each in found:
        if each.node.is_dir:
            placed.append(Placement(target, each.node, merge=True))
            placed += _below(each.node, target.rstrip(b"/"))
            continue
        _, there = follow(image, target)
        inside = into or (there is not None and there.is_dir)
        path = target.rstrip(b"/") + b"/" + each.name if inside else target
        placed.append(Placement(path, each.node))
    return placed


def _below(folder: Node, prefix: bytes) -> Iterator[Placement]:
    """All that is in a folder, parents first, names in order."""
    stack = [(prefix, folder)]
    while stack:
        path, node = stack.pop()
        if path != prefix or node is not folder:
            yield Placement(path, node)
        if node.children:
            stack += [
                (path + b"/" + name, node.children[name])
                for name in sorted(node.children, reverse=True)
            ]


def parse_mode(text: str) -> int:
    """`--chmod`. Raises BuildError for other forms than octal digits."""
    if not re.fullmatch(r"[0-7]{3,5}", text) or int(text, 8) > 0o7777:
        raise BuildError(f"--chmod={text[:40]} is not supported", hint="write it like 755")
    return int(text, 8)


def parse_owner(text: str, passwd: str, group: str) -> tuple[int, int]:
    """`--chown`: numbers, or names that are looked up in the image's files.

    >>> parse_owner("app:www", "app:x:5:6::/:", "www:x:33:")
    (5, 33)
    """
    user, colon, team = text.partition(":")
    own: int | None = None
    if user.isdecimal():
        uid = int(user)
        own = uid
    else:
        line = _line(passwd, user)
        if line is None or not line[2].isdecimal() or not line[3].isdecimal():
            raise BuildError(f"--chown={text[:80]}: the image has no user {user[:40]!r}")
        uid, own = int(line[2]), int(line[3])
    if not colon:
        gid = own
    elif team.isdecimal():
        gid = int(team)
    else:
        line = _line(group, team)
        if line is None or not line[2].isdecimal():
            raise BuildError(f"--chown={text[:80]}: the image has no group {team[:40]!r}")
        gid = int(line[2])
    if max(uid, gid) > 0xFFFFFFFE:
        raise BuildError(f"--chown={text[:80]} is out of range")
    return uid, gid


def _line(text: str, name: str) -> list[str] | None:
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == name and name and len(fields) >= 3:
            return [*fields, "", "", ""]
    return None


def kind_of(node: Node) -> str:
    """What a node is, in a word."""
    names = {
        stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe",
        stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFSOCK: "socket",
    }  # fmt: skip
    return names.get(stat.S_IFMT(node.mode), "unknown")
