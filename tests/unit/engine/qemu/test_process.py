"""QEMU's process: confined, and dead when its owner is. `cat` and `sh` stand for QEMU."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from sandlot.engine.qemu.process import MonitorProcess, confined, launcher
from sandlot.errors import EngineUnavailable


def test_the_command_names_owner_and_paths() -> None:
    words = confined(["/usr/bin/qemu", "-x"], [Path("/k")], [Path("/ram")])
    assert words[:3] == [str(launcher()), "--parent", str(os.getpid())]
    assert words[-3:] == ["--", "/usr/bin/qemu", "-x"]
    pairs = list(itertools.pairwise(words))
    assert ("--read", "/k") in pairs
    assert ("--write", "/ram") in pairs
    assert ("--write", "/k") not in pairs


async def test_no_new_privileges_no_core_and_its_descriptors() -> None:
    reader, writer = os.pipe()
    try:
        script = f"grep NoNewPrivs /proc/self/status; ulimit -c; echo passed >&{writer}; exit 3"
        process = await MonitorProcess.start(["/bin/bash", "-c", script], [writer], [], [])
        assert await process.wait() == 3
        assert os.read(reader, 99) == b"passed\n"
        assert process.messages().split() == ["NoNewPrivs:", "1", "0"]
        process.close()
    finally:
        os.close(reader)
        os.close(writer)


async def test_killing_is_seen() -> None:
    process = await MonitorProcess.start(["/bin/sleep", "60"], [], [], [])
    assert process.exit_status is None
    process.kill()
    assert await process.wait() == -9
    process.kill()
    process.close()


def test_a_wrong_parent_is_refused() -> None:
    done = subprocess.run([str(launcher()), "--parent", "1", "--", "/bin/true"], check=False)
    assert done.returncode == 125


OWNER = """
import subprocess, sys, os
from sandlot.engine.qemu.process import confined
child = subprocess.Popen(confined(["/bin/sh", "-c", "echo up; exec sleep 60"], [], []))
child.wait()
"""


def test_it_dies_with_a_killed_owner() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        owner.kill()
        # The child holds the pipe too: its end is the end of the child.
        assert select.select([owner.stdout], [], [], 10)[0]
        assert owner.stdout.read() == b""


async def test_what_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandlot.engine.qemu.process.launcher", lambda: None)
    with pytest.raises(EngineUnavailable, match="cannot start /no/such"):
        await MonitorProcess.start(["/no/such"], [], [], [])
