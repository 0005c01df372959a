"""`sandlot plugins`, `sandlot plugins check` and `sandlot audit verify`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from click.testing import CliRunner

from sandlot import AuditLog, StopContext
from sandlot.cli.main import cli
from sandlot.plugin.discovery import BUILTIN

MONITOR = Path(__file__).parents[3] / "examples" / "plugins" / "monitor.py"


def ran(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    return done.exit_code, done.stdout


def test_the_list_has_name_version_hooks_and_cost() -> None:
    code, text = ran("plugins")
    assert code == 0 and text.splitlines()[0].split() == [
        "NAME",
        "VERSION",
        "PACKAGE",
        "LOAD",
        "HOOKS",
    ]
    assert any(line.startswith("audit-log ") and "on_exec" in line for line in text.splitlines())
    code, text = ran("plugins", "--json")
    found = {each["name"]: each for each in json.loads(text)}
    assert set(BUILTIN) <= set(found)
    assert found["budget"]["hooks"] and found["budget"]["cost"] > 0 and found["budget"]["version"]


def test_check_exercises_a_program() -> None:
    code, text = ran("plugins", "check", "--timeout", "60", sys.executable, str(MONITOR))
    assert "ok      on_exec" in text and "changes env" in text and "many at once" in text
    code, text = ran("plugins", "check", "--json", f"{sys.executable} -c 'print(1)'")
    (step,) = json.loads(text)
    assert code == 1 and not step["ok"] and "not an object" in step["note"]


def test_verify_says_whether_all_is_whole(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a", key=b"the key")
    for reason in ("first", "second"):
        log.on_stop(StopContext(sandbox="box", reason=reason))
    (tmp_path / "key").write_bytes(b"the key")
    words = ("audit", "verify", "--key-file", str(tmp_path / "key"))
    code, text = ran(*words, str(tmp_path / "a"))
    assert code == 0 and text.startswith("2 lines are whole, from number 1")
    head = text.split()[-1]
    assert ran(*words, "--head", head, str(tmp_path / "a"))[0] == 0
    assert ran(*words, "--head", "0" * 64, str(tmp_path / "a"))[0] == 1
    code, text = ran("audit", "verify", str(tmp_path / "a"))
    assert code == 1 and ":1 was changed" in text
    (tmp_path / "a").write_text((tmp_path / "a").read_text().replace("second", "other"))
    code, text = ran(*words, "--json", str(tmp_path / "a"))
    assert code == 1 and json.loads(text)["lines"] == 1
