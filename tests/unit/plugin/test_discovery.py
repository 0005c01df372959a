"""Plugins that are found by their names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandlot import AuditLog, ConfigError
from sandlot.plugin import discovery
from sandlot.plugin.discovery import BUILTIN, discovered, named

PACKAGE = '''
class Theirs:
    """A plugin of another package."""

    def on_exec(self, ctx): ...
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with a plugin, one that is broken, and one that takes a name of ours."""
    (tmp_path / "theirs_module.py").write_text(PACKAGE)
    info = tmp_path / "theirs-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "[sandlot.plugins]\ntheirs = theirs_module:Theirs\nbroken = theirs_module:Nothing\n"
        "audit-log = theirs_module:Theirs\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    discovery._entry_points.cache_clear()
    yield
    discovery._entry_points.cache_clear()
    sys.modules.pop("theirs_module", None)


def test_those_of_packages_are_found(package: None) -> None:
    found = {each.name: each for each in discovered()}
    assert set(found) == {*BUILTIN, "theirs", "broken"}
    theirs = found["theirs"]
    assert (theirs.package, theirs.version, theirs.hooks) == ("theirs", "1.5", ("on_exec",))
    assert theirs.summary == "A plugin of another package." and theirs.cost > 0
    assert "AttributeError" in found["broken"].error
    assert type(named("theirs")).__name__ == "Theirs"
    assert isinstance(named("audit-log", "x.jsonl"), AuditLog)  # nobody takes a name of ours
    with pytest.raises(ConfigError, match="takes no argument"):
        named("theirs", "argument")
    with pytest.raises(ConfigError, match="cannot be made"):
        named("broken")


def test_ours_say_what_they_are() -> None:
    for each in discovered():
        assert each.hooks and each.summary.endswith(".") and not each.error, each


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        named("audit_log")
    assert caught.value.hint == "did you mean audit-log?"
