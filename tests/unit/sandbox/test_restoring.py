"""What a child is given of its parent's plugins; machines that go on are in tests/vm/test_snapshot.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sandlot.errors import ConfigError
from sandlot.sandbox.restoring import Changes, child_plugins
from tests.unit.snapshot.fakes import source_record


class Guard:
    def on_exec(self, ctx: object) -> None: ...


NAMED: dict[str, Any] = {"name": "audit-log", "argument": "a", "folder": "/"}
GIVEN = {"given": "Guard"}
SOURCE = dataclasses.replace(source_record(), plugins=[GIVEN, NAMED])


def test_a_child_has_its_parents_plugins() -> None:
    guard = Guard()
    assert child_plugins(SOURCE, Changes(), (guard,)) == ([GIVEN, NAMED], (guard,))
    named = dataclasses.replace(SOURCE, plugins=[NAMED])
    assert child_plugins(named, Changes(detached=True), ()) == ([NAMED], ())


@pytest.mark.parametrize(("detached", "grants"), [(False, ()), (True, (Guard(),)), (True, ())])
def test_it_does_not_lose_one_unasked(detached: bool, grants: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        child_plugins(SOURCE, Changes(detached=detached), grants)
    assert "Guard" in caught.value.message and "plugins=[]" in caught.value.hint


def test_others_may_be_given_or_none(tmp_path: Path) -> None:
    guard = Guard()
    assert child_plugins(SOURCE, Changes(plugins=[], detached=True), ()) == ([], ())
    assert child_plugins(SOURCE, Changes(plugins=[guard]), ()) == ([GIVEN], (guard,))
    listed, objects = child_plugins(SOURCE, Changes(plugin_processes=["node x.js"]), (Guard(),))
    assert [each["process"] for each in listed] == [["node", "x.js"]] and objects == ()
    with pytest.raises(ConfigError, match="detached"):
        child_plugins(SOURCE, Changes(plugins=[guard], detached=True), ())
