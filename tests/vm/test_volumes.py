"""Volumes in real machines: what users mount, and what becomes of it in snapshots and forks."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from sandlot import ConfigError, Hooks, HostFs, MemFs, Refuse, Sandbox
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.mount import Mount
from sandlot.filesystem.types import Context, Entry, FileAccess, MountPoint, Opened

WATCH = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
assert libc.inotify_add_watch(fd, sys.argv[1].encode(), 0x3c6) >= 0
print("watching", flush=True)
while True:
    data, at = os.read(fd, 65536), 0
    while at < len(data):
        _, mask, _, size = struct.unpack_from("iIII", data, at)
        name = data[at + 16 : at + 16 + size].rstrip(bytes(1)).decode()
        at += 16 + size
        print(hex(mask), name, flush=True)
"""


class AuditFs(HostFs):
    """The example of the product: overrides one method."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.seen: list[str] = []

    async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
        self.seen.append(f"open node={node} pid={ctx.pid}")
        return await super().open(ctx, node, flags)


class Troubled(MemFs):
    """Breaks and hangs where it is told to."""

    operation_timeout = 2.0

    async def lookup(self, ctx: Context, parent: Any, name: str) -> Entry:
        if name == "breaks":
            raise RuntimeError("a bug of the user's")
        if name == "hangs":
            await asyncio.Event().wait()
        return await super().lookup(ctx, parent, name)


class Refusing(MemFs):
    """Does not let itself be mounted."""

    async def start(self, mount: MountPoint) -> None:
        raise ConfigError("not today")


async def until(sandbox: Sandbox, shell: str) -> None:
    """Wait for a shell line to succeed in the sandbox."""
    async with asyncio.timeout(60):
        while (await sandbox.exec(shell)).exit_code:
            pass


async def test_a_host_folder_a_file_and_a_class_of_ones_own(image: str, tmp_path: Path) -> None:
    for name in ("src", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "app.py").write_text("print('hello')\n")
    (tmp_path / "one.conf").write_text("one\n")
    audit = AuditFs(tmp_path / "out")
    volumes = {
        "/app": HostFs(tmp_path / "src", readonly=True), "/cache": MemFs(), "/audit": audit,
        "/etc/one.conf": HostFs(tmp_path / "one.conf"), "/app/made": MemFs(),
    }  # fmt: skip
    (tmp_path / "src" / "made").mkdir()
    async with Sandbox.create(
        image=image, memory="512M", volumes=volumes, workdir="/app", network=None
    ) as sb:
        assert (await sb.exec(["python3", "app.py"], check=True)).text == "hello\n"
        refused = await sb.exec("echo x > new; echo x > app.py; rm app.py; mkdir d")
        assert refused.stderr.decode().count("Read-only file system") == 4
        await sb.exec("echo new > /audit/a; cat /audit/a; echo two >> /etc/one.conf", check=True)
        await sb.exec("touch /cache/x /app/made/y && test ! -e /app/y", check=True)
        assert {each["path"] for each in sb.volumes.list()} == set(volumes)
    assert (tmp_path / "out" / "a").read_text() == "new\n"
    assert (tmp_path / "one.conf").read_text() == "one\ntwo\n"
    assert audit.seen and "pid=" in audit.seen[0]
    assert not any((tmp_path / "src" / "made").iterdir())


async def test_a_host_folder_belongs_to_who_works_on_it(image: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a\n")
    async with Sandbox.create(
        image=image, memory="256M", volumes={"/app": tmp_path}, user="1234:55", workdir="/app"
    ) as sb:
        shown = await sb.exec("echo b > b; stat -c %u:%g . a b; id -u", check=True)
        assert shown.text == "1234:55\n1234:55\n1234:55\n1234\n"
        assert (await sb.exec("stat -c %u /app/a; echo c >> /app/a", user="0", check=True)).text
    assert (tmp_path / "b").read_text() == "b\n"


async def test_what_the_host_edits_is_seen_and_watchers_hear_of_it(
    image: str, tmp_path: Path
) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "app.py").write_text("one\n")
    (tmp_path / "other" / "deep").mkdir(parents=True)
    volumes = {"/app": HostFs(source, readonly=True), "/other": HostFs(tmp_path / "other")}
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        # To set a watch is enough: nobody has looked into the folder.
        deep = await sb.spawn(["python3", "-u", "-c", WATCH, "/other/deep"])
        said = ""
        async with asyncio.timeout(60):
            async for chunk in deep.stdout:
                said += chunk.decode()
                if "watching" in said:
                    (tmp_path / "other" / "deep" / "x").touch()
                if "0x100 x" in said:
                    break
        watcher = await sb.spawn(["python3", "-u", "-c", WATCH, "/app"])
        heard = ""

        async def hears(*wanted: str) -> None:
            nonlocal heard
            async with asyncio.timeout(60):
                async for chunk in watcher.stdout:
                    heard += chunk.decode()
                    if all(each in heard for each in wanted):
                        return
            raise AssertionError(heard)

        await hears("watching")
        (source / "app.py").write_text("another, longer\n")
        await hears("0x2 app.py")
        assert (await sb.exec("cat /app/app.py", check=True)).text == "another, longer\n"
        (source / "new.py").write_text("new\n")
        await hears("0x100 new.py")
        (source / "sub").mkdir()
        await hears("0x40000100 sub")
        (source / "new.py").rename(source / "app.py")  # as editors save
        await hears("0x200 new.py", "0x100 app.py")
        assert (await sb.exec("cat /app/app.py", check=True)).text == "new\n"
        (source / "app.py").unlink()
        await hears("0x200 app.py")
        assert (await sb.exec("ls /app", check=True)).text == "sub\n"
    assert sorted(each.name for each in source.iterdir()) == ["sub"]


async def test_faults_of_a_file_system_harm_nothing_else(
    image: str, caplog: pytest.LogCaptureFixture
) -> None:
    volumes = {"/x": Troubled(), "/ok": MemFs()}
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        with caplog.at_level(logging.ERROR, "sandlot.filesystem"):
            broken, hangs, fine = await asyncio.gather(
                sb.exec("cat /x/breaks"), sb.exec("cat /x/hangs"),
                sb.exec("echo a > /x/a; echo b > /ok/b; cat /x/a /ok/b"),
            )  # fmt: skip
        assert b"Input/output error" in broken.stderr
        assert b"timed out" in hangs.stderr
        assert fine.text == "a\nb\n"
        assert "a bug of the user's" in caplog.text


async def test_a_hook_refuses(image: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sandlot.filesystem")
    told: list[FileAccess] = []

    async def on_fs(access: FileAccess) -> None:
        told.append(access)
        if access.writes and access.path.endswith(".env"):
            raise Refuse("secrets are not written")

    async with Sandbox.create(
        image=image, memory="256M", volumes={"/data": MemFs()}, hooks=Hooks(on_fs=on_fs)
    ) as sb:
        done = await sb.exec("echo x > /data/a; echo x > /data/.env; ls -A /data")
        assert done.text == "a\n" and b"Permission denied" in done.stderr
    assert ("create", "/data/a") in {(each.operation, each.path) for each in told}
    assert "create was refused: secrets are not written" in caplog.text


async def test_volumes_come_and_go_while_it_runs(image: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a\n")
    async with Sandbox.create(image=image, memory="256M") as sb:
        await sb.volumes.mount("/late", HostFs(tmp_path))
        with pytest.raises(ConfigError, match="already"):
            await sb.volumes.mount("/late", MemFs())
        with pytest.raises(ConfigError, match="not today"):
            await sb.volumes.mount("/refused", Refusing())
        assert (await sb.exec("ls -d /refused")).exit_code
        assert (await sb.exec("cat /late/a; echo b > /late/b", check=True)).text == "a\n"
        user = await sb.spawn(["sh", "-c", "exec 3>/late/held; echo on; sleep 600"])
        assert await anext(aiter(user.stdout)) == b"on\n"
        with pytest.raises(ConfigError, match="busy"):
            await sb.volumes.unmount("/late")
        await sb.volumes.unmount("/late", force=True)
        assert (await sb.exec("ls /late", check=True)).text == ""
        assert sb.volumes.list() == []
        with pytest.raises(ConfigError, match="no volume"):
            await sb.volumes.unmount("/late")
    assert (tmp_path / "b").read_text() == "b\n"


async def test_a_detached_one_has_declared_volumes_and_no_others(
    image: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a\n")
    with pytest.raises(ConfigError, match="detached"):
        await Sandbox.create(image=image, volumes={"/m": MemFs()}, detached=True)
    sb = await Sandbox.create(
        image=image, memory="256M", volumes={"/data": tmp_path}, detached=True
    )
    try:
        other = await Sandbox.get(sb.name)
        assert (await other.exec("cat /data/a", check=True)).text == "a\n"
        (tmp_path / "more").mkdir()
        await other.volumes.mount("/more", HostFs(tmp_path / "more"))
        await other.exec("echo m > /more/m", check=True)
        await other.stop()
        await other.start()
        assert (await other.exec("cat /data/a /more/m", check=True)).text == "a\nm\n"
        await other.volumes.unmount("/more")
        with pytest.raises(ConfigError, match="another one runs"):
            await other.volumes.mount("/m", MemFs())
    finally:
        await sb.remove()
    assert (tmp_path / "more" / "m").read_text() == "m\n"


HOLDS = """
exec 3>>/host/log 4</host/gone 5>>/mem/log
flock -s 3
echo ready > /host/ready
while true; do
    if mv /host/say /host/said 2>/dev/null; then
        cat /host/said >&3 && cat /host/said >&5
        head -c 1 <&4 >> /host/read
        touch /host/done
    fi
    sleep 0.1
done
"""
SAY = "rm -f /host/done; echo {0} > /host/.say && mv /host/.say /host/say"


async def said(sandbox: Sandbox, word: str) -> None:
    """Let the program that holds files open write a word into each."""
    await sandbox.exec(SAY.format(word), check=True)
    await until(sandbox, "test -e /host/done")


async def test_what_is_open_goes_on_in_snapshots_and_forks(image: str, tmp_path: Path) -> None:
    (tmp_path / "gone").write_text("1234")
    volumes = {"/host": HostFs(tmp_path), "/mem": MemFs()}
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        await sb.spawn(["sh", "-c", HOLDS], detached=True)
        await until(sb, "test -e /host/ready")
        await said(sb, "one")
        await sb.exec("echo kept > /mem/kept", check=True)
        snapshot = await sb.snapshot()
        try:
            await sb.exec("echo only the first > /mem/kept", check=True)
            async with sb.fork() as twin:
                assert (await twin.exec("cat /mem/kept", check=True)).text == "only the first\n"
                await sb.pause()  # there is one folder for both
                await said(twin, "twin")
                await twin.exec("echo twin > /mem/kept", check=True)
                shown = await twin.exec("cat /mem/log /host/log", check=True)
                assert shown.text == "one\ntwin\none\ntwin\n"
                await sb.resume()
            assert (await sb.exec("cat /mem/kept /mem/log", check=True)).text == (
                "only the first\none\n"
            )
            await sb.pause()
            async with snapshot.restore() as child:
                await said(child, "child")
                shown = await child.exec("cat /mem/kept /mem/log", check=True)
                assert shown.text == "kept\none\nchild\n"
            assert (tmp_path / "read").read_text() == "122"  # each goes on where it was
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir()
            (elsewhere / "other").write_text("other\n")
            async with snapshot.restore(volumes={"/host": HostFs(elsewhere)}) as child:
                assert (await child.exec("cat /host/other", check=True)).text == "other\n"
                gone = await child.exec("cat /mem/kept")
                assert b"Input/output error" in gone.stderr
                async with child.fork() as twin:
                    gone = await twin.exec("cat /mem/kept; cat /host/other")
                    assert b"Input/output error" in gone.stderr and gone.text == "other\n"
                await child.exec("echo x > /host/say", check=True)
                await until(child, "test -e /host/done")
                # What was open is not in this volume; what is opened now is.
                assert not (elsewhere / "log").exists()
                assert (elsewhere / "read").read_text() == ""
        finally:
            await snapshot.remove()


def _listed(mount: MountPoint) -> int:
    """How often a guest has asked for what is in a folder."""
    assert isinstance(mount, Mount)
    return mount.asked[Op.READDIR] + mount.asked[Op.READDIRPLUS]


async def test_listings_are_kept_until_something_changes(image: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).touch()
    fs = HostFs(tmp_path)
    async with Sandbox.create(image=image, memory="256M", volumes={"/host": fs}) as sb:

        async def names(sandbox: Sandbox) -> list[str]:
            return (await sandbox.exec("ls /host/folder", check=True)).text.split()

        assert await names(sb) == ["a", "b"]
        before = _listed(fs.mounts[0])
        assert await names(sb) == ["a", "b"] and _listed(fs.mounts[0]) == before
        (folder / "c").touch()
        (folder / "a").unlink()
        await until(sb, "test $(echo $(ls /host/folder) | tr ' ' -) = b-c")
        await sb.exec("touch /host/folder/d; mv /host/folder/b /host/folder/e", check=True)
        assert await names(sb) == ["c", "d", "e"]
        # Also those that are in use when it is saved.
        await sb.spawn("cd /host/folder; exec sleep 1000", detached=True)
        await until(sb, "ls -l /proc/[0-9]*/cwd | grep -q /host/folder")
        snapshot = await sb.snapshot()
        try:
            (folder / "f").touch()
            async with snapshot.restore() as child:
                await until(child, "test $(ls /host/folder | tail -n 1) = f")
                assert await names(child) == ["c", "d", "e", "f"]
        finally:
            await snapshot.remove()


class Unwatched(HostFs):
    """Whose listings the guest must not keep."""

    unopened = True

    async def opendir(self, ctx: Context, node: Any) -> Opened:
        return Opened((await super().opendir(ctx, node)).handle)


async def test_folders_are_listed_without_being_opened(image: str, tmp_path: Path) -> None:
    program = """if True:
        import os, sys
        os.chdir(sys.argv[1])
        os.mkdir("d")
        names = {str(number) for number in range(200)}
        for name in names:
            os.close(os.open(f"d/{name}", os.O_CREAT))
        for _ in range(2):  # asked for, and kept
            with os.scandir("d") as one, os.scandir("d") as two:
                first = [next(one).name for _ in range(150)]
                assert {each.name for each in two} == names
                assert sorted(first + [each.name for each in one]) == sorted(names)
        with os.scandir("d") as one:
            first = [next(one).name for _ in range(150)]
            for name in first:
                os.unlink(f"d/{name}")
            rest = {each.name for each in one}
            assert rest >= names - set(first), rest
        assert set(os.listdir("d")) == names - set(first)
        folder = os.open("d", os.O_RDONLY)
        os.fsync(folder)
        for name in os.listdir(folder):
            os.unlink(f"d/{name}")
        os.rmdir("d")
        try:
            assert os.listdir(folder) == []
        except FileNotFoundError:  # as on ext4
            pass
    """
    volumes = {"/host": HostFs(tmp_path / "a"), "/once": Unwatched(tmp_path / "b"), "/mem": MemFs()}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        for path, fs in volumes.items():
            await sb.exec(["python3", "-c", program, path], check=True)
            mount = fs.mounts[0]
            assert isinstance(mount, Mount)
            asked = mount.statistics()
            assert asked["opendir"] == 1 and "releasedir" not in asked
        assert (await sb.exec("ls /once", check=True)).text == ""
        (tmp_path / "b" / "new").touch()
        await until(sb, 'test "$(ls /once)" = new')


async def test_answers_of_every_size_arrive(image: str) -> None:
    # Where they begin to travel in shared memory rather than in the port, and in several frames.
    sizes = [4063, *range(4078, 4084), 4096, 65519, 65520, 65521, 100_000]
    program = f"""if True:
        import os
        for size in {sizes}:
            data = os.urandom(size)
            file = os.open("/mem/a", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            assert os.write(file, data) == size
            assert os.pread(file, size, 0) == data, size
            if size < 65536:
                os.setxattr("/mem/a", "user.a", data)
                assert os.getxattr("/mem/a", "user.a") == data, size
    """
    volumes = {"/mem": MemFs(cache="none")}
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        await sb.exec(["python3", "-c", program], check=True, timeout=60)


# Programs of the guest: what they print is what the test waits for and reads.
LOCKS = """
import fcntl, os, sys, time
a, b = (open(f"/host/{name}", "r+") for name in "ab")
fcntl.lockf(a, fcntl.LOCK_EX, 10)
fcntl.flock(b, fcntl.LOCK_EX)
print("locked", flush=True)
for line in sys.stdin:
    for file in (a, b):
        try:
            file.write(line)
            file.flush()
        except OSError as error:
            print(error.strerror, flush=True)
    print("done", flush=True)
"""
TRY = """
import fcntl
for name, lock in (("a", fcntl.lockf), ("b", fcntl.flock)):
    with open(f"/host/{name}", "r+") as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(name, "free")
        except BlockingIOError:
            print(name, "locked")
"""


async def test_locks_are_had_again_or_what_is_locked_is_not_open(
    image: str, tmp_path: Path
) -> None:
    for name in "ab":
        (tmp_path / name).write_text("")
    volumes = {"/host": HostFs(tmp_path)}
    async with (
        Sandbox.create(image=image, memory="256M", volumes=volumes) as sb,
        Sandbox.create(image=image, memory="256M", volumes={"/host": HostFs(tmp_path)}) as other,
    ):

        async def free(sandbox: Sandbox) -> list[str]:
            return (await sandbox.exec(["python3", "-c", TRY], check=True)).text.split()[1::2]

        await sb.files.write("/locks.py", LOCKS)
        await sb.exec("mkfifo /in", check=True)
        await sb.spawn(["sh", "-c", "exec python3 /locks.py 0<>/in >/out 2>&1"], detached=True)
        await until(sb, "grep -q locked /out")
        assert await free(other) == ["locked", "locked"]
        async with sb.fork() as twin:
            # The locks are its parent's, so that it may not write.
            await twin.exec("echo twin > /in", check=True)
            await until(twin, "grep -q done /out")
            assert (await twin.exec("cat /out", check=True)).text.count("Input/output error") == 2
            assert await free(twin) == ["locked", "locked"]
        snapshot = await sb.snapshot()
        try:
            await sb.stop()
            assert await free(other) == ["free", "free"]
            async with snapshot.restore() as child:
                await child.exec("echo one > /in", check=True)
                await until(child, "grep -q done /out")
                assert await free(other) == ["locked", "locked"]
        finally:
            await snapshot.remove()
    assert [(tmp_path / name).read_text() for name in "ab"] == ["one\n", "one\n"]


async def test_one_that_sleeps_wakes_with_its_volumes(image: str, tmp_path: Path) -> None:
    volumes = {"/host": HostFs(tmp_path), "/mem": MemFs()}
    async with Sandbox.create(
        image=image, memory="256M", volumes=volumes, idle_timeout=1, idle_action="hibernate"
    ) as sb:
        await sb.exec("echo a > /host/a; echo b > /mem/b", check=True)
        async with asyncio.timeout(120):
            while sb.status != "hibernated":
                await asyncio.sleep(0.1)
        (tmp_path / "new").write_text("new\n")
        assert (await sb.exec("cat /host/a /mem/b /host/new", check=True)).text == "a\nb\nnew\n"
