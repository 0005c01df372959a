"""Tools to test what you build on Sandlot, without a machine.

client     a file system by paths, as programs see it: `FileSystemClient`
kernel     a mounted file system, by the messages of a guest's kernel: `Kernel`
suite      what every file system has to do: `FileSystemSuite`
blob_suite  what every store of a remote has to do: `BlobStoreSuite`
machine    random operations against a model: `file_system_machine`

class TestMine(FileSystemSuite):
    def make(self):
        return MyFs()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandlot.testing.blob_suite import BlobStoreSuite
    from sandlot.testing.client import FileSystemClient, OpenedFile
    from sandlot.testing.kernel import Kernel
    from sandlot.testing.machine import file_system_machine
    from sandlot.testing.suite import FileSystemSuite

_LAZY = {
    "BlobStoreSuite": "sandlot.testing.blob_suite",
    "FileSystemClient": "sandlot.testing.client",
    "FileSystemSuite": "sandlot.testing.suite",
    "Kernel": "sandlot.testing.kernel",
    "OpenedFile": "sandlot.testing.client",
    "file_system_machine": "sandlot.testing.machine",
}

__all__ = [
    "BlobStoreSuite",
    "FileSystemClient",
    "FileSystemSuite",
    "Kernel",
    "OpenedFile",
    "file_system_machine",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sandlot.testing' has no attribute {name!r}")
