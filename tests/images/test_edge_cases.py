"""Layers whose meaning is easily got wrong, each against what umoci makes of them.

umoci (opencontainers) is the reference: it unpacks the same image into a folder, and every entry
is compared. What only root may do, owners and devices, is compared when the tests run as root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from sandlot.image.mountpoints import MOUNT_POINTS
from sandlot.image.records import Image
from sandlot.image.saving import save_images
from sandlot.image.store import ImageStore
from tests.framework.erofs import ErofsReader, Inode
from tests.framework.images import add_image, entry, layer, look

ROOT = os.geteuid() == 0
DIR, SYM, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CAPABILITY = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

Entry = tuple[tarfile.TarInfo, bytes]


def folder(name: str, **fields: object) -> Entry:
    fields.setdefault("mode", 0o755)
    return entry(name, b"", type=DIR, **fields)


def link(name: str, target: str) -> Entry:
    return entry(name, type=SYM, linkname=target, mode=0o777)


def hard(name: str, target: str) -> Entry:
    return entry(name, type=HARD, linkname=target)


def gone(name: str) -> Entry:
    parent, _, base = name.rpartition("/")
    return entry(f"{parent}/.wh.{base}" if parent else f".wh.{base}")


def opaque(name: str) -> Entry:
    return entry(f"{name}/.wh..wh..opq")


def with_xattrs(name: str, data: bytes, **xattrs: str) -> Entry:
    member, _ = entry(name, data)
    member.pax_headers = {
        f"SCHILY.xattr.{key.replace('__', '.')}": value for key, value in xattrs.items()
    }
    return member, data


TREE = (
    folder("d"), folder("d/sub"), entry("d/a", b"a"), entry("d/b", b"b"), entry("d/sub/c", b"c"),
    entry("f", b"file"),
)  # fmt: skip

CASES: dict[str, list[tuple[Entry, ...]]] = {
    "kinds": [
        (
            folder("etc", mtime=1000), entry("etc/x", b"x", mode=0o4755, uid=1000, gid=70_000),
            folder("sticky", mode=0o1777), entry("none", b"n", mode=0), link("abs", "/etc/x"),
            link("rel", "../etc/x"), link("dangling", "nowhere"), hard("hard", "etc/x"),
            entry("pipe", type=tarfile.FIFOTYPE, mode=0o600), entry("empty", mtime=5),
            entry("big", b"0123456789" * 100_000), entry("old", b"o", mtime=-7),
        ),
    ],
    "devices": [
        (
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("block", type=tarfile.BLKTYPE, devmajor=259, devminor=70_000, mode=0o600),
        ),
    ] if ROOT else [TREE],
    "whiteout of a file": [TREE, (gone("d/a"), gone("f"))],
    "whiteout of a folder": [TREE, (gone("d"),)],
    "whiteout of nothing": [TREE, (gone("nothing"), gone("d/nothing"))],
    "whiteout of what is below a missing folder": [TREE, (gone("x/y/z"),), (entry("n", b"n"),)],
    "whiteout, then the same name": [TREE, (gone("f"), entry("f", b"new"))],
    "the name, then its whiteout": [TREE, (entry("f", b"new"), gone("f"))],
    "whiteout of a folder, then a new one": [TREE, (gone("d"), folder("d"), entry("d/n", b"n"))],
    "a new folder, then its whiteout": [TREE, (folder("d"), entry("d/n", b"n"), gone("d"))],
    "whiteout twice": [TREE, (gone("d/a"),), (gone("d/a"),), (entry("d/a", b"again"),)],
    "whiteout of a link": [(*TREE, link("l", "f")), (gone("l"),)],
    "opaque folder": [TREE, (folder("d"), opaque("d"), entry("d/n", b"n"))],
    "opaque folder, its mark last": [TREE, (folder("d"), entry("d/n", b"n"), opaque("d"))],
    "opaque folder that keeps one": [TREE, (folder("d"), entry("d/sub/n", b"n"), opaque("d"))],
    "opaque folder inside": [TREE, (folder("d/sub"), opaque("d/sub"))],
    "opaque folder that is new": [TREE, (folder("e"), opaque("e"), entry("e/n", b"n"))],
    "hard link to a lower layer": [TREE, (hard("h", "d/a"),)],
    "hard link whose target is replaced above": [TREE, (hard("h", "d/a"),), (entry("d/a", b"2"),)],
    "hard link whose target is removed above": [TREE, (hard("h", "f"),), (gone("f"),)],
    "hard links across three layers": [TREE, (hard("h", "f"),), (hard("i", "h"),)],
    "hard link to a symbolic link": [(*TREE, link("l", "f"), hard("h", "l"))],
    "hard link over a file": [TREE, (entry("g", b"g"), hard("f", "g"))],
    "hard link with ./ in both": [(folder("./a"), entry("./a/x", b"x"), hard("./a/y", "./a/x"))],
    "a folder becomes a file": [TREE, (entry("d", b"now a file"),)],
    "a file becomes a folder": [TREE, (folder("f"), entry("f/x", b"x"))],
    "a link becomes a folder": [(*TREE, link("l", "d")), (folder("l"), entry("l/x", b"x"))],
    "a folder becomes a link": [TREE, (link("d", "elsewhere"),)],
    "a file becomes a link": [TREE, (link("f", "d/a"),)],
    "a folder's attributes change": [TREE, (folder("d", mode=0o700, uid=5, gid=6, mtime=99),)],
    "a file's attributes change": [TREE, (entry("f", b"file", mode=0o755, uid=7, mtime=11),)],
    "through a relative link": [
        (folder("usr"), folder("usr/lib"), link("lib", "usr/lib")), (entry("lib/new", b"n"),),
    ],
    "through an absolute link": [
        (folder("usr"), folder("usr/lib"), link("lib", "/usr/lib")), (entry("lib/new", b"n"),),
    ],
    "through a link out of the root": [
        (folder("in"), link("out", "../../../../in")), (entry("out/new", b"n"),),
    ],
    "whiteout through a link": [
        (folder("usr"), entry("usr/x", b"x"), link("l", "usr")), (gone("l/x"),),
    ],
    "duplicates": [
        (entry("x", b"1"), entry("x", b"two", mode=0o600), folder("y"), entry("y/z", b"z"),
         folder("y", mode=0o711), link("l", "a"), link("l", "b")),
    ],
    "a duplicate of a hard link": [(entry("a", b"1"), hard("b", "a"), entry("a", b"2"))],
    "parents that nobody describes": [(entry("a/b/c/d", b"d"),)],
    "parents that come later": [(entry("a/b", b"b"), folder("a", mode=0o700, mtime=3))],
    "names": [
        (
            entry("n" * 255, b"1"), entry("/".join(["p" * 90] * 5), b"2"), entry("ümläut ☃", b"3"),
            entry("new\nline", b"4"), entry("\udcff\udcfe", b"5"), entry("-dash", b"6"),
            entry("sp ace", b"7"), link("to", "t" * 300), entry("..dots", b"8"), entry("a..", b"9"),
        ),
    ],
    "slashes": [(folder("./"), folder("./a/"), entry("./a//b", b"b"), entry("/c", b"c"))],
    "the root's own attributes": [(folder("./", mode=0o711, uid=1, gid=2, mtime=77),)],
    "attributes": [
        (with_xattrs("cap", b"#!", security__capability=CAPABILITY),
         with_xattrs("user", b"u", user__one="1", user__two="\x01=\n")),
    ],
    "attributes that a later layer drops": [
        (with_xattrs("x", b"x", user__one="1"),), (entry("x", b"x"),),
    ],
    "an empty layer": [TREE, (), (gone("f"),)],
    "no entry at all": [()],
    "many layers": [(entry(f"f{number % 7}", b"%d" % number),) for number in range(40)],
}  # fmt: skip

Seen = dict[bytes, tuple[object, ...]]


def by_umoci(store: ImageStore, name: str, place: Path) -> Seen:
    """Every entry of the folder that umoci makes."""
    save_images(store, [name], place / "layout", format="oci-dir")
    command = ["umoci", "unpack", "--image", f"{place / 'layout'}:{name}:latest"]
    if not ROOT:
        command.append("--rootless")
    subprocess.run([*command, place / "bundle"], check=True, capture_output=True, text=True)
    root = os.fsencode(place / "bundle" / "rootfs")
    seen: Seen = {b"": described(root, os.lstat(root))}
    for parent, folders, files in os.walk(root):
        for each in sorted([*folders, *files]):
            path = parent + b"/" + each
            status = os.lstat(path)
            inside = path[len(root) + 1 :]
            seen[inside] = described(path, status)
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                seen[inside] += (status.st_nlink,)
    return seen


def described(path: bytes, status: os.stat_result) -> tuple[object, ...]:
    mode = status.st_mode
    what: object = None
    if stat.S_ISREG(mode):
        if not os.access(path, os.R_OK):
            Path(os.fsdecode(path)).chmod(0o400)
        with open(path, "rb") as file:
            what = hashlib.sha256(file.read()).hexdigest()
    elif stat.S_ISLNK(mode):
        what = os.readlink(path)  # noqa: PTH115
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        what = (os.major(status.st_rdev), os.minor(status.st_rdev))
    xattrs = {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(("user.rootlesscontainers", "security.selinux"))
    }
    return facts(mode, status.st_uid, status.st_gid, int(status.st_mtime // 1), what, xattrs)


def facts(
    mode: int, uid: int, gid: int, mtime: int, what: object, xattrs: dict[bytes, bytes]
) -> tuple[object, ...]:
    if not ROOT:
        uid = gid = 0
        xattrs = {key: value for key, value in xattrs.items() if key.startswith(b"user.")}
    # A link's own mode does not exist, and a folder that nobody described has the time of now.
    return (
        mode if not stat.S_ISLNK(mode) else stat.S_IFLNK, uid, gid,
        mtime if mtime < 1_000_000_000 else "now", what, tuple(sorted(xattrs.items())),
    )  # fmt: skip


def by_sandlot(reader: ErofsReader, found: dict[bytes, Inode]) -> Seen:
    seen: Seen = {}
    for path, inode in found.items():
        what: object = None
        if stat.S_ISREG(inode.mode):
            what = hashlib.sha256(reader.data(inode)).hexdigest()
        elif stat.S_ISLNK(inode.mode):
            what = reader.data(inode)
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            what = inode.device
        seen[path] = facts(inode.mode, inode.uid, inode.gid, inode.mtime[0], what, inode.xattrs)
        if inode.nlink > 1 and not stat.S_ISDIR(inode.mode):
            seen[path] += (inode.nlink,)
    return seen


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_umoci(case: str, tmp_path: Path) -> None:
    assert shutil.which("umoci"), "`make setup` installs umoci"
    store = ImageStore(tmp_path / "store")
    image = add_image(store, "case", *(layer(*entries) for entries in CASES[case]))
    compare(store, image, tmp_path, described_folders(CASES[case]))


def described_folders(layers: list[tuple[Entry, ...]]) -> set[bytes]:
    names = [m.name.strip("./").replace("//", "/") for e in layers for m, _ in e if m.isdir()]
    return {name.encode("utf-8", "surrogateescape") for name in names}


def compare(store: ImageStore, image: Image, place: Path, folders: set[bytes]) -> None:
    reader, found = look(store, image, place / "device")
    ours = by_sandlot(reader, found)
    reader.close()
    theirs = by_umoci(store, "case", place)
    for path in MOUNT_POINTS:
        if path not in theirs:
            assert ours.pop(path)
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        if stat.S_ISDIR(int(str(expected[0]))) and path not in folders:
            continue  # nobody said what it looks like
        got = ours[path]
        if expected[3] == "now":  # the reference touched a folder when it took something away
            got = (*got[:3], "now", *got[4:])
        assert got == expected, path


@pytest.mark.parametrize(
    "options",
    [["--format=gnu"], ["--format=posix", "--sparse-version=0.1"], ["--format=posix"]],
    ids=["gnu", "pax-0.1", "pax-1.0"],
)
def test_sparse_files(options: list[str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        for number in range(30):
            file.seek(number * 500_000)
            file.write(b"piece %d" % number)
        file.truncate(20_000_000)
    for path in source.iterdir():
        os.utime(path, (5, 5))
    command = ["tar", "-cf", "-", "-S", *options, "sparse"]
    stream = subprocess.run(command, cwd=source, check=True, capture_output=True).stdout
    assert len(stream) < 1_000_000
    store = ImageStore(tmp_path / "store")
    image = add_image(store, "case", stream)
    reader, found = look(store, image, tmp_path / "device")
    assert reader.data(found[b"sparse"]) == (source / "sparse").read_bytes()
    reader.close()
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    # umoci does not know sparse files; bsdtar is the reference for them.
    subprocess.run(["bsdtar", "-xf", "-", "-C", unpacked], input=stream, check=True)
    assert (unpacked / "sparse").read_bytes() == (source / "sparse").read_bytes()
