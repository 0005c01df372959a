"""Failures of the guest as errors for people."""

from __future__ import annotations

import pytest

from sandlot import (
    ConfigError,
    FileError,
    FileExists,
    FileForbidden,
    FileIsDirectory,
    FileNotDirectory,
    FileNotFound,
    SandboxError,
    WrongState,
)
from sandlot.files.requests import failure, file_error
from sandlot.wire.messages import Failed


@pytest.mark.parametrize(
    ("number", "kind", "builtin"),
    [
        (2, FileNotFound, FileNotFoundError), (17, FileExists, FileExistsError),
        (13, FileForbidden, PermissionError), (1, FileForbidden, PermissionError),
        (21, FileIsDirectory, IsADirectoryError), (20, FileNotDirectory, NotADirectoryError),
        (28, FileError, OSError),
    ],
)  # fmt: skip
def test_numbers_become_kinds(number: int, kind: type, builtin: type) -> None:
    error = file_error(number, "", "/a\n\x1bb")
    assert type(error) is kind and isinstance(error, builtin) and isinstance(error, SandboxError)
    assert error.errno == number and error.path == error.filename == "/a\n\x1bb"
    assert "\n" not in str(error) and "\x1b" not in str(error)


def test_codes_and_hostile_texts() -> None:
    assert isinstance(failure(Failed(code="no-user", text="x"), "/a"), ConfigError)
    assert isinstance(failure(Failed(code="no-root"), "/a"), WrongState)
    error = failure(Failed(code="file", text="\x1b[31mred\n", errno=1 << 60), "/a")
    assert type(error) is FileError and str(error) == "/a in the sandbox: ?[31mred?"
    named = failure(Failed(code="file", errno=2, path=b"/b\xff"), "/a")
    assert isinstance(named, FileNotFound) and named.path == "/b\udcff"
    assert "disk=" in file_error(28, "", "/a").hint
