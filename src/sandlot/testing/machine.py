"""`file_system_machine`: random operations on a file system and on a model, which must agree.

Needs `hypothesis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import stat
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sandlot.errors import ConfigError
from sandlot.filesystem.base import FileSystem
from sandlot.filesystem.operations import killed
from sandlot.testing.client import APPEND, CREAT, RDWR, TRUNC, FileSystemClient, OpenedFile
from sandlot.testing.kernel import Kernel
from sandlot.testing.model import ModelFs

_MOST_OPEN = 4
Seed = Callable[[FileSystemClient], Awaitable[None]]


def file_system_machine(
    make: Callable[[], FileSystem | Awaitable[FileSystem]], *, seed: Seed | None = None,
    may_refuse: Collection[int] = (), leave_out: Collection[str] = (), through_fuse: bool = False,
) -> type[Any]:  # fmt: skip
    """A `RuleBasedStateMachine` for a file system.

    Args:
        make: makes one; it may be a coroutine function.
        seed: makes what is in it at first, by a client: it is run on the model.
        may_refuse: errnos with which it may refuse what the model does.
        leave_out: operations that it does not have, as the suite's capabilities.
        through_fuse: drive it by the messages of a guest's kernel.

    Example:
        >>> TestMine = file_system_machine(MyFs).TestCase
    """
    try:
        from hypothesis import strategies as st
        from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
    except ImportError as error:
        raise ConfigError(
            "file_system_machine needs hypothesis", hint="pip install hypothesis"
        ) from error

    names = st.sampled_from("abcd")
    paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
    offsets = st.sampled_from([0, 1, 4095, 4096, 5000, 65535, 65536, 70000, 200_000])
    sizes = st.sampled_from([0, 1, 100, 4096, 8192, 65536, 66000, 140_000])
    pieces = st.builds(
        lambda byte, size: bytes([byte]) * size, st.integers(1, 255), sizes.filter(bool)
    )

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.open: list[tuple[OpenedFile, OpenedFile]] = []
            self.runner.run(self.begin())

        async def begin(self) -> None:
            made = make()
            fs = await made if inspect.isawaitable(made) else made
            self.kernel = Kernel(fs)
            await self.kernel.__aenter__()
            self.real = FileSystemClient(self.kernel if through_fuse else fs)
            self.model = FileSystemClient(ModelFs())
            if seed is not None:
                await seed(self.model)

        def teardown(self) -> None:
            self.runner.run(self.kernel.__aexit__(None, None, None))
            self.runner.close()

        async def both(self, name: str, *arguments: Any, **more: Any) -> tuple[Any, Any] | None:
            """Do something to both; the results, or None when both failed alike."""
            outcomes: list[Any] = []
            for client in (self.real, self.model):
                try:
                    outcomes.append(await getattr(client, name)(*arguments, **more))
                except OSError as error:
                    if client is self.real and error.errno in may_refuse:
                        return None
                    outcomes.append(error)
            failed = [one.errno if isinstance(one, OSError) else None for one in outcomes]
            assert failed[0] == failed[1], f"{name}{arguments}: {outcomes[0]} for {outcomes[1]}"
            return None if failed[0] is not None else (outcomes[0], outcomes[1])

        def do(self, name: str, *arguments: Any, **more: Any) -> None:
            self.runner.run(self.both(name, *arguments, **more))

        # -- operations --------------------------------------------------------------------

        @rule(path=paths, data=pieces)
        def write(self, path: str, data: bytes) -> None:
            self.do("write_bytes", path, data)

        @rule(path=paths)
        def mkdir(self, path: str) -> None:
            self.do("mkdir", path)

        @rule(path=paths)
        def unlink(self, path: str) -> None:
            self.do("unlink", path)

        @rule(path=paths)
        def rmdir(self, path: str) -> None:
            self.do("rmdir", path)

        @rule(
            path=paths, flags=st.sampled_from([RDWR, RDWR | CREAT, RDWR | APPEND, RDWR | TRUNC, 0])
        )
        def open_file(self, path: str, flags: int) -> None:
            if flags & APPEND and "append" in leave_out:
                flags &= ~APPEND
            if len(self.open) < _MOST_OPEN:
                opened = self.runner.run(self.both("open", path, flags))
                if opened is not None:
                    self.open.append(opened)

        @rule(which=st.integers(0, _MOST_OPEN - 1), offset=offsets, data=pieces)
        def write_open(self, which: int, offset: int, data: bytes) -> None:
            if which < len(self.open) and self.open[which][0].flags & RDWR:
                for file in self.open[which]:
                    assert self.runner.run(file.pwrite(data, offset)) == len(data)

        @rule(which=st.integers(0, _MOST_OPEN - 1))
        def close(self, which: int) -> None:
            if which < len(self.open):
                for file in self.open.pop(which):
                    self.runner.run(file.close())

        if "truncate" not in leave_out:

            @rule(path=paths, size=sizes)
            def truncate(self, path: str, size: int) -> None:
                self.do("truncate", path, size)

            @rule(which=st.integers(0, _MOST_OPEN - 1), size=sizes)
            def truncate_open(self, which: int, size: int) -> None:
                if which < len(self.open) and self.open[which][0].flags & RDWR:
                    for file in self.open[which]:
                        self.runner.run(file.truncate(size))

        if "rename" not in leave_out:
            kinds = [0] if "exchange" in leave_out else [0, 0, 1, 2]

            @rule(old=paths, new=paths, flags=st.sampled_from(kinds))
            def rename(self, old: str, new: str, flags: int) -> None:
                self.do("rename", old, new, flags)

        if "links" not in leave_out:

            @rule(old=paths, new=paths)
            def link(self, old: str, new: str) -> None:
                self.do("link", old, new)

        if "symlinks" not in leave_out:

            @rule(path=paths, leads=st.one_of(paths, names))
            def symlink(self, path: str, leads: str) -> None:
                self.do("symlink", leads, path)

        if "owners" not in leave_out:

            @rule(path=paths, mode=st.sampled_from([0o600, 0o755, 0o2775, 0o1777]))
            def chmod(self, path: str, mode: int) -> None:
                self.do("change", path, mode=mode)

            @rule(path=paths, uid=st.integers(0, 3), gid=st.integers(0, 3))
            def chown(self, path: str, uid: int, gid: int) -> None:
                self.do("change", path, uid=uid, gid=gid)
                if through_fuse:
                    self.runner.run(self.without_privileges(path))

            async def without_privileges(self, path: str) -> None:
                """Who serves a guest does this for the file system: the model does it here."""
                with contextlib.suppress(OSError):
                    attr = await self.model.stat(path)
                    kept = attr.mode & 0o7777 & ~killed(attr)
                    await self.model.change(path, mode=kept)

        if "xattrs" not in leave_out:

            @rule(path=paths, value=st.binary(max_size=20))
            def set_xattr(self, path: str, value: bytes) -> None:
                self.do("setxattr", path, "user.one", value)

            @rule(path=paths)
            def remove_xattr(self, path: str) -> None:
                self.do("removexattr", path, "user.one")

        if "sparse" not in leave_out:

            @rule(
                which=st.integers(0, _MOST_OPEN - 1), offset=offsets, size=sizes.filter(bool),
                mode=st.sampled_from([0, 1, 3, 0x10, 0x11]),
            )  # fmt: skip
            def allocate(self, which: int, offset: int, size: int, mode: int) -> None:
                if which < len(self.open) and self.open[which][0].flags & RDWR:
                    real, model = self.open[which]
                    try:
                        self.runner.run(real.allocate(offset, size, mode))
                    except OSError as error:
                        if error.errno not in may_refuse:
                            raise
                    else:
                        self.runner.run(model.allocate(offset, size, mode))

        # -- what has to be the same -------------------------------------------------------

        @invariant()
        def same_files(self) -> None:
            async def compare() -> None:
                await self.compare("/")
                for real, model in self.open:
                    found = await _all(real), (await real.stat()).size
                    assert found == (await _all(model), (await model.stat()).size)

            self.runner.run(compare())
            assert self.kernel.broken is None

        async def compare(self, path: str) -> None:
            entries = await self.real.entries(path)
            listed = sorted(entry.name for entry in entries)
            assert listed == await self.model.listdir(path), path
            kinds = {entry.name: stat.S_IFMT(entry.mode) for entry in entries}
            for name in listed:
                below = f"{path.rstrip('/')}/{name}"
                attr, wanted = await self.real.lstat(below), await self.model.lstat(below)
                assert kinds[name] == stat.S_IFMT(wanted.mode), below
                assert self.shown(attr) == self.shown(wanted), below
                if "xattrs" not in leave_out:
                    names = await self.real.listxattr(below)
                    assert names == await self.model.listxattr(below), below
                    for one in names:
                        value = await self.real.getxattr(below, one)
                        assert value == await self.model.getxattr(below, one), below
                if wanted.is_folder:
                    await self.compare(below)
                elif stat.S_ISLNK(wanted.mode):
                    target = await self.real.readlink(below)
                    assert target == await self.model.readlink(below), below
                elif stat.S_ISREG(wanted.mode):
                    data = await self.real.read_bytes(below)
                    assert data == await self.model.read_bytes(below), below

        @staticmethod
        def shown(attr: Any) -> tuple[Any, ...]:
            """What has to be the same of a node."""
            mode = attr.mode if "owners" not in leave_out else stat.S_IFMT(attr.mode)
            size = 0 if attr.is_folder else attr.size
            links = 0 if attr.is_folder or "links" in leave_out else attr.nlink
            owner = (attr.uid, attr.gid) if "owners" not in leave_out else ()
            return mode, size, links, owner

    return Machine


async def _all(file: OpenedFile) -> bytes:
    found = bytearray()
    while piece := await file.pread(1 << 20, len(found)):
        found += piece
    return bytes(found)
