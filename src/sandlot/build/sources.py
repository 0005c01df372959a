"""Where files are copied from: the build's context on this machine, and images."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from sandlot.errors import BuildError
from sandlot.image.ondisk import BLOCK
from sandlot.image.tree import Node, Tree

if TYPE_CHECKING:
    from e2b_dockerfile_utils import PatternMatcher

    from sandlot.image.records import Image
    from sandlot.image.store import ImageStore

MAX_IGNORE = 1 << 20  # bytes
CHUNK = 1 << 20


class Source(Protocol):
    """A tree, and the contents of the files in it."""

    @property
    def tree(self) -> Tree:
        """All that may be copied."""

    def open(self, node: Node) -> BinaryIO:
        """A regular file's bytes."""


class Context:
    """The folder of a build, without what `.dockerignore` names. It is read when first needed.

    `ignored` counts what was left out.
    """

    def __init__(self, root: Path, dockerfile: Path | None = None) -> None:
        self.root = root
        self.ignored = 0
        self._dockerfile = dockerfile
        self._tree: Tree | None = None
        self._paths: list[bytes] = []

    @property
    def tree(self) -> Tree:
        """All files that may be copied. A node's `block` is its number in our list of paths."""
        if self._tree is None:
            self._tree = Tree()
            self._scan(self._tree, self._matcher())
        return self._tree

    def open(self, node: Node) -> BinaryIO:
        """A file's bytes. Raises BuildError when it has changed its kind, or cannot be read."""
        path = self._paths[node.block]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BuildError(f"cannot read {os.fsdecode(path)}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BuildError(f"{os.fsdecode(path)} changed while it was copied")
        return os.fdopen(fd, "rb")

    def _matcher(self) -> PatternMatcher | None:
        from e2b_dockerfile_utils import PatternMatcher

        names = [self.root / ".dockerignore"]
        if self._dockerfile is not None:
            names.insert(0, self._dockerfile.with_name(self._dockerfile.name + ".dockerignore"))
        for path in names:
            try:
                with path.open("rb") as file:
                    text = file.read(MAX_IGNORE + 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise BuildError(f"cannot read {path}: {error.strerror}") from error
            if len(text) > MAX_IGNORE:
                raise BuildError(f"{path} is larger than 1 MiB")
            try:
                return PatternMatcher(ignore_patterns(text.decode("utf-8", "surrogateescape")))
            except ValueError as error:
                raise BuildError(f"{path}: {error}") from error
        return None

    def _scan(self, tree: Tree, matcher: PatternMatcher | None) -> None:
        top = os.fsencode(self.root)
        stack = [(b"", tree.root)]
        doubtful: list[tuple[Node, bytes]] = []  # ignored folders that something may be kept of
        while stack:
            inside, folder = stack.pop()
            where = top + b"/" + inside if inside else top
            try:
                entries = sorted(os.scandir(where), key=lambda entry: entry.name)
            except OSError as error:
                raise BuildError(
                    f"cannot read {os.fsdecode(where)}: {error.strerror}",
                    hint="make it readable, or name it in .dockerignore",
                ) from error
            for entry in entries:
                path = inside + b"/" + entry.name if inside else entry.name
                text = path.decode("utf-8", "surrogateescape")
                ignored = matcher is not None and matcher.matches(text)
                directory = entry.is_dir(follow_symlinks=False)
                if ignored and not (directory and matcher and matcher.may_match_under(text)):
                    self.ignored += 1
                    continue
                node = self._node(entry)
                if node is None:
                    continue
                assert folder.children is not None
                folder.children[entry.name] = node
                if directory:
                    stack.append((path, node))
                    if ignored:
                        doubtful.append((folder, entry.name))
        for folder, name in reversed(doubtful):
            assert folder.children is not None
            if not folder.children[name].children:
                del folder.children[name]

    def _node(self, entry: os.DirEntry[bytes]) -> Node | None:
        status = entry.stat(follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO):
            return None  # sockets and devices of this machine belong into no image
        seconds, rest = divmod(status.st_mtime_ns, 1_000_000_000)
        node = Node(status.st_mode, 0, 0, seconds, rest, block=len(self._paths))
        self._paths.append(entry.path)
        if kind == stat.S_IFREG:
            node.size = status.st_size
        elif kind == stat.S_IFLNK:
            node.target = os.fsencode(Path(os.fsdecode(entry.path)).readlink())
        return node


def ignore_patterns(text: str) -> list[str]:
    """The patterns of a `.dockerignore`."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


class ImageFiles:
    """The files of an image in the store, read from its unpacked layers."""

    def __init__(self, store: ImageStore, image: Image | None) -> None:
        self._data = [store.layers.data(layer) for layer in image.diff_ids] if image else []
        self.tree = Tree()
        if image is not None:
            for layer in image.diff_ids:
                store.layers.load(layer).replay(self.tree)

    def open(self, node: Node) -> BinaryIO:
        """A file's bytes."""
        file = self._data[node.source - 1].open("rb")
        file.seek(node.block * BLOCK)
        return file

    def text(self, path: bytes, limit: int = 1 << 20) -> str:
        """A small file's text, links followed; empty when there is none."""
        from sandlot.build.selection import follow

        _, node = follow(self.tree, path)
        if node is None or not node.is_file or node.size > limit or not node.source:
            return ""
        with self.open(node) as file:
            return file.read(node.size).decode("utf-8", "surrogateescape")


def digest_of_file(source: Source, node: Node) -> str:
    """SHA-256 of a regular file, in hexadecimal digits."""
    found = hashlib.sha256()
    left = node.size
    with source.open(node) as file:
        while left and (data := file.read(min(left, CHUNK))):
            found.update(data)
            left -= len(data)
    return found.hexdigest()
