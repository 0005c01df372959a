"""File systems by paths: buffers, bounds, errors."""

from __future__ import annotations

import errno

import pytest

from sandlot.filesystem import simple
from sandlot.filesystem.simple import SimpleFileSystem
from sandlot.testing import FileSystemClient, Kernel


class Notes(SimpleFileSystem):
    """Counts what is asked; without a call of `__init__`."""

    def __init__(self) -> None:
        self.files = {"/a": b"one", "/d/b": b"two"}
        self.writes: list[tuple[str, bytes]] = []
        self.fail: Exception | None = None

    def list(self, path: str) -> list[str]:
        return {"/": ["a", "d/"], "/d": ["b"]}[path]

    async def read_bytes(self, path: str) -> bytes:
        return self.files[path]

    def write_bytes(self, path: str, data: bytes) -> None:
        if self.fail is not None:
            raise self.fail
        self.writes.append((path, data))
        self.files[path] = data


async def test_a_file_is_written_once_when_it_is_closed() -> None:
    fs = Notes()
    client = FileSystemClient(fs)
    async with client.opened("/a", 0o2) as file:
        await file.pwrite(b"O", 0)
        await file.pwrite(b"E!", 2)
        assert not fs.writes
        assert (await client.stat("/a")).size == 4
    assert fs.writes == [("/a", b"OnE!")]
    assert await client.read_bytes("/d/b") == b"two"
    assert fs._held == 0


async def test_what_fails_at_the_end_is_told_at_the_end() -> None:
    fs = Notes()
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        file = await client.open("/a", 0o2)
        await file.pwrite(b"x", 0)
        fs.fail = OSError(errno.EDQUOT, "no more")
        with pytest.raises(OSError, match=r".") as caught:
            await kernel.flush(client.ctx, file.node, file.handle)
        assert caught.value.errno == errno.EDQUOT
        fs.fail = None
        await file.close()
        assert fs.writes == [("/a", b"xne")]


async def test_without_writing_it_is_read_only() -> None:
    class Hello(SimpleFileSystem):
        def list(self, path: str) -> list[str]:
            return ["hello.txt"]

        def read_bytes(self, path: str) -> bytes:
            return b"hello\n"

    async with Kernel(Hello()) as kernel:
        client = FileSystemClient(kernel)
        assert await client.read_bytes("/hello.txt") == b"hello\n"
        for work in (
            client.write_bytes("/hello.txt", b""), client.write_bytes("/new", b""),
            client.unlink("/hello.txt"), client.mkdir("/d"), client.truncate("/hello.txt", 1),
        ):  # fmt: skip
            with pytest.raises(OSError, match=r".") as caught:
                await work
            assert caught.value.errno == errno.EROFS
        with pytest.raises(FileNotFoundError):
            await client.stat("/none")


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simple, "LARGEST", 1000)
    monkeypatch.setattr(simple, "MOST_HELD", 1500)
    client = FileSystemClient(Notes())
    async with client.opened("/a", 0o2) as one, client.opened("/d/b", 0o2) as two:
        with pytest.raises(OSError, match=r".") as caught:
            await one.pwrite(b"x", 1000)
        assert caught.value.errno == errno.EFBIG
        await one.pwrite(b"x", 999)
        with pytest.raises(OSError, match=r".") as caught:
            await two.pwrite(b"x", 700)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("wrong", ["text", 5, None])
async def test_what_is_no_bytes_is_named_in_the_log(
    wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    fs = Notes()
    fs.files["/a"] = wrong  # type: ignore[assignment]
    async with Kernel(fs) as kernel:
        with pytest.raises(OSError, match=r".") as caught:
            await FileSystemClient(kernel).open("/a")
        assert caught.value.errno == errno.EIO
    assert "instead of bytes" in caplog.text


async def test_a_node_keeps_its_identity_when_it_is_renamed() -> None:
    fs = Notes()
    fs.remove = lambda path: fs.files.pop(path)  # type: ignore[method-assign]
    async with Kernel(fs) as kernel:
        client = FileSystemClient(kernel)
        async with client.opened("/a", 0o2) as file:
            await file.pwrite(b"new", 0)
            await client.rename("/a", "/d/c")
            assert fs.files["/d/c"] == b"new"
            await file.pwrite(b"er", 3)
        assert fs.writes[-1] == ("/d/c", b"newer")
        assert "/a" not in fs.files
