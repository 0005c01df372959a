"""Bytes of the guest's kernel: anything may come, and only a breach of the protocol is told."""

from __future__ import annotations

import asyncio
import errno
import logging
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandlot.errors import GuestProtocolError
from sandlot.filesystem.fuse import requests
from sandlot.filesystem.fuse.opcodes import Op
from sandlot.filesystem.fuse.requests import HEADER_SIZE, MAX_REQUEST, Splitter
from sandlot.filesystem.memory.memfs import MemFs
from sandlot.filesystem.mount import Mount
from sandlot.filesystem.overlay.overlayfs import OverlayFs
from sandlot.testing.kernel import pack

NAME, OTHER = b"name\0", b"other\0"
# One well-formed body of each operation, about the root, node 2 and open file 1.
BODIES: dict[int, bytes] = {
    Op.LOOKUP: NAME, Op.FORGET: requests.FORGET.pack(1), Op.GETATTR: bytes(16),
    Op.SETATTR: requests.SETATTR.pack(0xFFF, 0, 1, 10, 0, *(1,) * 6, 0o644, 0, 1, 1, 0),
    Op.READLINK: b"", Op.SYMLINK: NAME + OTHER, Op.MKNOD: requests.MKNOD.pack(0o100644, 0, 0, 0) + NAME,
    Op.MKDIR: requests.MKDIR.pack(0o755, 0) + OTHER, Op.UNLINK: NAME, Op.RMDIR: OTHER,
    Op.RENAME: requests.RENAME.pack(1) + NAME + OTHER, Op.LINK: requests.LINK.pack(2) + OTHER,
    Op.RENAME2: requests.RENAME2.pack(1, 2, 0) + NAME + OTHER, Op.OPEN: requests.OPEN.pack(2, 0),
    Op.READ: requests.READ.pack(1, 0, 4096, 0, 0, 0, 0),
    Op.WRITE: requests.WRITE.pack(1, 0, 5, 0, 0, 0, 0) + b"hello", Op.STATFS: b"",
    Op.RELEASE: requests.RELEASE.pack(1, 0, 0, 1), Op.FSYNC: requests.FSYNC.pack(1, 0, 0),
    Op.SETXATTR: requests.SETXATTR.pack(1, 0) + b"user.a\0x",
    Op.GETXATTR: requests.GETXATTR.pack(100, 0) + b"user.a\0",
    Op.LISTXATTR: requests.GETXATTR.pack(100, 0), Op.REMOVEXATTR: b"user.a\0",
    Op.FLUSH: requests.FLUSH.pack(1, 0, 0, 1), Op.INIT: requests.INIT.pack(7, 38, 0, 0xFFFFFFFF),
    Op.OPENDIR: requests.OPEN.pack(0, 0), Op.READDIR: requests.READ.pack(2, 0, 4096, 0, 0, 0, 0),
    Op.RELEASEDIR: requests.RELEASE.pack(2, 0, 0, 0), Op.FSYNCDIR: requests.FSYNC.pack(2, 0, 0),
    Op.GETLK: requests.LOCK.pack(1, 1, 0, 9, 1, 1, 0, 0),
    Op.SETLK: requests.LOCK.pack(1, 1, 0, 9, 1, 1, 0, 0),
    Op.SETLKW: requests.LOCK.pack(1, 2, 0, 9, 1, 1, 0, 0), Op.ACCESS: bytes(8),
    Op.CREATE: requests.CREATE.pack(2, 0o644, 0, 0) + NAME, Op.INTERRUPT: requests.INTERRUPT.pack(7),
    Op.BMAP: bytes(16), Op.DESTROY: b"", Op.IOCTL: bytes(32), Op.POLL: bytes(24),
    Op.NOTIFY_REPLY: bytes(40), Op.BATCH_FORGET: requests.BATCH_FORGET.pack(1, 0) + bytes(16),
    Op.FALLOCATE: requests.FALLOCATE.pack(1, 0, 4096, 0, 0),
    Op.READDIRPLUS: requests.READ.pack(2, 0, 4096, 0, 0, 0, 0), Op.LSEEK: requests.LSEEK.pack(1, 0, 3, 0),
    Op.COPY_FILE_RANGE: requests.COPY_FILE_RANGE.pack(1, 0, 2, 1, 8, 8, 0), Op.SYNCFS: bytes(8),
}  # fmt: skip


def test_every_operation_has_a_body() -> None:
    missing = set(Op) - set(BODIES)
    assert missing <= {Op.SETUPMAPPING, Op.REMOVEMAPPING, Op.TMPFILE}


@given(st.lists(st.sampled_from(sorted(BODIES)), max_size=20), st.randoms(use_true_random=False))
def test_a_stream_is_cut_into_its_requests_however_it_comes(
    ops: list[int], dice: random.Random
) -> None:
    packed = [
        pack(op, 2 + 2 * at, at, BODIES[op], uid=3, gid=4, pid=5) for at, op in enumerate(ops)
    ]
    stream = b"".join(packed)
    splitter, found = Splitter(), []
    while stream:
        step = dice.randint(1, len(stream))
        found += splitter.feed(stream[:step])
        stream = stream[step:]
    assert [request.data for request in found] == packed
    assert [(r.op, r.unique, r.node) for r in found] == [
        (op, 2 + 2 * at, at) for at, op in enumerate(ops)
    ]
    assert {(r.uid, r.gid, r.pid) for r in found} <= {(3, 4, 5)}


@pytest.mark.parametrize("size", [0, HEADER_SIZE - 1, MAX_REQUEST + 1, 0xFFFFFFFF])
def test_a_size_that_cannot_be_is_a_breach(size: int) -> None:
    data = size.to_bytes(4, "little") + bytes(HEADER_SIZE - 4)
    with pytest.raises(GuestProtocolError, match=f"of {size} bytes"):
        Splitter().feed(data)


@given(st.binary(max_size=500))
def test_any_bytes_are_requests_or_a_breach(data: bytes) -> None:
    try:
        found = Splitter().feed(data)
    except GuestProtocolError:
        return
    assert sum(len(request.data) for request in found) <= len(data)


def only(data: bytes) -> requests.Request:
    (request,) = Splitter().feed(data)
    return request


@pytest.mark.parametrize("text", [b"", b"/", b"a/b", b".", b".."])
def test_a_path_is_no_name(text: bytes) -> None:
    with pytest.raises(GuestProtocolError, match="in a folder"):
        only(pack(Op.LOOKUP, 2, 1, text + b"\0")).name()


def test_names_and_texts_have_an_end() -> None:
    with pytest.raises(GuestProtocolError, match="does not end"):
        only(pack(Op.LOOKUP, 2, 1, b"abc")).name()
    request = only(pack(Op.SYMLINK, 2, 1, b"\xff\0" + b"x" * 5000 + b"\0"))
    name, end = request.name()
    assert name == "\udcff"
    with pytest.raises(OSError, match="too long") as caught:
        request.text(end)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_what_is_forgotten_is_bounded() -> None:
    many = requests.BATCH_FORGET.pack(requests.MAX_FORGETS + 1, 0)
    with pytest.raises(GuestProtocolError, match="at once"):
        only(pack(Op.BATCH_FORGET, 2, 0, many)).forgets()
    with pytest.raises(GuestProtocolError, match="lacks its data"):
        only(pack(Op.BATCH_FORGET, 2, 0, requests.BATCH_FORGET.pack(3, 0) + bytes(16))).forgets()
    body = requests.BATCH_FORGET.pack(2, 0) + requests.FORGET_ONE.pack(5, 6) * 2
    assert only(pack(Op.BATCH_FORGET, 2, 0, body)).forgets() == [(5, 6), (5, 6)]


# -- the whole way, with a file system behind it --------------------------------------------


class Watched:
    """A mount that notes what it says, and fails for what it must not do."""

    def __init__(self, overlay: bool = False) -> None:
        fs = MemFs(size="1M", cache="coherent")
        self.fs = OverlayFs(MemFs(size="1M", cache="coherent"), fs) if overlay else fs
        self.broken: GuestProtocolError | None = None
        self.answers: dict[int, int] = {}
        self.mount = Mount(
            self.fs, "a", "/", send=self.sent, taken=lambda size: None, broken=self.breach
        )

    def sent(self, data: bytes) -> int:
        assert int.from_bytes(data[:4], "little") == len(data) <= MAX_REQUEST
        number = int.from_bytes(data[4:8], "little", signed=True)
        unique = int.from_bytes(data[8:16], "little")
        assert number == 0 or -4096 < number < 0 or not unique
        self.answers[unique] = -number
        return 0

    def breach(self, error: GuestProtocolError) -> None:
        self.broken = error

    async def feed(self, messages: list[bytes]) -> None:
        """Give it messages as an emulated kernel would that stops at a breach."""
        await self.fs.start(self.mount)
        self.mount.receive(pack(Op.INIT, 2, 0, BODIES[Op.INIT]))
        self.mount.receive(pack(Op.CREATE, 4, 1, BODIES[Op.CREATE]))
        self.mount.receive(pack(Op.OPENDIR, 6, 1, BODIES[Op.OPENDIR]))
        for message in messages:
            if self.broken is not None:
                break
            self.mount.receive(message)
        for _ in range(20):
            await asyncio.sleep(0)
        await self.mount.close()


numbers = st.one_of(st.integers(0, 4), st.sampled_from([2**32 - 1, 2**63, 2**64 - 1]))


@st.composite
def mutated(draw: st.DrawFn) -> tuple[int, bytes, int]:
    """A request that is well-formed but for a few bytes, of a node that may not be there."""
    op = draw(st.sampled_from(sorted(BODIES)))
    body = bytearray(BODIES[op])
    for _ in range(draw(st.integers(0, 3))):
        if body:
            at = draw(st.integers(0, len(body) - 1))
            body[at] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        del body[draw(st.integers(0, len(body))) :]
    if len(body) >= 8 and draw(st.booleans()):
        body[:8] = draw(numbers).to_bytes(8, "little")
    return op, bytes(body), draw(numbers)


@pytest.mark.parametrize("overlay", [False, True])
@settings(deadline=None, max_examples=150)
@given(messages=st.lists(mutated(), max_size=25))
def test_mutated_requests_do_no_harm(overlay: bool, messages: list[tuple[int, bytes, int]]) -> None:
    async def run() -> None:
        watched = Watched(overlay)
        packed = [pack(op, 8 + 2 * at, node, body) for at, (op, body, node) in enumerate(messages)]
        await watched.feed(packed)
        # Nothing but an errno for what is nonsense: EIO would be an error of ours, in the log.
        assert watched.broken is None or isinstance(watched.broken, GuestProtocolError)

    log = logging.getLogger("sandlot.filesystem")
    errors: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record)

    keep = Keep()
    log.addHandler(keep)
    try:
        asyncio.run(run())
    finally:
        log.removeHandler(keep)
    assert not [record.exc_info for record in errors]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_random_bytes_do_no_harm(pieces: list[bytes]) -> None:
    async def run() -> None:
        watched = Watched()
        await watched.feed(pieces)

    asyncio.run(run())


def test_what_is_kept_of_a_stream_is_bounded() -> None:
    splitter = Splitter()
    head = pack(Op.WRITE, 2, 1, bytes(100))
    splitter.feed(MAX_REQUEST.to_bytes(4, "little") + head[4:])
    for _ in range(MAX_REQUEST // 4096):
        splitter.feed(bytes(4096 - 1))
    assert len(splitter._kept) <= MAX_REQUEST


def test_memory_holds_what_was_written_and_no_more() -> None:
    """A guest that writes without end gets ENOSPC; nothing of it is kept elsewhere."""

    async def run() -> None:
        watched = Watched()
        data = b"x" * 65536
        body = [requests.WRITE.pack(1, at * 65536, 65536, 0, 0, 0, 0) + data for at in range(64)]
        await watched.feed([pack(Op.WRITE, 8 + 2 * at, 2, each) for at, each in enumerate(body)])
        assert watched.answers[8] == 0
        assert watched.answers[8 + 2 * 63] == errno.ENOSPC
        assert isinstance(watched.fs, MemFs)
        assert watched.fs.room.used <= watched.fs.room.limit

    asyncio.run(run())
