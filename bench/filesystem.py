"""A file system's host side, as a guest's kernel drives it: packed FUSE messages into `Mount.receive`
and answers out of it. No machine, no channel; everything that the host does for a request counts.

python -m bench.filesystem      without making a machine's template first
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from struct import Struct

from bench.measure import Row, heading, line, row
from sandlot.errors import GuestProtocolError
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Init, Op
from sandlot.filesystem.host.hostfs import HostFs
from sandlot.filesystem.mount import Mount

SAMPLES = 5
ROUNDS = 1000
FILES = 10_000
BLOCK = 1020 << 10  # the most that one request carries
_OUT = Struct("<IiQ")


class Kernel:
    """The guest's kernel: asks, and waits for the answer where there is none at once."""

    def __init__(self, fs: FileSystem) -> None:
        self.fs = fs
        self.unique = 0
        self.answers: dict[int, bytes] = {}
        self.waited: asyncio.Future[None] | None = None
        self.mount = Mount(
            fs, "bench", "/mnt", send=self.take, taken=lambda _: None, broken=self.broken
        )

    async def __aenter__(self) -> Kernel:
        await self.fs.start(self.mount)
        flags = int(~Init(0)) & 0xFFFFFFFF
        await self.ask(Op.INIT, 0, requests.INIT.pack(7, 38, 1 << 17, flags))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mount.close()

    def take(self, data: bytes) -> int:
        unique = int.from_bytes(data[8:16], "little")
        if unique:  # else it is a notification
            self.answers[unique] = data
            if self.waited is not None and not self.waited.done():
                self.waited.set_result(None)
        return 0

    def broken(self, error: GuestProtocolError) -> None:
        raise error

    async def ask(self, op: int, node: int, *body: bytes) -> bytes:
        """One request; the body of its answer.

        Raises:
            OSError: it failed.
        """
        self.unique += 2
        unique = self.unique
        size = requests.HEADER_SIZE + sum(map(len, body))
        head = requests.HEADER.pack(size, op, unique, node, 0, 0, 1, 0, 0)
        self.mount.receive(b"".join((head, *body)))
        while unique not in self.answers:
            self.waited = asyncio.get_running_loop().create_future()
            await self.waited
        answer = self.answers.pop(unique)
        _, error, _ = _OUT.unpack_from(answer)
        if error:
            raise OSError(-error, os.strerror(-error))
        return answer[_OUT.size :]

    async def lookup(self, parent: int, name: bytes) -> int:
        """The number of a name's node."""
        return int.from_bytes((await self.ask(Op.LOOKUP, parent, name, b"\0"))[:8], "little")

    async def open(self, node: int, flags: int, op: int = Op.OPEN) -> int:
        """The number of a file that was opened."""
        return int.from_bytes(
            (await self.ask(op, node, requests.OPEN.pack(flags, 0)))[:8], "little"
        )


async def rate(work: Callable[[], Awaitable[int]], scale: float = 1.0) -> list[float]:
    """How many per second, several times."""
    values = []
    await work()
    for _ in range(SAMPLES):
        begun = time.perf_counter()
        count = await work()
        values.append(count / scale / (time.perf_counter() - begun))
    return values


async def names(kernel: Kernel) -> list[Row]:
    """What is about names."""

    async def lookup() -> int:
        for number in range(ROUNDS):
            await kernel.ask(Op.LOOKUP, 1, b"%d\0" % (number % 100))
        return ROUNDS

    async def absent() -> int:
        for _ in range(ROUNDS):
            try:
                await kernel.ask(Op.LOOKUP, 1, b"nothing\0")
            except FileNotFoundError:
                continue
        return ROUNDS

    node = await kernel.lookup(1, b"5")

    async def getattr_() -> int:
        body = requests.GETATTR.pack(0, 0, 0)
        for _ in range(ROUNDS):
            await kernel.ask(Op.GETATTR, node, body)
        return ROUNDS

    release = Struct("<QIIQ")

    async def create() -> int:
        data = b"x" * 4096
        for _ in range(ROUNDS):
            made = await kernel.ask(
                Op.CREATE, 1, requests.CREATE.pack(os.O_RDWR, 0o644, 0o22, 0), b"new\0"
            )
            number, handle = (
                int.from_bytes(made[:8], "little"),
                int.from_bytes(made[-16:-8], "little"),
            )
            head = requests.WRITE.pack(handle, 0, len(data), 0, 0, 0, 0)
            await kernel.ask(Op.WRITE, number, head, data)
            await kernel.ask(Op.FLUSH, number, requests.FLUSH.pack(handle, 0, 0, 0))
            await kernel.ask(Op.RELEASE, number, release.pack(handle, 0, 0, 0))
            await kernel.ask(Op.UNLINK, 1, b"new\0")
            forget = requests.HEADER.pack(48, Op.FORGET, 0, number, 0, 0, 0, 0, 0)
            kernel.mount.receive(forget + requests.FORGET.pack(1))
        return ROUNDS

    many = await kernel.lookup(1, b"many")

    async def listing() -> int:
        handle = await kernel.open(many, 0, Op.OPENDIR)
        offset = count = 0
        while True:
            head = requests.READ.pack(handle, offset, 32768, 0, 0, 0, 0)
            data = await kernel.ask(Op.READDIRPLUS, many, head)
            if not data:
                break
            at = 0
            while at < len(data):
                offset = int.from_bytes(data[at + 136 : at + 144], "little")
                length = int.from_bytes(data[at + 144 : at + 148], "little")
                at += 128 + (24 + length + 7) // 8 * 8
                count += 1
        await kernel.ask(Op.RELEASEDIR, many, release.pack(handle, 0, 0, 0))
        return count

    return [
        row("lookup", "40,000", await rate(lookup), "/s"),
        row("lookup of what is not there", "40,000", await rate(absent), "/s"),
        row("getattr", "40,000", await rate(getattr_), "/s"),
        row("create, write 4 KiB, close, unlink", "5,000", await rate(create), "/s"),
        row("readdirplus of 10,000 files, each", "40,000", await rate(listing), "/s"),
    ]


async def data(kernel: Kernel) -> list[Row]:
    """Reading and writing."""
    node = await kernel.lookup(1, b"big")
    handle = await kernel.open(node, os.O_RDWR)
    block = os.urandom(BLOCK)
    times = 50

    async def write() -> int:
        for number in range(times):
            head = requests.WRITE.pack(handle, number * BLOCK, BLOCK, 0, 0, 0, 0)
            await kernel.ask(Op.WRITE, node, head, block)
        return times * BLOCK

    async def read() -> int:
        for number in range(times):
            head = requests.READ.pack(handle, number * BLOCK, BLOCK, 0, 0, 0, 0)
            await kernel.ask(Op.READ, node, head)
        return times * BLOCK

    async def small(op: int) -> int:
        body = block[:4096] if op == Op.WRITE else b""
        layout = requests.WRITE if op == Op.WRITE else requests.READ
        for number in range(ROUNDS):
            head = layout.pack(handle, number * 4096, 4096, 0, 0, 0, 0)
            await kernel.ask(op, node, head, body)
        return ROUNDS

    return [
        row("write, 1 MiB at once", "1,000", await rate(write, 1e6), "MB/s"),
        row("read, 1 MiB at once", "2,000", await rate(read, 1e6), "MB/s"),
        row("write, 4 KiB", "20,000", await rate(lambda: small(Op.WRITE)), "/s"),
        row("read, 4 KiB", "40,000", await rate(lambda: small(Op.READ)), "/s"),
    ]


async def filesystem() -> list[Row]:
    """`HostFs` on a folder of this host."""
    with tempfile.TemporaryDirectory(prefix="sandlot-bench-") as folder:
        root = Path(folder)
        for number in range(100):
            (root / str(number)).touch()
        (root / "many").mkdir()
        for number in range(FILES):
            (root / "many" / f"file-{number}").touch()
        (root / "big").touch()
        async with Kernel(HostFs(root)) as kernel:
            return [*await names(kernel), *await data(kernel)]


BENCHES = {"filesystem": filesystem}


if __name__ == "__main__":
    print(heading())
    for one in asyncio.run(filesystem()):
        print(line(one))
    sys.exit()
