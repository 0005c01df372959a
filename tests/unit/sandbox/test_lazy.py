"""The rest of a sandbox that cannot be fetched. With machines: tests/vm/test_lazy.py."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandlot.errors import RemoteDamaged, ResourceError, SandboxError
from sandlot.sandbox.lazy import LAZY, Fetching


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ResourceError, "No space left"),
        (RemoteDamaged("a pack is gone"), RemoteDamaged, "a pack is gone"),
    ],
)
async def test_why_it_ended_is_told_here_and_to_other_programs(
    tmp_path: Path, cause: Exception, kind: type[SandboxError], words: str
) -> None:
    (tmp_path / LAZY).mkdir()
    said: list[str] = []
    host: Any = SimpleNamespace(tell=said.append)
    folder: Any = SimpleNamespace(path=tmp_path)

    class Source:
        async def fill(self, folder: Callable[[], Path]) -> None:
            raise cause

    source: Any = Source()
    fetching = Fetching(host, folder)
    fetching._source = source
    with pytest.raises(kind, match=words):
        await fetching.completed()
    assert words in said[0] and not fetching.whole
    with pytest.raises(kind, match=words):
        Fetching(host, folder).refuse_failed()  # as another program asks
    # Who starts it again tries again.
    (tmp_path / LAZY / "failed.json").unlink()
    with pytest.raises(kind):
        await fetching.completed()
