"""`sandlot snapshot export | import | diff`; what they do is tested in tests/unit/sandbox."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from sandlot import FileChange, FileState, NameTaken, Snapshot
from sandlot.cli.snapshot_files import diff, export, import_
from sandlot.sandbox.host import Host
from tests.unit.snapshot.fakes import FACTS, make_snapshot


@pytest.fixture
def host(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    async def engine(self: Host) -> Any:
        return SimpleNamespace(facts=dict(FACTS))

    monkeypatch.setattr(Host, "engine", engine)
    return Host.current()


def test_out_and_in(host: Host, tmp_path: Path) -> None:
    make_snapshot(host)
    file = tmp_path / "file"
    out = CliRunner().invoke(export, ["demo", str(file), "--level", "1"], catch_exceptions=False)
    assert out.exit_code == 0 and out.stdout == "" and file.stat().st_size
    back = CliRunner().invoke(import_, [str(file), "-n", "b", "-q"], catch_exceptions=False)
    record = host.snapshots.find("b").record()
    assert back.stdout == f"{record.id}\n" and "imported as b" in back.stderr
    assert "10.0.0.0/8" in back.stderr  # what was left out of the policy
    again = CliRunner().invoke(import_, [str(file), "--disk-only"])
    assert isinstance(again.exception, NameTaken)
    disk = CliRunner().invoke(import_, [str(file), "--disk-only", "--name", "disk"])
    assert disk.exit_code == 0 and host.snapshots.find("disk").record().machine is None


def test_streams(host: Host) -> None:
    make_snapshot(host)
    out = CliRunner().invoke(export, ["demo", "-"], catch_exceptions=False)
    read, write = os.pipe()

    def feed() -> None:
        with os.fdopen(write, "wb") as file:
            file.write(out.stdout_bytes)

    feeding = threading.Thread(target=feed)
    feeding.start()
    saved = os.dup(0)
    os.dup2(read, 0)
    try:
        back = CliRunner().invoke(import_, ["-", "-n", "piped"], catch_exceptions=False)
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(read)
        feeding.join()
    assert back.exit_code == 0 and host.snapshots.find("piped")


def test_changes_are_listed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    make_snapshot(host, "a")
    make_snapshot(host, "b")
    one = FileState(type="file", mode=0o644, uid=0, gid=0, size=2048, target="")
    two = FileState(type="symlink", mode=0o777, uid=0, gid=0, size=0, target="x")
    changes = [
        FileChange(path="/a", change="added", before=None, after=one),
        FileChange(path="/b\n\udcff", change="removed", before=one, after=None),
        FileChange(path="/c", change="changed", before=one, after=one, what=("contents", "mode")),
        FileChange(path="/d", change="type", before=one, after=two),
    ]

    async def found(self: Snapshot, other: Snapshot) -> Sequence[FileChange]:
        return changes if (self.name, other.name) == ("a", "b") else []

    monkeypatch.setattr(Snapshot, "diff", found)
    shown = CliRunner().invoke(diff, ["a", "b"], catch_exceptions=False)
    assert shown.stdout.splitlines() == [
        "A /a  (2K)", "D /b\\x0a\\xff", "C /c  (contents 2K -> 2K, mode)",
        "T /d  (file -> symlink)",
    ]  # fmt: skip
    listed = json.loads(CliRunner().invoke(diff, ["--json", "a", "b"]).stdout)
    assert listed[0]["after"]["size"] == 2048 and listed[3]["change"] == "type"
    assert CliRunner().invoke(diff, ["b", "a"]).stdout == ""
