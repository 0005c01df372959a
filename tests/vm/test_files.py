"""Files of a real machine, read and written from the host."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandlot import (
    ConfigError,
    FileError,
    FileExists,
    FileForbidden,
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    Sandbox,
)

HOSTILE = [b"new\nline", b"\xff\xfe", b"x" * 255, b" ", b"-rf", b"tab\t", "ü€".encode(), b"a\\b"]


async def test_bytes_text_and_ranges(sb: Sandbox) -> None:
    await sb.files.write("/tmp/a", b"\x00\xff" * 5000)
    assert await sb.files.read("/tmp/a") == b"\x00\xff" * 5000
    assert await sb.files.read("/tmp/a", offset=9999) == b"\xff"
    assert await sb.files.read("/tmp/a", offset=2, length=3) == b"\x00\xff\x00"
    assert await sb.files.read("/tmp/a", length=0) == b""
    await sb.files.write("/tmp/t", "grüße\n")
    await sb.files.append("/tmp/t", "more")
    await sb.files.append("/tmp/new", b"x")
    assert await sb.files.read_text("/tmp/t") == "grüße\nmore"
    assert await sb.files.read("/tmp/new") == b"x"
    await sb.files.write("/tmp/empty", b"")
    assert await sb.files.read("/tmp/empty") == b""
    assert b"processor" in await sb.files.read("/proc/cpuinfo")


async def test_the_paths_of_a_workdir(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", workdir="/var/tmp", user="nobody") as sb:
        await sb.files.write("here", "x")
        assert (await sb.files.stat("/var/tmp/here")).uid == 65534
        assert [i.path for i in await sb.files.list()] == ["./here"]
        with pytest.raises(FileForbidden):
            await sb.files.write("/root/x", "x")
        await sb.files.write("/root/x", "x", user="root")


async def test_streams_both_ways(sb: Sandbox, tmp_path: Path) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for i in range(1000):
            yield b"%d\n" % i

    expected = b"".join(b"%d\n" % i for i in range(1000))
    await sb.files.write("/tmp/a", numbers())
    assert await sb.files.read("/tmp/a") == expected
    await sb.files.write("/tmp/b", (b"%d\n" % i for i in range(1000)))
    assert await sb.files.read("/tmp/b") == expected
    (tmp_path / "c").write_bytes(expected)
    with (tmp_path / "c").open("rb") as file:
        await sb.files.write("/tmp/c", file)
    async with await sb.files.open("/tmp/c", offset=2) as reader:
        assert reader.info.size == len(expected)
        assert await reader.read(2) == expected[2:4]
        assert b"".join([piece async for piece in reader]) == expected[4:]
        assert await reader.read(5) == b""
    with pytest.raises(ConfigError, match="cannot be int"):
        await sb.files.write("/tmp/d", 5)  # type: ignore[arg-type]


async def test_a_big_file_with_constant_memory(sb: Sandbox) -> None:
    size = 256 << 20
    block = os.urandom(1 << 20)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(size >> 20):
            yield block

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await sb.files.write("/big", blocks())
    digest, got = hashlib.sha256(), 0
    async with await sb.files.open("/big") as reader:
        async for piece in reader:
            digest.update(piece)
            got += len(piece)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert got == size
    assert digest.digest() == hashlib.sha256(block * 256).digest()
    assert grown < 100 << 10  # KiB
    agent = (await sb.exec("grep VmHWM /proc/1/status")).text
    assert int(agent.split()[1]) < 150 << 10


@pytest.mark.parametrize("cached", [True, False])
async def test_large_contents_at_any_place(sb: Sandbox, cached: bool) -> None:
    """They go past the page cache, or through it when they are in there."""
    data = os.urandom(9 << 20) + b"the odd end"
    await sb.files.write("/w", data)
    assert (await sb.exec("sha256sum /w")).text.split()[0] == hashlib.sha256(data).hexdigest()
    await sb.exec("cp /w /copy; sync /copy", check=True)
    if not cached:
        await sb.exec("echo 3 > /proc/sys/vm/drop_caches", check=True)
    for offset, length in ((0, None), (4096, None), (5, None), (0, 8 << 20), (1 << 20, 5_000_001)):
        got = await sb.files.read("/copy", offset=offset, length=length)
        assert got == data[offset : len(data) if length is None else offset + length]
    await sb.files.append("/w", data)
    assert await sb.files.read("/w") == data + data
    await sb.files.write("/dev/shm/w", data)  # a file system that has no direct way
    assert await sb.files.read("/dev/shm/w") == data


async def test_a_write_is_whole_or_not_at_all(sb: Sandbox) -> None:
    await sb.files.write("/tmp/a", "old", mode=0o640)
    await sb.files.chown("/tmp/a", "nobody:nogroup")
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)
            started.set()
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(sb.files.write("/tmp/a", endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sb.files.read("/tmp/a") == b"old"

    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await sb.files.write("/tmp/a", broken())
    assert await sb.files.read("/tmp/a") == b"old"
    async with asyncio.timeout(60):
        while [i.name for i in await sb.files.list("/tmp")] != ["a"]:
            await asyncio.sleep(0.05)  # the unfinished ones are removed
    await sb.files.write("/tmp/a", "new")
    info = await sb.files.stat("/tmp/a")
    assert (info.mode, info.uid, info.gid) == (0o640, 65534, 65534)
    with pytest.raises(FileExists):
        await sb.files.write("/tmp/a", "x", exclusive=True)
    await sb.files.symlink("a", "/tmp/link")
    await sb.files.write("/tmp/link", "through")
    assert await sb.files.read("/tmp/a") == b"through"
    assert (await sb.files.stat("/tmp/link", follow=False)).is_symlink


async def test_readers_see_the_old_or_the_new(sb: Sandbox) -> None:
    await sb.files.write("/tmp/a", b"0" * 5_000_000)

    async def writing() -> None:
        for digit in (b"1", b"2", b"3"):
            await sb.files.write("/tmp/a", digit * 5_000_000)

    task = asyncio.get_running_loop().create_task(writing())
    while not task.done():
        data = await sb.files.read("/tmp/a")
        assert len(data) == 5_000_000 and data == data[:1] * 5_000_000
    await task


async def test_a_folder_that_admits_no_temporary_file(sb: Sandbox) -> None:
    await sb.exec("mkdir /d && echo old > /d/f && chmod 666 /d/f", check=True)
    await sb.files.write("/d/f", "new", user="nobody")
    assert await sb.files.read("/d/f") == b"new"
    assert (await sb.files.stat("/d/f")).uid == 0
    with pytest.raises(FileForbidden):
        await sb.files.write("/d/g", "new", user="nobody")


async def test_folders_names_and_links(sb: Sandbox) -> None:
    f = sb.files
    await f.mkdir("/w/x/y", parents=True)
    await f.mkdir("/w/x/y", exist_ok=True)
    with pytest.raises(FileExists):
        await f.mkdir("/w/x/y")
    with pytest.raises(FileNotFound):
        await f.mkdir("/w/no/such")
    await f.mkdir("/w/sticky", mode=0o1777)
    assert (await f.stat("/w/sticky")).mode == 0o1777
    await f.write("/w/deep/er/file", "x", parents=True)
    await f.symlink("../x", "/w/deep/link")
    assert await f.readlink("/w/deep/link") == "../x"
    with pytest.raises(FileError):
        await f.readlink("/w/deep/er/file")
    found = {i.path: i.type async for i in f.walk("/w")}
    assert found == {
        "/w/x": "directory", "/w/x/y": "directory", "/w/sticky": "directory",
        "/w/deep": "directory", "/w/deep/link": "symlink", "/w/deep/er": "directory",
        "/w/deep/er/file": "file",
    }  # fmt: skip
    assert [i.name for i in await f.list("/w")] == ["deep", "sticky", "x"]
    await f.rename("/w/deep/er/file", "/w/file")
    assert await f.exists("/w/file") and not await f.exists("/w/deep/er/file")
    assert not await f.exists("/w/file/below")
    await f.write("/w/other", "y")
    with pytest.raises(FileExists):
        await f.rename("/w/file", "/w/other", overwrite=False)
    await f.rename("/w/file", "/w/other")
    assert await f.read("/w/other") == b"x"
    await f.chmod("/w", 0o700, recursive=True)
    assert (await f.stat("/w/deep/er")).mode == 0o700
    await f.chown("/w", "nobody:nogroup", recursive=True)
    assert (await f.stat("/w/other")).uid == 65534
    assert (await f.stat("/w/deep/link", follow=False)).uid == 65534
    assert (await f.stat("/")).uid == 0
    with pytest.raises(FileError, match="not empty"):
        await f.remove("/w")
    await f.remove("/w/other")
    await f.remove("/w", recursive=True)
    assert not await f.exists("/w")
    await f.remove("/w", missing_ok=True)
    with pytest.raises(FileNotFound):
        await f.remove("/w")


async def test_errors_carry_path_and_number(sb: Sandbox) -> None:
    cases = [
        (sb.files.read("/no"), FileNotFound, FileNotFoundError, 2),
        (sb.files.read("/etc"), FileIsDirectory, IsADirectoryError, 21),
        (sb.files.list("/etc/passwd"), FileNotDirectory, NotADirectoryError, 20),
        (sb.files.read("/etc/shadow", user="nobody"), FileForbidden, PermissionError, 13),
        (sb.files.write("/etc", "x"), FileIsDirectory, IsADirectoryError, 21),
        (sb.files.write("/no/such/x", "x"), FileNotFound, FileNotFoundError, 2),
    ]
    for call, kind, builtin, number in cases:
        with pytest.raises(kind) as caught:
            await call
        assert isinstance(caught.value, builtin)
        assert caught.value.errno == number and caught.value.path.startswith("/")
        assert "\n" not in str(caught.value) and caught.value.path in str(caught.value)
    with pytest.raises(ConfigError, match="no such user"):
        await sb.files.read("/etc/passwd", user="nobody-at-all")
    with pytest.raises(ConfigError, match="NUL"):
        await sb.files.read("/a\0b")
    with pytest.raises(ConfigError, match="empty"):
        await sb.files.read("")
    with pytest.raises(FileError, match="max_size"):
        await sb.files.read("/etc/passwd", max_size=10)
    await sb.exec("mkfifo /tmp/pipe")
    with pytest.raises(FileError):  # and it does not wait for a writer
        await sb.files.read("/tmp/pipe")


async def test_a_full_disk_is_told_and_leaves_nothing(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", disk="128M") as sb:
        with pytest.raises(FileError) as caught:
            await sb.files.write("/home/big", bytes(200 << 20))
        assert caught.value.errno == 28 and "disk=" in caught.value.hint
        assert await sb.files.list("/home") == []
        await sb.files.write("/home/small", "x")


async def test_the_rights_of_the_user_are_the_ones_that_count(sb: Sandbox) -> None:
    await sb.exec(
        "groupadd -g 4000 team && useradd -u 3000 -m ann && usermod -aG team ann && "
        "mkdir /team && chgrp team /team && chmod 2770 /team && "
        "echo secret > /team/s && chmod 640 /team/s",
        check=True,
    )
    f = sb.files
    assert await f.read("/team/s", user="ann") == b"secret\n"  # by a supplementary group
    await f.write("/team/hers", "x", user="ann")
    info = await f.stat("/team/hers")
    assert (info.uid, info.gid) == (3000, 4000)
    sleeper = await sb.spawn(["sleep", "600"])
    for call in (
        f.read("/team/s", user="nobody"),
        f.list("/root", user="ann"),
        f.chown("/team/hers", "root", user="ann"),
        f.chmod("/team/s", 0o777, user="ann"),
        f.write("/team/s", "x", user="3000:3000"),
        f.readlink(f"/proc/{sleeper.pid}/exe", user="ann"),
    ):
        with pytest.raises(FileForbidden):
            await call
    await f.chown("/team/hers", ":team", user="ann")
    # The agent is root again, in every thread.
    await asyncio.gather(*(f.read("/team/s", user="ann") for _ in range(30)))
    await asyncio.gather(*(f.write(f"/root/{i}", "x", user="root") for i in range(30)))
    assert {i.uid for i in await f.list("/root") if i.name.isdigit()} == {0}
    assert (await sb.exec("id -u; id -G")).text == "0\n0\n"


async def test_hostile_names(sb: Sandbox, tmp_path: Path) -> None:
    for name in HOSTILE:
        await sb.files.write(b"/w/" + name, name, parents=True)
    found = await sb.files.list("/w")
    assert sorted(i.name.encode(errors="surrogateescape") for i in found) == sorted(HOSTILE)
    for info in found:
        assert await sb.files.read(info.path) == info.name.encode(errors="surrogateescape")
    await sb.files.download("/w", tmp_path / "w")
    assert sorted(os.fsencode(p.name) for p in (tmp_path / "w").iterdir()) == sorted(HOSTILE)
    await sb.files.upload(tmp_path / "w", "/again")
    assert len(await sb.files.list("/again")) == len(HOSTILE)
    for info in found:
        await sb.files.remove(info.path)
    deep = "/deep" + "/d" * 400
    await sb.files.write(f"{deep}/f", "down", parents=True)
    await sb.files.download("/deep", tmp_path / "deep")
    assert sum(1 for _ in os.walk(tmp_path / "deep")) == 401
    await sb.files.upload(tmp_path / "deep", "/deep2")
    assert await sb.files.read("/deep2" + deep[5:] + "/f") == b"down"
    assert (await sb.exec("find /deep /deep2 | wc -l")).text == "804\n"
    await sb.files.remove("/deep", recursive=True)


async def next_event(watch: object) -> tuple[str, str, str]:
    async with asyncio.timeout(60):
        event = await watch.next()  # type: ignore[attr-defined]
    return (event.type, event.path, event.target)


async def test_watch(sb: Sandbox) -> None:
    f = sb.files
    await f.mkdir("/w/sub", parents=True)
    await f.mkdir("/elsewhere")
    async with await f.watch("/w", recursive=True) as watch:
        await sb.exec("echo x > /w/sub/a", check=True)
        assert await next_event(watch) == ("create", "/w/sub/a", "")
        assert await next_event(watch) == ("modify", "/w/sub/a", "")
        await sb.exec("mv /w/sub/a /w/b", check=True)
        assert await next_event(watch) == ("move", "/w/sub/a", "/w/b")
        await sb.exec("mkdir -p /w/n/m && touch /w/n/m/f", check=True)
        seen = [await next_event(watch)]
        while seen[-1][1] != "/w/n/m/f":
            seen.append(await next_event(watch))
        assert {e[:2] for e in seen} == {
            ("create", "/w/n"), ("create", "/w/n/m"), ("create", "/w/n/m/f")
        }  # fmt: skip
        await sb.exec("mv /w/n /w/k", check=True)
        assert await next_event(watch) == ("move", "/w/n", "/w/k")
        await sb.exec("touch /w/k/m/g", check=True)
        assert await next_event(watch) == ("create", "/w/k/m/g", "")
        await sb.exec("mv /w/b /elsewhere/b", check=True)
        assert await next_event(watch) == ("delete", "/w/b", "")
        await sb.exec("mv /elsewhere/b /w/c; rm /w/c", check=True)
        assert await next_event(watch) == ("create", "/w/c", "")
        assert await next_event(watch) == ("delete", "/w/c", "")
    async with await f.watch("/w") as watch:
        await sb.exec("touch /w/sub/unseen; rm -r /w", check=True)
        events = [event async for event in watch]
        assert events[-1].type == "delete" and events[-1].path == "/w"
        assert not any("unseen" in event.path for event in events)
    with pytest.raises(FileNotFound):
        await f.watch("/no/such")
    with pytest.raises(FileForbidden):
        await f.watch("/root", user="nobody")


async def test_a_flood_of_changes_is_told_as_one(sb: Sandbox) -> None:
    await sb.files.mkdir("/w")
    await sb.exec("echo 50 > /proc/sys/fs/inotify/max_queued_events", check=True)
    async with await sb.files.watch("/w") as watch:
        # More than the stream's credit: from there on they gather in the queue.
        await sb.exec(
            ["python3", "-c", "for i in range(9000): open('/w/' + 'x' * 200 + str(i), 'w')"],
            check=True,
        )
        async with asyncio.timeout(120):
            async for event in watch:
                if event.type == "overflow":
                    break
            else:
                pytest.fail("no overflow was told")
    assert (await sb.exec("echo fine")).text == "fine\n"


async def test_no_program_of_the_image_is_needed(sb: Sandbox, tmp_path: Path) -> None:
    """As in an image made from scratch: not even a user database is left."""
    (tmp_path / "f").write_bytes(b"x")
    await sb.exec("rm -rf /usr/bin /usr/sbin /usr/lib /etc /var /bin /sbin /lib /lib64 || true")
    await sb.files.write("/tmp/a", "x", user="1000:1000")
    await sb.files.upload(tmp_path, "/srv")
    assert (await sb.files.stat("/tmp/a")).uid == 1000
    await sb.files.download("/srv", tmp_path / "out")
    assert (tmp_path / "out" / "f").read_bytes() == b"x"
    await sb.files.remove("/srv/f")


async def test_visitors_can_use_files_too(image: str) -> None:
    async with Sandbox.create(image=image, memory="512M", detached=True) as sb:
        other = await Sandbox.get(sb.name)
        data = os.urandom(5_000_000)
        await other.files.write("/tmp/a", data)
        assert await sb.files.read("/tmp/a") == data
        async with await other.files.watch("/tmp") as watch:
            await sb.files.remove("/tmp/a")
            assert await next_event(watch) == ("delete", "/tmp/a", "")


def test_the_synchronous_api(image: str, tmp_path: Path) -> None:
    from sandlot.sync import Sandbox as Synchronous

    with Synchronous.create(image=image, memory="512M") as box:
        box.files.write("/w/a", iter([b"one", b"two"]), parents=True)
        assert box.files.read_text("/w/a") == "onetwo"
        with box.files.open("/w/a", offset=3) as file:
            assert b"".join(file) == b"two"
        with box.files.watch("/w") as watch:
            box.files.rename("/w/a", "/w/b")
            event = watch.next()
            assert event is not None and (event.type, event.target) == ("move", "/w/b")
        assert [info.name for info in box.files.walk("/w")] == ["b"]
        box.files.download("/w", tmp_path / "w")
        box.files.upload(tmp_path / "w", "/again")
        assert box.files.stat("/again/b").size == 6
        assert len(b"".join(box.files.get_archive("/w"))) % 512 == 0
        with pytest.raises(FileNotFoundError):
            box.files.read("/w/a")
