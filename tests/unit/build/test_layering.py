from __future__ import annotations

import io
import stat
from collections.abc import Callable

import pytest

from sandlot.build.layering import Layering, content_key, copy_files
from sandlot.build.selection import Placement
from sandlot.errors import BuildError
from sandlot.image.tar import Member
from sandlot.image.tree import Node, Tree

FILE = Node(stat.S_IFREG | 0o640, 7, 8, 1_700_000_000, size=3)
FOLDER = Node(stat.S_IFDIR | 0o700)


@pytest.fixture
def image() -> Tree:
    tree = Tree()
    for path, node in {
        b"usr/lib": Node(stat.S_IFDIR | 0o755), b"lib": Node(stat.S_IFLNK | 0o777, target=b"usr/lib"),
        b"etc/file": Node(stat.S_IFREG | 0o644), b"dangling": Node(stat.S_IFLNK | 0o777, target=b"new"),
    }.items():  # fmt: skip
        tree.add(path, node)
    return tree


def put(image: Tree, *placements: Placement, **more: object) -> list[tuple[str, int, int]]:
    told: list[Member] = []
    layering = Layering(image, told.append, (5, 6))
    for each in placements:
        layering.put(each, io.BytesIO(b"abc"), **more)  # type: ignore[arg-type]
    return [(m.path.decode(), m.node.mode, m.node.uid) for m in told if m.node]


def test_folders_are_made_once_for_their_owner(image: Tree) -> None:
    assert put(image, Placement(b"/opt/a/f", FILE), Placement(b"/opt/a/g", FILE)) == [
        ("opt", stat.S_IFDIR | 0o755, 5),
        ("opt/a", stat.S_IFDIR | 0o755, 5),
        ("opt/a/f", FILE.mode, 7),
        ("opt/a/g", FILE.mode, 7),
    ]


def test_links_in_the_image_are_followed_and_kept(image: Tree) -> None:
    assert put(image, Placement(b"/lib/f", FILE))[0][0] == "usr/lib/f"
    assert put(image, Placement(b"/lib", FOLDER))[0][0] == "usr/lib"
    assert put(image, Placement(b"/lib/new/f", FILE))[0][0] == "usr/lib/new"
    assert [path for path, _, _ in put(image, Placement(b"/dangling/f", FILE))] == ["new", "new/f"]
    found = image.find(b"lib")
    assert found is not None and found.is_symlink


def test_a_folder_that_is_there_stays_when_it_is_only_merged(image: Tree) -> None:
    assert put(image, Placement(b"/usr", FOLDER, merge=True)) == []
    assert put(image, Placement(b"/", FOLDER, merge=True)) == []
    assert put(image, Placement(b"/new", FOLDER, merge=True))[0][0] == "new"


def test_owner_and_mode(image: Tree) -> None:
    made = put(image, Placement(b"/f", FILE), owner=(1, 2), mode=0o600)
    assert made == [("f", stat.S_IFREG | 0o600, 1)]
    link = Node(stat.S_IFLNK | 0o777, target=b"x")
    assert put(image, Placement(b"/l", link), mode=0o600)[0][1] == link.mode
    assert (FILE.uid, FILE.mode) == (7, stat.S_IFREG | 0o640)  # the source is as it was


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        (Placement(b"/usr/lib", FILE), "is a folder in the image, not a file"),
        (Placement(b"/etc/file", FOLDER), "is a file in the image, not a folder"),
        (Placement(b"/etc/file/x", FILE), "is a file in the image"),
        (Placement(b"/a/.wh.x", FILE), "would remove a file"),
    ],
)
def test_what_does_not_fit(image: Tree, placement: Placement, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        put(image, placement)


def test_archives(image: Tree) -> None:
    told: list[Member] = []
    layering = Layering(image, told.append)
    members = [
        Member(b"./", FOLDER),
        Member(b"d/f", Node(stat.S_IFREG | 0o644, 9, 9, size=1), None, io.BytesIO(b"x")),
        Member(b"d/g", None, b"d/f"),
    ]
    layering.unpack(members, b"/lib/x/", owner=(1, 1))
    assert [(m.path, m.link) for m in told] == [
        (b"usr/lib/x", None), (b"usr/lib/x/d/f", None), (b"usr/lib/x/d/g", b"usr/lib/x/d/f"),
    ]  # fmt: skip
    assert told[1].node is not None and told[1].node.uid == 1
    with pytest.raises(BuildError, match="would remove"):
        layering.unpack([Member(b"a/.wh.b", FILE)], b"/")


def test_keys_tell_what_matters() -> None:
    def key(
        path: bytes = b"/a", node: Node = FILE, digest: Callable[[Node], str] = lambda n: "d",
        owner: tuple[int, int] | None = None, mode: int | None = None,
    ) -> str:  # fmt: skip
        return content_key([Placement(path, node)], digest, owner=owner, mode=mode)

    later = Node(FILE.mode, FILE.uid, FILE.gid, 1, size=3)
    assert key() == key(node=later)
    others = {
        key(path=b"/b"),
        key(digest=lambda n: "e"),
        key(owner=(1, 1)),
        key(mode=0o1),
        key(node=FOLDER),
    }
    assert len(others) == 5 and key() not in others


def test_copying_reads_contents() -> None:
    class OneFile:
        tree = Tree()

        def open(self, node: Node) -> io.BytesIO:
            return io.BytesIO(b"abc")

    told: list[bytes] = []
    layering = Layering(Tree(), lambda m: told.append(m.content.read(9)))
    copy_files(
        layering,
        OneFile(),
        [Placement(b"/d", FOLDER), Placement(b"/d/f", FILE)],
        owner=None,
        mode=None,
    )
    assert told == [b"", b"abc"]
