"""Nothing leads out of the volume, whatever the host does meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot.filesystem.host import syscalls
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.host.tree import Descriptor
from sandlot.testing import FileSystemClient
from tests.unit.filesystem.host.conftest import Mounted
from tests.unit.filesystem.host.guest import Guest
from tests.unit.filesystem.host.test_names import failed

CANARY = b"nobody's business"
SECONDS = 3.0


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the volume that is laid out as one in it."""
    made = tmp_path / "outside"
    (made / "below").mkdir(parents=True)
    for name in ("file", "below/file"):
        (made / name).write_bytes(CANARY)
    return made


@contextlib.contextmanager
def racing(change: object) -> Iterator[None]:
    """Something that another thread does over and over."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            change()  # type: ignore[operator]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def everything(guest: Guest) -> bytes:
    """Try to read, write and remove by every way there is; what was read."""
    read = b""
    tries = [
        lambda: guest.read("door/file"),
        lambda: guest.read("door/below/file"),
        lambda: guest.write("door/file", b"written"),
        lambda: guest.write("door/below/new", b"written"),
        lambda: guest.set("door/below/file", size=1, mode=0o4777, mtime_ns=1, uid=5),
        lambda: guest.mkdir("door/made"),
        lambda: guest.rename("door/below/file", "door/below/moved"),
        lambda: guest.link("door/file", "door/linked"),
        lambda: guest.unlink("door/below/file"),
        lambda: guest.list("door/below"),
        lambda: guest.symlink("door/below/sym", "x"),
    ]
    for attempt in tries:
        try:
            found = await attempt()  # type: ignore[no-untyped-call]
        except OSError:
            continue
        if isinstance(found, bytes):
            read += found
    return read


@pytest.mark.parametrize("cold", [False, True], ids=["open folders", "closed folders"])
@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "name by name"])
async def test_a_host_that_swaps_folders_for_links(
    guest: Guest, folder: Path, outside: Path, cold: bool, openat2: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if not openat2:
        monkeypatch.setattr(syscalls, "_without", {"openat2"})
    before = {p: p.stat().st_mtime_ns for p in (outside, *outside.rglob("*"))}
    (folder / "real/below").mkdir(parents=True)
    (folder / "door").symlink_to(outside)
    (folder / "spare").mkdir()

    def swap() -> None:
        with contextlib.suppress(OSError):
            os.rename(folder / "door", folder / "link")
            os.rename(folder / "real", folder / "door")
            for name in ("real/file", "real/below/file"):
                with contextlib.suppress(OSError):
                    (folder / name.replace("real", "door")).write_bytes(b"inside")
            os.rename(folder / "door", folder / "real")
            os.rename(folder / "link", folder / "door")
        with contextlib.suppress(OSError):  # and one level below
            os.rename(folder / "real/below", folder / "spare/below")
            os.symlink(outside / "below", folder / "real/below")
            os.unlink(folder / "real/below")
            os.rename(folder / "spare/below", folder / "real/below")

    with racing(swap):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert CANARY not in await everything(guest)
            if cold:
                for node in guest.fs.tree.nodes():
                    if node.parent is not None:
                        node.descriptor, node.checked = None, -1
            if len(guest.nodes) > 1000:
                guest.nodes.clear()
    assert (outside / "file").read_bytes() == CANARY == (outside / "below/file").read_bytes()
    assert {p: p.stat().st_mtime_ns for p in (outside, *outside.rglob("*"))} == before


async def test_a_file_that_becomes_a_link(guest: Guest, folder: Path, outside: Path) -> None:
    def swap() -> None:
        with contextlib.suppress(OSError):
            (folder / "new").write_bytes(b"inside")
            os.rename(folder / "new", folder / "file")
            os.symlink(outside / "file", folder / "sym")
            os.rename(folder / "sym", folder / "file")

    with racing(swap):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for flags in (os.O_RDONLY, os.O_RDWR | os.O_TRUNC):
                with contextlib.suppress(OSError):
                    file = await guest.open("file", flags)
                    assert CANARY not in await file.read()
                    await file.write(b"by the guest")
            with contextlib.suppress(OSError):
                await guest.set("file", mode=0o777, mtime_ns=1, uid=7)
            guest.nodes.clear()
    assert (outside / "file").read_bytes() == CANARY
    assert (outside / "file").stat().st_mtime_ns != 1
    assert not os.listxattr(outside / "file")


async def test_a_folder_that_the_host_moves_out(guest: Guest, folder: Path, tmp_path: Path) -> None:
    (folder / "one/two").mkdir(parents=True)
    (folder / "one/two/file").write_text("secret now")
    file = await guest.find("one/two/file")
    two = await guest.find("one/two")
    await guest.list("one/two")
    (folder / "one").rename(tmp_path / "gone")
    for node in guest.nodes:  # as after a second
        node.checked -= 1
    with failed(errno.ESTALE):
        await guest.fs.lookup(guest.ctx, two, "file")
    with failed(errno.ESTALE):
        await guest.open(file, os.O_RDONLY)
    with failed(errno.ESTALE):
        await guest.fs.mkdir(guest.ctx, two, "new", 0o755)
    assert two.descriptor is None
    assert sorted(p.name for p in (tmp_path / "gone/two").iterdir()) == ["file"]


async def test_it_is_noticed_within_a_second(guest: Guest, folder: Path, tmp_path: Path) -> None:
    (folder / "one").mkdir()
    (folder / "one/file").write_text("x")
    one = await guest.find("one")
    await guest.list("one")
    (folder / "one").rename(tmp_path / "gone")
    begun = time.monotonic()
    with failed(errno.ESTALE):
        while time.monotonic() < begun + 60:
            await guest.fs.lookup(guest.ctx, one, "file")


async def test_a_folder_that_the_host_moves_within(guest: Guest, folder: Path) -> None:
    (folder / "one/two").mkdir(parents=True)
    (folder / "one/two/file").write_text("x")
    node = await guest.find("one/two/file")
    (folder / "one/two").rename(folder / "two")
    assert await guest.find("two/file") is node
    assert guest.fs.tree.path(node) == "two/file"


async def test_folders_that_change_places(guest: Guest, folder: Path) -> None:
    """What was above comes below: no node is ever inside itself."""
    (folder / "a/b").mkdir(parents=True)
    a, b = await guest.find("a"), await guest.find("a/b")
    os.rename(folder / "a/b", folder / "b")
    os.rename(folder / "a", folder / "b/a")
    with failed(errno.ESTALE):
        guest.fs.tree.place(a, b, "a")
    assert guest.fs.tree.path(b) == "a/b"
    assert await guest.find("b/a") is a
    assert guest.fs.tree.path(a) == "b/a"


async def test_few_descriptors_for_many_folders(guest: Guest, folder: Path) -> None:
    guest.fs.tree._most = 8
    for number in range(50):
        (folder / str(number)).mkdir()
        (folder / str(number) / "file").write_text(str(number))
    for _ in range(2):
        for number in range(50):
            assert await guest.read(f"{number}/file") == str(number).encode()
    assert guest.fs.tree.open_folders() <= 8


async def test_nodes_are_found_again(guest: Guest, folder: Path) -> None:
    (folder / "file").touch()
    node = await guest.find("file")
    assert await guest.find("file") is node
    key = node.key
    guest.nodes.clear()
    del node
    assert guest.fs.tree.find(key) is None
    assert len(guest.fs.tree.nodes()) == 1


async def test_numbers_of_other_devices(guest: Guest) -> None:
    st = os.stat("/dev/shm")
    tree = guest.fs.tree
    number = tree.number(st)
    assert number != st.st_ino and tree.number(st) == number
    assert tree.number(os.stat(guest.fs.source)) == os.stat(guest.fs.source).st_ino


async def test_the_root_is_not_inside_itself(guest: Guest, folder: Path) -> None:
    with failed(errno.ELOOP):
        guest.fs.tree.known(folder.stat(), guest.fs.root, "again")


async def test_one_file_as_a_volume(
    folder: Path, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").write_text("one")
    (folder / "other").write_text("other")
    guest = await mounted(folder / "file")
    root = guest.fs.root
    file = await guest.open(root)
    assert await file.read() == b"one"
    await file.write(b"two")
    await file.close()
    from sandlot.filesystem.types import SetAttr

    attr = await guest.fs.setattr(guest.ctx, root, SetAttr(mode=0o4600, size=2, uid=3, mtime_ns=4))
    assert (attr.mode & 0o7777, attr.size, attr.uid, attr.mtime_ns) == (0o4600, 2, 3, 4)
    with pytest.raises(NotADirectoryError):
        await guest.find("other")
    with pytest.raises(NotADirectoryError):
        await guest.create("new")
    with pytest.raises(PermissionError):
        await guest.fs.link(guest.ctx, root, root, "x")
    monkeypatch.setattr(guest.fs.tree, "_proc", False)
    again = await guest.open(root, os.O_RDONLY)
    assert await again.read() == b"tw"


async def test_the_last_descriptors_are_not_for_guests(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a").write_text("x")
    fs = HostFs(folder)
    client = FileSystemClient(fs)
    assert await client.read_bytes("/a") == b"x"
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Descriptor, "most", 3)
    with pytest.raises(OSError, match="too many") as caught:
        await client.open("/a")
    assert caught.value.errno == errno.ENFILE
    assert len(os.listdir("/proc/self/fd")) == before
