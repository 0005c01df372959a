"""Checks of the suite: names, folders and links."""

from __future__ import annotations

import errno
import stat

from sandlot.testing.checks import needs, refused
from sandlot.testing.client import CREAT, WRONLY, FileSystemClient

_NOREPLACE, _EXCHANGE = 1, 2


class Folders:
    """Names, folders and links."""

    async def check_root(self, c: FileSystemClient) -> None:
        attr = await c.stat("/")
        assert attr.is_folder
        assert attr.nlink >= 1
        assert await c.listdir("/") == []

    async def check_make_a_folder(self, c: FileSystemClient) -> None:
        assert (await c.mkdir("/d")).is_folder
        assert (await c.stat("/d")).is_folder
        assert await c.listdir("/d") == []
        await c.write_bytes("/d/a", b"x")
        assert await c.listdir("/d") == ["a"]
        assert await c.read_bytes("/d/a") == b"x"

    async def check_list(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.mkdir("/d/sub")
        await c.write_bytes("/d/a", b"x")
        kinds = {entry.name: stat.S_IFMT(entry.mode) for entry in await c.entries("/d")}
        assert kinds == {"a": stat.S_IFREG, "sub": stat.S_IFDIR}

    async def check_list_many(self, c: FileSystemClient) -> None:
        names = sorted(f"file-{number:04}" for number in range(300))
        for name in names:
            await c.write_bytes(f"/{name}", b"")
        assert await c.listdir("/") == names

    async def check_list_a_file(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await refused(errno.ENOTDIR, c.entries("/a"))
        await refused(errno.ENOTDIR, c.stat("/a/b"))
        await refused(errno.ENOENT, c.entries("/none"))

    async def check_a_folder_is_no_file(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused(errno.EISDIR, c.open("/d", WRONLY))

    async def check_make_what_is_there(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.write_bytes("/a", b"x")
        await refused(errno.EEXIST, c.fs.mkdir(c.ctx, c.fs.root, "d", 0o755))
        await refused(errno.EEXIST, c.fs.mkdir(c.ctx, c.fs.root, "a", 0o755))
        assert await c.read_bytes("/a") == b"x"

    async def check_unlink(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await c.unlink("/a")
        await refused(errno.ENOENT, c.stat("/a"))
        await refused(errno.ENOENT, c.unlink("/a"))
        assert await c.listdir("/") == []

    async def check_unlink_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused((errno.EISDIR, errno.EPERM), c.unlink("/d"))
        assert await c.exists("/d")

    async def check_remove_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.write_bytes("/d/a", b"x")
        await refused((errno.ENOTEMPTY, errno.EEXIST), c.rmdir("/d"))
        await c.unlink("/d/a")
        await c.rmdir("/d")
        assert not await c.exists("/d")
        await refused(errno.ENOENT, c.rmdir("/d"))

    async def check_remove_a_file_as_folder(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await refused(errno.ENOTDIR, c.rmdir("/a"))
        assert await c.read_bytes("/a") == b"x"

    async def check_name_again(self, c: FileSystemClient) -> None:
        for number in range(5):
            await c.write_bytes("/a", b"%d" % number)
            assert await c.read_bytes("/a") == b"%d" % number
            await c.unlink("/a")
            await c.mkdir("/a")
            assert (await c.stat("/a")).is_folder
            await c.rmdir("/a")

    @needs("names")
    async def check_odd_names(self, c: FileSystemClient) -> None:
        odd = ["a b", "ü", "日本", "-rf", "new\nline", "\\", "*", "\udcff\udcfe", "x" * 255, "a'\""]
        for name in odd:
            await c.write_bytes(f"/{name}", name.encode("utf-8", "surrogateescape"))
        assert await c.listdir("/") == sorted(odd)
        for name in odd:
            assert await c.read_bytes(f"/{name}") == name.encode("utf-8", "surrogateescape")
        await refused(errno.ENAMETOOLONG, c.stat("/" + "x" * 256))

    async def check_deep_folders(self, c: FileSystemClient) -> None:
        path = ""
        for _ in range(40):
            path += "/deep"
            await c.mkdir(path)
        await c.write_bytes(path + "/a", b"down")
        assert await c.read_bytes(path + "/a") == b"down"

    async def check_names_while_listing(self, c: FileSystemClient) -> None:
        """What is there all the time is listed once, whatever comes and goes."""
        stable = {f"stay-{number}" for number in range(100)}
        for name in sorted(stable):
            await c.write_bytes(f"/{name}", b"")
            await c.write_bytes(f"/go-{name}", b"")
        opened = await c.fs.opendir(c.ctx, c.fs.root)
        source = await c.fs.readdir(c.ctx, c.fs.root, opened.handle)
        seen: list[str] = []

        async def step(name: str) -> None:
            seen.append(name)
            if len(seen) % 10 == 1 and len(seen) < 90:
                await c.unlink(f"/go-stay-{len(seen)}")
                await c.write_bytes(f"/new-{len(seen)}", b"")

        if hasattr(source, "__aiter__"):
            async for entry in source:
                await step(entry.name)
        else:
            for entry in source:
                await step(entry.name)
        await c.fs.releasedir(c.ctx, c.fs.root, opened.handle)
        kept = [name for name in seen if name in stable]
        assert sorted(kept) == sorted(stable)

    # -- rename ----------------------------------------------------------------------------

    @needs("rename")
    async def check_rename(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await c.mkdir("/d")
        await c.rename("/a", "/b")
        assert await c.listdir("/") == ["b", "d"]
        await c.rename("/b", "/d/c")
        assert await c.listdir("/") == ["d"]
        assert await c.read_bytes("/d/c") == b"x"
        await refused(errno.ENOENT, c.rename("/a", "/b"))

    @needs("rename")
    async def check_rename_over_a_file(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"new")
        await c.write_bytes("/b", b"old")
        await c.rename("/a", "/b")
        assert await c.listdir("/") == ["b"]
        assert await c.read_bytes("/b") == b"new"

    @needs("rename")
    async def check_rename_to_itself(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await c.rename("/a", "/a")
        assert await c.read_bytes("/a") == b"x"

    @needs("rename")
    async def check_rename_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.write_bytes("/d/a", b"x")
        await c.mkdir("/other")
        await c.rename("/d", "/e")
        assert await c.read_bytes("/e/a") == b"x"
        await c.rename("/e", "/other/d")
        assert await c.read_bytes("/other/d/a") == b"x"
        assert await c.listdir("/") == ["other"]

    @needs("rename", "empty_folders")
    async def check_rename_over_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.write_bytes("/d/a", b"x")
        await c.mkdir("/empty")
        await c.mkdir("/full")
        await c.write_bytes("/full/b", b"y")
        await refused((errno.ENOTEMPTY, errno.EEXIST), c.rename("/d", "/full"))
        await c.rename("/d", "/empty")
        assert await c.listdir("/") == ["empty", "full"]
        assert await c.read_bytes("/empty/a") == b"x"

    @needs("rename")
    async def check_rename_over_another_kind(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.write_bytes("/a", b"x")
        await refused(errno.ENOTDIR, c.rename("/d", "/a"))
        await refused(errno.EISDIR, c.rename("/a", "/d"))
        assert await c.listdir("/") == ["a", "d"]

    @needs("rename")
    async def check_rename_below_itself(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.mkdir("/d/e")
        await refused(errno.EINVAL, c.rename("/d", "/d/f"))
        await refused(errno.EINVAL, c.rename("/d", "/d/e/f"))
        assert await c.listdir("/d") == ["e"]

    @needs("rename", "exchange")
    async def check_rename_not_over(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"a")
        await c.write_bytes("/b", b"b")
        await refused(errno.EEXIST, c.rename("/a", "/b", _NOREPLACE))
        assert await c.read_bytes("/b") == b"b"
        await c.rename("/a", "/c", _NOREPLACE)
        assert await c.listdir("/") == ["b", "c"]

    @needs("rename", "exchange")
    async def check_exchange(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"a")
        await c.mkdir("/d")
        await c.mkdir("/d/sub")
        await c.write_bytes("/d/sub/b", b"b")
        await c.rename("/a", "/d/sub", _EXCHANGE)
        assert await c.read_bytes("/d/sub") == b"a"
        assert await c.read_bytes("/a/b") == b"b"
        await refused(errno.ENOENT, c.rename("/a", "/none", _EXCHANGE))
        await refused(errno.EINVAL, c.rename("/d", "/d/sub", _EXCHANGE))

    # -- links and other nodes -------------------------------------------------------------

    @needs("symlinks")
    async def check_symlink(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        attr = await c.symlink("a", "/l")
        assert stat.S_ISLNK(attr.mode)
        assert attr.size == 1
        assert await c.readlink("/l") == "a"
        assert await c.read_bytes("/l") == b"x"
        await c.symlink("nowhere/\udcff", "/broken")
        assert await c.readlink("/broken") == "nowhere/\udcff"
        await refused(errno.ENOENT, c.stat("/broken"))
        assert stat.S_ISLNK((await c.lstat("/broken")).mode)
        await c.unlink("/l")
        assert await c.read_bytes("/a") == b"x"

    @needs("symlinks")
    async def check_symlink_to_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await c.symlink("/d", "/l")
        await c.write_bytes("/l/a", b"x")
        assert await c.read_bytes("/d/a") == b"x"
        await refused(errno.ENOTDIR, c.rmdir("/l"))
        await refused(errno.EINVAL, c.readlink("/d"))

    @needs("symlinks")
    async def check_symlinks_in_a_circle(self, c: FileSystemClient) -> None:
        await c.symlink("b", "/a")
        await c.symlink("a", "/b")
        await refused(errno.ELOOP, c.stat("/a"))

    @needs("links")
    async def check_hard_link(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"one")
        await c.mkdir("/d")
        assert (await c.link("/a", "/d/b")).nlink == 2
        first, second = await c.stat("/a"), await c.stat("/d/b")
        assert first.nlink == second.nlink == 2
        assert first.ino == second.ino
        await c.write_bytes("/d/b", b"both")
        assert await c.read_bytes("/a") == b"both"
        await c.unlink("/a")
        assert await c.read_bytes("/d/b") == b"both"
        assert (await c.stat("/d/b")).nlink == 1

    @needs("links")
    async def check_hard_link_of_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused(errno.EPERM, c.link("/d", "/e"))
        await c.write_bytes("/a", b"a")
        await c.write_bytes("/b", b"b")
        await refused(errno.EEXIST, c.link("/a", "/b"))

    @needs("links", "rename")
    async def check_rename_over_a_link_to_itself(self, c: FileSystemClient) -> None:
        await c.write_bytes("/a", b"x")
        await c.link("/a", "/b")
        await c.rename("/a", "/b")
        assert await c.listdir("/") == ["a", "b"]

    @needs("nodes")
    async def check_other_nodes(self, c: FileSystemClient) -> None:
        attr = await c.mknod("/fifo", stat.S_IFIFO | 0o640)
        assert attr.mode == stat.S_IFIFO | 0o640
        await c.mknod("/socket", stat.S_IFSOCK | 0o755)
        assert stat.S_ISSOCK((await c.stat("/socket")).mode)
        kinds = {entry.name: stat.S_IFMT(entry.mode) for entry in await c.entries("/")}
        assert kinds == {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
        await c.unlink("/fifo")
        assert await c.listdir("/") == ["socket"]

    @needs("nodes")
    async def check_mknod_makes_files(self, c: FileSystemClient) -> None:
        await c.mknod("/a", stat.S_IFREG | 0o600)
        await c.write_bytes("/a", b"x")
        assert await c.read_bytes("/a") == b"x"

    async def check_create_over_a_folder(self, c: FileSystemClient) -> None:
        await c.mkdir("/d")
        await refused(errno.EISDIR, c.open("/d", WRONLY | CREAT))
        await c.write_bytes("/f", b"")
        await refused(errno.ENOTDIR, c.open("/f/a", WRONLY | CREAT))
