"""What `Sandbox.create` refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandlot.engine.config import GIB, MIB
from sandlot.errors import ConfigError, ResourceError, SandboxError
from sandlot.sandbox import options
from sandlot.state.records import SandboxRecord


def make(tmp_path: Path, **changes: Any) -> SandboxRecord:
    values: dict[str, Any] = {
        "name": "my_box", "image": "demo", "image_digest": "", "memory": "512M", "cpus": 1,
        "disk": "1G", "env": None, "workdir": "", "user": "", "hostname": None, "command": (),
        "tty": False, "auto_remove": False, "detached": False, "data": tmp_path,
    }  # fmt: skip
    return options.make_record(**{**values, **changes})


def test_a_record_from_words(tmp_path: Path) -> None:
    made = make(tmp_path, env={"A": "b"})
    assert (made.memory, made.disk, made.hostname) == (512 * MIB, GIB, "my-box")
    assert len(made.id) == 12
    assert len(made.machine_id) == 32
    assert make(tmp_path).id != make(tmp_path).id
    assert make(tmp_path, name=None).name != make(tmp_path, name=None).name


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"memory": "95M"}, ConfigError, "memory 95M is too small: the least is 96M"),
        ({"memory": "513G"}, ConfigError, "memory 513G is too large: the most is 512G"),
        ({"memory": 512}, ConfigError, "memory 512 means 512 bytes, and the least is 96M"),
        ({"memory": "much"}, ConfigError, "memory 'much' is not a size"),
        ({"memory": "500G"}, ResourceError, "not enough memory"),
        ({"cpus": 0}, ConfigError, "cpus 0"),
        ({"cpus": 65}, ConfigError, "cpus 65"),
        ({"cpus": 1.5}, ConfigError, r"cpus 1\.5"),
        ({"cpus": True}, ConfigError, "cpus True"),
        ({"cpus": 64}, ResourceError, "not enough processors"),
        ({"disk": "1M"}, ConfigError, "disk 1M is too small: the least is 64M"),
        ({"disk": "65G"}, ConfigError, "disk 65G is too large: the most is 64G"),
        ({"name": "a b"}, ConfigError, "'a b' is not a name"),
        ({"name": ""}, ConfigError, "'' is not a name"),
        ({"hostname": "a_b"}, ConfigError, "host name"),
        ({"workdir": "a\0"}, ConfigError, "workdir contains a NUL"),
        ({"user": "a\0"}, ConfigError, "user contains a NUL"),
        ({"env": {"": "x"}}, ConfigError, "environment variable"),
        ({"env": {"A=B": "x"}}, ConfigError, "environment variable"),
        ({"env": {"A": "\0"}}, ConfigError, "NUL"),
        ({"env": {"A": 3}}, ConfigError, "int, not text"),
    ],
)
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any],
    error: type[SandboxError], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(options, "host_memory", lambda: 8 * GIB)
    monkeypatch.setattr("sandlot.sandbox.options.os.cpu_count", lambda: 2)
    with pytest.raises(error, match=words):
        make(tmp_path, **changes)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "SPARE_DISK", 1 << 62)
    with pytest.raises(ResourceError, match="not enough disk"):
        make(tmp_path)
