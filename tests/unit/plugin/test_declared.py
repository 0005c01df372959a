"""What `plugins=` and `plugin_processes=` may be, and the plugins of a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandlot import AuditLog, ConfigError, PluginProcess
from sandlot.plugin.declared import declared, opened
from sandlot.plugin.process import ProcessPlugin


class Mine:
    def on_exec(self, ctx: object) -> None: ...


def test_they_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = Mine(), Mine()
    listed, objects = declared(
        [first, "audit-log=a.jsonl", PluginProcess("x"), second], ["node m.js"], False
    )
    assert objects == (first, second)
    found = opened(json.loads(json.dumps(listed)), objects)
    assert [type(each) for each in found] == [Mine, AuditLog, ProcessPlugin, Mine, ProcessPlugin]
    assert isinstance(found[1], AuditLog) and found[1].path == tmp_path / "a.jsonl"
    assert found[0] is first and found[3] is second
    assert isinstance(found[4], ProcessPlugin) and found[4].process.folder == str(tmp_path)
    monkeypatch.chdir("/")
    again = opened(listed, objects)[1]
    assert isinstance(again, AuditLog) and again.path == tmp_path / "a.jsonl"


def test_objects_of_another_program_have_to_be_given_again() -> None:
    listed, _ = declared([Mine()], None, False)
    with pytest.raises(ConfigError) as caught:
        opened(listed, ())
    assert "Mine" in caught.value.message and "plugins=[]" in caught.value.hint


@pytest.mark.parametrize(
    ("plugins", "processes", "detached"),
    [
        ("audit-log", None, False), (5, None, False), ([object()], None, False),
        (["no-such"], None, False), (["audit-log"], None, False), ([Mine()], None, True),
        ([Mine], None, False), (None, "node x.js", False), (None, [5], False), ([None], None, False),
    ],
)  # fmt: skip
def test_wrong_ones_are_refused(plugins: Any, processes: Any, detached: bool) -> None:
    with pytest.raises(ConfigError):
        declared(plugins, processes, detached)


def test_a_detached_one_has_those_that_are_named(tmp_path: Path) -> None:
    listed, objects = declared([f"audit-log={tmp_path}/a"], [["node", "x.js"]], True)
    assert objects == () and [set(each) & {"name", "process"} for each in listed] == [
        {"name"}, {"process"},
    ]  # fmt: skip
