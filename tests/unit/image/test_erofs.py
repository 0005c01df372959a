from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandlot.errors import ImageError
from sandlot.image.contents import ContentsWriter
from sandlot.image.erofs import ErofsWriter
from sandlot.image.tree import Node, Tree
from tests.framework.erofs import ErofsReader, Inode

BUILD_TIME = 0
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex("0200000001000700ffffffff04000500ffffffff20000500ffffffff")
SIZES = (0, 1, 31, 32, 4031, 4032, 4033, 4063, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 100_000)

Fill = Callable[[ContentsWriter, Tree], None]


def pattern(size: int, seed: int = 0) -> bytes:
    return bytes((i * 7 + (i >> 8) + seed) & 0xFF for i in range(size))


def write(path: Path, fill: Fill) -> int:
    """An image as a guest sees it: contents stand between the two parts of the metadata."""
    parts = [path.with_suffix(".contents"), path.with_suffix(".metadata")]
    with parts[0].open("w+b") as data, parts[1].open("w+b") as metadata, path.open("wb") as out:
        contents, tree = ContentsWriter(data.fileno(), limit=1 << 40), Tree()
        fill(contents, tree)
        size = contents.close()
        ErofsWriter([contents.blocks]).finish(tree, metadata.fileno())
        metadata.seek(0)
        out.write(metadata.read(4096))
        for start, end in pieces_of(data.fileno(), size):
            out.seek(4096 + start)
            data.seek(start)
            out.write(data.read(end - start))
        out.seek(4096 + size)
        out.write(metadata.read())
    for part in parts:
        part.unlink()
    return path.stat().st_size


def pieces_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a sparse file has data."""
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        yield at, end
        at = end


def add(
    writer: ContentsWriter, tree: Tree, path: bytes, data: bytes, node: Node | None = None
) -> Node:
    node = node or Node(stat.S_IFREG | 0o644)
    node.size = len(data)
    node.block = writer.store(io.BytesIO(data), len(data))
    tree.add(path, node)
    return node


def fsck(path: Path) -> None:
    tool = shutil.which("fsck.erofs")
    if tool is not None:
        done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "<E>" not in done.stdout + done.stderr, done


def read(path: Path) -> tuple[ErofsReader, dict[bytes, Inode]]:
    reader = ErofsReader(path)
    return reader, reader.walk()


def every_kind(writer: ContentsWriter, tree: Tree) -> None:
    tree.add(b"", Node(stat.S_IFDIR | 0o755, mtime=BUILD_TIME))
    tree.add(b"dir", Node(stat.S_IFDIR | 0o1777, uid=1000, gid=70_000, mtime=5, mtime_ns=9))
    for size in SIZES:
        add(writer, tree, b"sizes/%d" % size, pattern(size, size))
        add(
            writer, tree, b"compact/%d" % size, pattern(size, size + 1),
            Node(stat.S_IFREG | 0o600, uid=65535, mtime=BUILD_TIME),
        )  # fmt: skip
    add(writer, tree, b"bin/su", b"#!", Node(stat.S_IFREG | 0o4755, mtime=-3))
    add(
        writer, tree, b"bin/ping", pattern(5000),
        Node(stat.S_IFREG | 0o755, uid=1 << 31, xattrs={
            b"security.capability": CAPABILITY, b"user.a": b"", b"user." + b"n" * 250: b"v" * 999,
            b"trusted.overlay.opaque": b"y", b"system.posix_acl_access": ACL,
        }),
    )  # fmt: skip
    tree.add(
        b"acl", Node(stat.S_IFDIR | 0o755, xattrs={b"system.posix_acl_default": ACL})
    )  # fmt: skip
    add(
        writer, tree, b"many-xattrs", pattern(100),
        Node(stat.S_IFREG, xattrs={b"user.%d" % i: b"x" * 1000 for i in range(20)}),
    )  # fmt: skip
    tree.link(b"dir/ping", b"bin/ping")
    tree.link(b"ping2", b"dir/ping")
    tree.add(b"dev/null", Node(stat.S_IFCHR | 0o666, device=(1, 3)))
    tree.add(b"dev/big", Node(stat.S_IFBLK | 0o660, device=(259, 0x12345)))
    tree.add(b"dev/pipe", Node(stat.S_IFIFO | 0o600))
    tree.add(b"dev/socket", Node(stat.S_IFSOCK | 0o755))
    for length in (1, 60, 4031, 4032, 4033, 4095):
        tree.add(b"links/%d" % length, Node(stat.S_IFLNK | 0o777, target=b"t" * length))
    tree.add(b"n" * 255, Node(stat.S_IFDIR))
    add(writer, tree, b"non-utf8/\xff\xfe\x80", b"x")
    add(writer, tree, b"!before-dot", b"y")
    add(writer, tree, b"/".join([b"deep"] * 300) + b"/leaf", b"z")


def test_every_kind(tmp_path: Path) -> None:
    image = tmp_path / "a.erofs"
    tree_seen = []

    def fill(writer: ContentsWriter, tree: Tree) -> None:
        every_kind(writer, tree)
        tree_seen.append(tree)

    write(image, fill)
    fsck(image)
    reader, found = read(image)
    expected = dict(tree_seen[0].walk())
    assert found.keys() == expected.keys()
    for path, node in expected.items():
        inode = found[path]
        assert (inode.mode, inode.uid, inode.gid) == (node.mode, node.uid, node.gid), path
        assert inode.mtime == (node.mtime, node.mtime_ns)
        assert inode.xattrs == (node.xattrs or {})
        if stat.S_ISREG(node.mode):
            assert inode.size == node.size
        if node.is_symlink:
            assert reader.data(inode) == node.target
        if stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
            assert inode.device == node.device
        if node.children is not None:
            assert inode.nlink == 2 + sum(c.is_dir for c in node.children.values())
    for size in SIZES:
        assert reader.data(found[b"sizes/%d" % size]) == pattern(size, size)
        assert reader.data(found[b"compact/%d" % size]) == pattern(size, size + 1)
    assert found[b"ping2"].nid == found[b"bin/ping"].nid and found[b"ping2"].nlink == 3
    assert reader.data(found[b"ping2"]) == pattern(5000)
    assert reader.build_time == BUILD_TIME
    reader.close()


def test_erofs_utils_extracts_the_same(tmp_path: Path) -> None:
    tool = shutil.which("fsck.erofs")
    assert tool is not None, "`make setup` installs erofs-utils"
    image, out = tmp_path / "a.erofs", tmp_path / "out"

    def fill(writer: ContentsWriter, tree: Tree) -> None:
        for size in SIZES:
            add(writer, tree, b"sizes/%d" % size, pattern(size, size))
        for i in range(3000):
            tree.add(b"big/%032d" % i, Node(stat.S_IFLNK | 0o777, target=b"%d" % i))
        tree.link(b"linked", b"sizes/4097")
        add(writer, tree, b"non-utf8/\xff", b"x", Node(stat.S_IFREG | 0o640, mtime=77))

    write(image, fill)
    subprocess.run([tool, f"--extract={out}", str(image)], check=True, capture_output=True)
    out = out / "root"
    for size in SIZES:
        assert (out / "sizes" / str(size)).read_bytes() == pattern(size, size)
    assert len(list((out / "big").iterdir())) == 3000
    assert all((out / f"big/{i:032d}").readlink() == Path(str(i)) for i in range(3000))
    assert (out / "linked").read_bytes() == pattern(4097, 4097)
    odd = Path(os.fsdecode(os.fsencode(out) + b"/non-utf8/\xff"))
    assert stat.S_IMODE(odd.stat().st_mode) == 0o640 and odd.stat().st_mtime == 77


def test_equal_input_gives_an_equal_image(tmp_path: Path) -> None:
    write(tmp_path / "a", every_kind)
    write(tmp_path / "b", every_kind)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_image_begins_alike(tmp_path: Path) -> None:
    write(tmp_path / "a", every_kind)
    write(tmp_path / "b", lambda writer, tree: None)
    before_the_root = slice(0, 1024 + 128 + 128)
    a, b = ((tmp_path / name).read_bytes()[before_the_root] for name in "ab")
    # The checksum is over the whole block; the kernel looks at it only when it mounts.
    assert a[:1028] + a[1032:] == b[:1028] + b[1032:]


def test_a_directory_with_100_000_entries(tmp_path: Path) -> None:
    def fill(writer: ContentsWriter, tree: Tree) -> None:
        for i in range(100_000):
            tree.add(b"d/%d" % i, Node(stat.S_IFIFO | 0o600))

    write(tmp_path / "a", fill)
    reader, found = read(tmp_path / "a")
    assert len(found) == 100_002
    reader.close()


def test_a_sparse_file_beyond_4_gib(tmp_path: Path) -> None:
    size = (5 << 30) + 10

    def fill(writer: ContentsWriter, tree: Tree) -> None:
        content = io.BytesIO(b"A" * 4096 + b"tail")
        block = writer.store(content, size, [(1 << 32, 4096), (size - 4, 4)])
        tree.add(b"big", Node(stat.S_IFREG, size=size, block=block))
        block = writer.store(io.BytesIO(b""), 9000, [])
        tree.add(b"hole", Node(stat.S_IFREG, size=9000, block=block))

    write(tmp_path / "a", fill)
    assert (tmp_path / "a").stat().st_blocks * 512 < 1 << 20
    fd_reader, found = read(tmp_path / "a")
    big = found[b"big"]
    assert big.size == size
    assert fd_reader.read(big, (1 << 32) - 1, 4098) == b"\0" + b"A" * 4096 + b"\0"
    assert fd_reader.read(big, size - 10, 10) == bytes(6) + b"tail"
    assert fd_reader.data(found[b"hole"]) == bytes(9000)
    fd_reader.close()


def test_an_empty_tree(tmp_path: Path) -> None:
    write(tmp_path / "a", lambda writer, tree: None)
    fsck(tmp_path / "a")
    reader, found = read(tmp_path / "a")
    assert list(found) == [b""]
    reader.close()


@pytest.mark.parametrize("count", [50, 200, 10_000])
def test_the_root_directory_of_any_size(tmp_path: Path, count: int) -> None:
    def fill(writer: ContentsWriter, tree: Tree) -> None:
        for i in range(count):
            tree.add(b"name-%d" % i, Node(stat.S_IFDIR | 0o755))

    write(tmp_path / "a", fill)
    fsck(tmp_path / "a")
    reader, found = read(tmp_path / "a")
    assert len(found) == count + 1
    reader.close()


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (Node(stat.S_IFLNK, target=b""), "target has 0"),
        (Node(stat.S_IFLNK, target=b"t" * 4096), "target has 4096"),
        (Node(stat.S_IFCHR, device=(4096, 0)), "out of range"),
        (Node(stat.S_IFIFO, uid=-1), "out of range"),
        (Node(stat.S_IFIFO, gid=1 << 32), "out of range"),
        (Node(stat.S_IFIFO, mtime=1 << 63), "out of range"),
        (Node(stat.S_IFIFO, xattrs={b"weird.name": b""}), "name space"),
        (Node(stat.S_IFIFO, xattrs={b"user.a": b"x" * 65536}), "too long"),
        (Node(stat.S_IFIFO, xattrs={b"user.%d" % i: b"x" * 65000 for i in range(5)}), "too many"),
    ],
)
def test_what_cannot_be_stored(tmp_path: Path, node: Node, what: str) -> None:
    with pytest.raises(ImageError, match=what):
        write(tmp_path / "a", lambda writer, tree: tree.add(b"x", node))


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
xattrs = st.dictionaries(
    st.binary(min_size=1, max_size=30).map(lambda n: b"user." + n), st.binary(max_size=3000),
    max_size=3,
)  # fmt: skip
times = st.one_of(st.just(BUILD_TIME), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Node, bytes]:
    kind = draw(st.sampled_from((stat.S_IFREG, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)))
    node = Node(
        kind | draw(st.integers(0, 0o7777)), uid=draw(st.integers(0, (1 << 32) - 1)),
        gid=draw(st.integers(0, 70_000)), mtime=draw(times), xattrs=draw(xattrs),
    )  # fmt: skip
    data = b""
    if kind == stat.S_IFREG:
        edge = draw(st.sampled_from((0, 4096 - 64, 4096, 8192)))
        data = pattern(max(0, edge + draw(st.integers(-40, 40))), draw(st.integers(0, 255)))
        node.size = len(data)
    elif kind == stat.S_IFLNK:
        node.target = draw(st.binary(min_size=1, max_size=4095).filter(lambda t: 0 not in t))
    return node, data


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=st.lists(st.tuples(paths, nodes()), max_size=25))
def test_random_trees_come_back(
    tmp_path: Path, entries: list[tuple[bytes, tuple[Node, bytes]]]
) -> None:
    trees: list[Tree] = []
    contents: dict[Node, bytes] = {}

    def fill(writer: ContentsWriter, tree: Tree) -> None:
        trees.append(tree)
        for path, (node, data) in entries:
            if stat.S_ISREG(node.mode):
                node.block = writer.store(io.BytesIO(data), len(data))
                contents[node] = data
            try:
                tree.add(path, node)
            except ImageError as error:
                assert "symbolic links" in str(error)  # a loop, by chance

    write(tmp_path / "a", fill)
    reader, found = read(tmp_path / "a")
    expected = dict(trees[0].walk())
    assert found.keys() == expected.keys()
    for path, node in expected.items():
        inode = found[path]
        assert (inode.mode, inode.uid, inode.gid) == (node.mode, node.uid, node.gid)
        assert inode.mtime == (node.mtime, node.mtime_ns)
        assert inode.xattrs == (node.xattrs or {})
        if node in contents:
            assert reader.data(inode) == contents[node]
        elif node.is_symlink:
            assert reader.data(inode) == node.target
    reader.close()
