"""Why a file of the user's could not be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sandlot.errors import ResourceError, SandboxError, StateError
from sandlot.state.target import target_faults


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, ResourceError), (errno.EDQUOT, ResourceError), (errno.EACCES, StateError)],
)
def test_it_names_the_file_and_the_reason(number: int, kind: type[SandboxError]) -> None:
    with (
        pytest.raises(kind, match="/there cannot be written: ") as raised,
        target_faults(Path("/there")),
    ):
        raise OSError(number, os.strerror(number))
    assert raised.value.hint
