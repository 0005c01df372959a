"""File systems in this program's memory, mounted in a real machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sandlot import HostFs, MemFs, OverlayFs, ReadOnly, Sandbox, SimpleFileSystem
from sandlot.filesystem.types import Context, Opened
from sandlot.testing import FileSystemClient


class Notes(SimpleFileSystem):
    """Notes in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.notes = {"today.txt": b"buy milk\n"}

    def list(self, path: str) -> list[str]:
        return list(self.notes)

    def read_bytes(self, path: str) -> bytes:
        return self.notes[path.strip("/")]

    def write_bytes(self, path: str, data: bytes) -> None:
        self.notes[path.strip("/")] = data


PROGRAM = """
set -eu
cd /mem
mkdir -p d/e
echo hello > d/a
ln d/a d/b
ln -s d/a link
test "$(cat link)" = hello
test "$(stat -c %h d/b)" = 2
mv d/a d/e/c
rm d/b
test "$(cat d/e/c)" = hello
dd if=/dev/zero of=big bs=1M count=40 2>/dev/null && exit 1 || true
rm big
dd if=/dev/zero of=fits bs=1M count=8 2>/dev/null
sync
test "$(stat -c %s fits)" = 8388608
cat /notes/today.txt
echo call home > /notes/later.txt
cat /both/lower
echo changed > /both/lower
rm /both/gone
ls /both
! touch /fixed/x 2>/dev/null
cat /fixed/lower
"""


async def test_they_are_what_programs_expect(image: str) -> None:
    lower = MemFs(size="1M")
    below = FileSystemClient(lower)
    await below.write_bytes("/lower", b"below\n")
    await below.write_bytes("/gone", b"x")
    fixed = MemFs(size="1M")
    await FileSystemClient(fixed).write_bytes("/lower", b"fixed\n")
    notes, memory = Notes(), MemFs(size="16M")
    volumes = {
        "/mem": memory, "/notes": notes, "/both": OverlayFs(lower, MemFs(size="1M")),
        "/fixed": ReadOnly(fixed),
    }  # fmt: skip
    async with Sandbox.create(image=image, memory="512M", volumes=volumes) as sb:
        done = await sb.exec(PROGRAM)
        assert done.exit_code == 0, done.stderr
        assert done.text.split() == ["buy", "milk", "below", "lower", "fixed"]
    assert notes.notes["later.txt"] == b"call home\n"
    assert await below.read_bytes("/lower") == b"below\n"
    inside = FileSystemClient(memory)
    assert await inside.read_bytes("/d/e/c") == b"hello\n"
    assert (await inside.stat("/fits")).size == 8 << 20


class Reluctant(MemFs):
    """Opens a file when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.told = asyncio.Event()

    async def open(self, ctx: Context, node: Any, flags: int) -> Opened:
        self.asked.set()
        await self.told.wait()
        return await super().open(ctx, node, flags)


async def test_a_program_that_is_slow_to_be_read_holds_up_nobody_else(image: str) -> None:
    slow = Reluctant()
    inside = FileSystemClient(slow)
    await inside.write_bytes("/script", b"#!/bin/sh\npwd\nsed 1q script | wc -l\n", mode=0o755)
    slow.asked.clear()
    async with Sandbox.create(image=image, memory="256M", volumes={"/slow": slow}) as sb:
        program = asyncio.ensure_future(sb.exec(["/slow/script"], workdir="/slow", check=True))
        await slow.asked.wait()
        # Its process is on its way to its program. The machine has one processor.
        assert (await sb.exec("echo others run", check=True)).text == "others run\n"
        await sb.files.write("/slow/new", "written meanwhile")
        assert not program.done()
        slow.told.set()
        assert (await program).text == "/slow\n1\n"


async def test_files_of_a_volume_are_written_while_programs_start(
    image: str, tmp_path: Path
) -> None:
    # A program's start closes, in its process, the files that the agent has open: also those that
    # the agent itself must see to.
    async with Sandbox.create(
        image=image, memory="256M", volumes={"/host": HostFs(tmp_path)}
    ) as sb:

        async def write(number: int) -> None:
            for i in range(10):
                await sb.files.write(f"/host/{number}", f"{number} {i}" * 10_000)

        async def run() -> None:
            for _ in range(20):
                await sb.exec("true", check=True)

        await asyncio.gather(*(write(number) for number in range(4)), run(), run())
    assert [len((tmp_path / str(n)).read_text()) for n in range(4)] == [30_000] * 4


async def test_the_guest_may_keep_back_more_where_it_keeps_what_is_written(
    image: str, tmp_path: Path
) -> None:
    volumes = {"/mem": MemFs(), "/host": HostFs(tmp_path)}
    async with Sandbox.create(image=image, memory="256M", volumes=volumes) as sb:
        for path, share in (("/mem", 10), ("/host", 1)):
            setting = f"/sys/class/bdi/0:$(stat -c %d {path})"
            wanted = f"test $(cat {setting}/read_ahead_kb) = 1020 -a $(cat {setting}/max_ratio) = {share}"
            async with asyncio.timeout(60):
                while (await sb.exec(wanted)).exit_code:
                    pass


async def test_nothing_in_a_volume_is_a_terminal(image: str) -> None:
    program = """if True:
        import errno, fcntl, os, termios
        for path, flags in (("/mem/a", os.O_RDWR | os.O_CREAT), ("/mem", os.O_RDONLY)):
            file = os.open(path, flags)
            assert not os.isatty(file)
            for number in (termios.TCGETS, 0x8008_6601):  # also the file's flags
                try:
                    fcntl.ioctl(file, number, bytes(64))
                except OSError as error:
                    assert error.errno == errno.ENOTTY, error
                else:
                    raise AssertionError(number)
    """
    async with Sandbox.create(image=image, memory="256M", volumes={"/mem": MemFs()}) as sb:
        await sb.exec(["python3", "-c", program], check=True)
