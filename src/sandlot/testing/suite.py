"""`FileSystemSuite`: what every file system has to do, as tests that pytest finds."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

from sandlot.filesystem.base import FileSystem
from sandlot.testing.client import FileSystemClient
from sandlot.testing.kernel import Kernel
from sandlot.testing.suite_files import Files
from sandlot.testing.suite_folders import Folders
from sandlot.testing.suite_states import States

F = TypeVar("F", bound=Callable[..., Any])

CAPABILITIES = (
    "append", "copy", "empty_folders", "exchange", "links", "locks", "names", "nodes", "owners",
    "rename", "sparse", "symlinks", "times", "truncate", "unlinked", "xattrs",
)  # fmt: skip


class FileSystemSuite(Files, Folders, States):
    """Subclass it, and give `make`; each check becomes two tests: driven directly, and through a
    mount with the messages of a guest's kernel.

    Attributes:
        leave_out: what the file system cannot do, of `CAPABILITIES`; tests that need it are not
            there then.
        timeout: seconds that one test may take.

    Example:
        >>> class TestMine(FileSystemSuite):
        ...     leave_out = {"locks", "xattrs"}
        ...     def make(self):
        ...         return MyFs()
    """

    leave_out: ClassVar[set[str] | frozenset[str]] = frozenset()
    timeout: float = 60.0

    def make(self) -> FileSystem | Awaitable[FileSystem]:
        """A file system that is empty and can be written. It may be a coroutine."""
        raise NotImplementedError("give the suite a file system: override `make`")

    async def unmake(self, fs: FileSystem) -> None:
        """Clean up after a test."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unknown = set(cls.leave_out) - set(CAPABILITIES)
        if unknown:
            raise TypeError(
                f"{cls.__name__}.leave_out has unknown {', '.join(sorted(unknown))}; "
                f"there are {', '.join(CAPABILITIES)}"
            )
        for name, check in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("check_"):
                continue
            test = name.removeprefix("check_")
            out = bool(set(getattr(check, "needs", ())) & set(cls.leave_out))
            for suffix, through in (("", False), ("_through_fuse", True)):
                made = None if out else _test(name, through, check.__doc__)
                setattr(cls, f"test_{test}{suffix}", made)

    async def _run(self, name: str, through: bool) -> None:
        made = self.make()
        fs = await made if inspect.isawaitable(made) else made
        assert isinstance(fs, FileSystem)
        try:
            async with Kernel(fs) as kernel:
                client = FileSystemClient(kernel if through else fs)
                await asyncio.wait_for(getattr(self, name)(client), self.timeout)
                assert kernel.broken is None
        finally:
            await self.unmake(fs)


def _test(name: str, through: bool, about: str | None) -> Callable[[Any], None]:
    def test(self: Any) -> None:
        asyncio.run(self._run(name, through))

    test.__doc__ = about
    return test
