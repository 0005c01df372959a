"""What the checks of the suite are written with."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def needs(*capabilities: str) -> Callable[[F], F]:
    """Say of a check what a file system must be able to do for it."""

    def mark(check: F) -> F:
        check.__dict__["needs"] = capabilities
        return check

    return mark


async def refused(numbers: int | tuple[int, ...], work: Awaitable[Any]) -> None:
    """Assert that something fails with an errno, or one of several."""
    wanted = (numbers,) if isinstance(numbers, int) else numbers
    names = " or ".join(errno.errorcode.get(number, str(number)) for number in wanted)
    try:
        result = await work
    except OSError as error:
        got = errno.errorcode.get(error.errno or 0, str(error.errno))
        assert error.errno in wanted or _by_class(error) in wanted, f"{got} instead of {names}"
        return
    raise AssertionError(f"{result!r} instead of {names}")


def _by_class(error: OSError) -> int | None:
    """The errno of an error that was raised without one, by its class."""
    if error.errno is not None:
        return None
    classes = {
        FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST,
        NotADirectoryError: errno.ENOTDIR, IsADirectoryError: errno.EISDIR,
        PermissionError: errno.EACCES,
    }  # fmt: skip
    return next((number for kind, number in classes.items() if isinstance(error, kind)), None)
